"""SUBESCO, Bangla: zenodo.org/record/4526477.

Layout: `F_01_OISHI_S_10_ANGRY_5.wav`: gender, number and name of the speaker, sentence, emotion, take. No split.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.corpora import Names, named_rows
from clara.data.manifest import Corpus, Row

INFO = Corpus(
    "subesco",
    "CC BY 4.0",
    "https://zenodo.org/record/4526477",
    "emotion",
    ("bn",),
    "Sultana et al. 2021, doi:10.1371/journal.pone.0250173",
    {"all": 7000},
)
FILES = Names(
    "**/*_S_*.wav",
    r"(?P<speaker>(?P<gender>[MF])_\d+)_[A-Z]+_S_(?P<sentence>\d+)_(?P<emotion>[A-Z]+)_(?P<take>\d+)",
    "F_01_OISHI_S_10_ANGRY_5.wav: speaker, sentence, emotion, take",
    {
        "gender": {"M": "male", "F": "female"},
        "emotion": {
            "ANGRY": "anger",
            "DISGUST": "disgust",
            "FEAR": "fear",
            "HAPPY": "happiness",
            "NEUTRAL": "neutral",
            "SAD": "sadness",
            "SURPRISE": "surprise",
        },
    },
)


def rows(folder: Path) -> Iterator[Row]:
    """Rows of all clips."""
    return named_rows(folder, INFO, FILES)
