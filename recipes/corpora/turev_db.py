"""TurEV-DB, Turkish words: github.com/Xeonen/TurEV-DB. For scoring only.

Layout: `Sound Source/Angry/1157_kz_beste.wav`: emotion by folder; speaker, emotion's short name, word. No split.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.corpora import Names, named_rows
from clara.data.manifest import Corpus, Row

INFO = Corpus(
    "turev_db",
    "none stated",
    "https://github.com/Xeonen/TurEV-DB",
    "emotion",
    ("tr",),
    "Canpolat et al. 2020, aclanthology.org/2020.sltu-1.52",
    {"all": 1735},
)
FILES = Names(
    "Sound Source/*/*.wav",
    r"(?P<emotion>[A-Z][a-z]+)/(?P<speaker>\d+)_[a-z]+_(?P<transcript>\w+)",
    "Angry/1157_kz_beste.wav: emotion, speaker, word",
    {"emotion": {"Angry": "anger", "Calm": "calm", "Happy": "happiness", "Sad": "sadness"}},
)


def rows(folder: Path) -> Iterator[Row]:
    """Rows of the folder of sounds; the repository's pictures are left alone."""
    return named_rows(folder, INFO, FILES)
