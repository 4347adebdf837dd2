"""URDU-Dataset: github.com/siddiquelatif/URDU-Dataset, talk shows. For scoring only.

Layout: `Angry/SM1_F10_A010.wav`: speaker (SM man, SF woman), clip of the speaker, emotion and number. No split.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.corpora import Names, named_rows
from clara.data.manifest import Corpus, Row

INFO = Corpus(
    "urdu",
    "none stated",
    "https://github.com/siddiquelatif/URDU-Dataset",
    "emotion",
    ("ur",),
    "Latif et al. 2018, arXiv:1812.10411",
    {"all": 400},
)
FILES = Names(
    "*/*.wav",
    r"(?P<speaker>S(?P<gender>[MF])\d+)_F\d+_(?P<emotion>[A-Z])\d+",
    "SM1_F10_A010.wav: speaker, clip, emotion and number",
    {
        "gender": {"M": "male", "F": "female"},
        "emotion": {"A": "anger", "H": "happiness", "N": "neutral", "S": "sadness"},
    },
)


def rows(folder: Path) -> Iterator[Row]:
    """Rows of the four folders of emotions."""
    return named_rows(folder, INFO, FILES)
