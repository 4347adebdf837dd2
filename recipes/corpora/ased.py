"""ASED, Amharic: github.com/Ethio2021/ASED_V1.

Layout: `01Neutral/n1-01-01-01-01.wav`: emotion, sentence, repetition, gender, speaker. No split. Clips of one emotion
are longer than those of another: cut them to one length before comparing models.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.corpora import Names, named_rows
from clara.data.manifest import Corpus, Row

INFO = Corpus(
    "ased",
    "none stated",
    "https://github.com/Ethio2021/ASED_V1",
    "emotion",
    ("am",),
    "Retta et al. 2022, arXiv:2201.02710",
    {"all": 2474},
)
FILES = Names(
    "**/*-*-*-*-*.wav",
    r"(?P<emotion>[A-Z])\d*-(?P<sentence>\d+)-(?P<repetition>\d+)-(?P<gender>\d+)-(?P<speaker>\d+)",
    "n3-01-02-01-29.wav: emotion, sentence, repetition, gender, speaker",
    {
        "emotion": {"a": "anger", "f": "fear", "h": "happiness", "n": "neutral", "s": "sadness"},
        "gender": {"01": "female", "02": "male"},
    },
)


def rows(folder: Path) -> Iterator[Row]:
    """Rows of all clips."""
    return named_rows(folder, INFO, FILES)
