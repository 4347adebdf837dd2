"""Tiny copies of the official layouts of all corpora."""

from __future__ import annotations

from layout import Layout, write_clip, write_table
from layouts_emotion import EMOTION
from layouts_sounds import SOUNDS
from layouts_words import WORDS

__all__ = ["LAYOUTS", "Layout", "write_clip", "write_table"]
LAYOUTS: dict[str, Layout] = {**EMOTION, **SOUNDS, **WORDS}
