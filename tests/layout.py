"""A tiny copy of the official layout of a corpus: names of clips, tables as text, rows that must come of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

RATE = 16000


@dataclass(frozen=True)
class Layout:
    """`clips` and `tables` (path -> text) below the corpus' folder; `rows`: fields of the rows expected, in
    order, `o.y` for `original["y"]`; `bad`: a clip or table that is refused, and the words of the error."""

    clips: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    tables: dict[str, str] = field(default_factory=dict)
    bad: tuple[str, str, str] | None = None  # path, text (clips: ""), what the error says

    def write(self, folder: Path) -> Path:
        """Write it, every clip another tone of 0.3 s, and return the folder."""
        for i, name in enumerate(self.clips):
            write_clip(folder / name, 200.0 * 1.3**i)
        for name, text in self.tables.items():
            write_table(folder / name, text)
        return folder


def write_clip(path: Path, hz: float = 440.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.3 * np.sin(2 * np.pi * hz * np.arange(int(0.3 * RATE)) / RATE)
    suffix = path.suffix[1:].upper()
    with path.open("wb") as file:  # soundfile picks the format by suffix; mp4 and webm hold WAV here, unread
        sf.write(file, wave, RATE, format=suffix if suffix in ("WAV", "FLAC", "MP3") else "WAV")


def write_table(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def cut(text: str) -> str:
    """A table without the indentation of this file."""
    return "\n".join(line.strip(" ") for line in text.strip().splitlines()) + "\n"
