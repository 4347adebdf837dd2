"""EmoV-DB: openslr.org/115, or the sorted version of github.com/numediart/EmoV-DB.

Layout: `bea/Angry/anger_1-28_0011.wav` (sorted) or `bea_Angry/…` (OpenSLR): style, range, sentence. Speakers bea and
jenie are women, josh and sam men. No split; amusement and sleepiness have no key and stay in `original`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.corpora import Names, named_rows
from clara.data.manifest import Corpus, Row

INFO = Corpus(
    "emov_db",
    "non-commercial, attribution (its own licence)",
    "https://www.openslr.org/115",
    "emotion",
    ("en",),
    "Adigwe et al. 2018, arXiv:1806.09514",
    {"all": 7000},
)
PEOPLE = {"bea": "female", "jenie": "female", "josh": "male", "sam": "male"}
FILES = Names(
    "**/*_*_*.wav",
    r"(?P<person>[a-z]+)[/_][A-Z][a-z]+/(?P<emotion>[a-z]+)_[\d-]+_(?P<sentence>\d+)",
    "bea/Angry/anger_1-28_0011.wav: speaker, style, range, sentence",
    {
        "person": {name: {"speaker": name, "gender": gender} for name, gender in PEOPLE.items()},
        "emotion": {
            "amused": "amusement",
            "anger": "anger",
            "angry": "anger",
            "disgust": "disgust",
            "disgusted": "disgust",
            "neutral": "neutral",
            "sleepiness": "sleepiness",
            "sleepy": "sleepiness",
        },
    },
)


def rows(folder: Path) -> Iterator[Row]:
    """Rows of all clips."""
    return named_rows(folder, INFO, FILES)
