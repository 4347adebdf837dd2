"""ShEMO, Persian radio plays: github.com/pariajm/sharif-emotional-speech-dataset, female.zip and male.zip.

Layout: `female/F01A01.wav`: gender, speaker, emotion, number. No split.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.corpora import Names, named_rows
from clara.data.manifest import Corpus, Row

INFO = Corpus(
    "shemo",
    "free for academic use",
    "https://github.com/pariajm/sharif-emotional-speech-dataset",
    "emotion",
    ("fa",),
    "Mohamad Nezami et al. 2019, doi:10.1007/s10579-018-9427-x",
    {"all": 3000},
)
FILES = Names(
    "*male/*.wav",
    r"(?P<speaker>(?P<gender>[MF])\d\d)(?P<emotion>[A-Z])\d+",
    "F01A01.wav: gender, speaker, emotion, number",
    {
        "gender": {"M": "male", "F": "female"},
        "emotion": {
            "A": "anger",
            "F": "fear",
            "H": "happiness",
            "N": "neutral",
            "S": "sadness",
            "W": "surprise",
        },
    },
)


def rows(folder: Path) -> Iterator[Row]:
    """Rows of both folders."""
    return named_rows(folder, INFO, FILES)
