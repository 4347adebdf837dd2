"""CaFE, Canadian French: zenodo.org/record/1478765, CaFE_48k.zip (the 192 kHz version is AIFF).

Layout: `Colère/Faible/01-C-1-1.wav`: actor (odd: man), emotion, intensity, sentence. No split.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.corpora import Names, named_rows
from clara.data.manifest import Corpus, Row

INFO = Corpus(
    "cafe",
    "CC BY-NC-SA 4.0",
    "https://zenodo.org/record/1478765",
    "emotion",
    ("fr",),
    "Gournay et al. 2018, doi:10.1145/3204949.3208121",
    {"all": 936},
)
AGES = (46, 64, 18, 50, 22, 34, 15, 25, 42, 20, 35, 37)
FILES = Names(
    "**/*-*-*-*.[wa]*",
    r"(?P<actor>\d\d)-(?P<emotion>[A-Z])-(?P<intensity>\d)-(?P<sentence>\d)",
    "01-C-1-1.wav: actor, emotion, intensity, sentence",
    {
        "actor": {
            f"{i:02d}": {"speaker": f"{i:02d}", "gender": ("female", "male")[i % 2], "age": str(age)}
            for i, age in enumerate(AGES, 1)
        },
        "emotion": {
            "C": "anger",
            "D": "disgust",
            "J": "happiness",
            "N": "neutral",
            "P": "fear",
            "S": "surprise",
            "T": "sadness",
        },
        "intensity": {"1": "low", "2": "high"},
    },
)


def rows(folder: Path) -> Iterator[Row]:
    """Rows of all clips."""
    return named_rows(folder, INFO, FILES)
