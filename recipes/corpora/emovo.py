"""EMOVO, Italian: voice.fub.it/activities/corpora/emovo.

Layout: `f1/dis-f1-b1.wav`: emotion, speaker, sentence (14 of them, some without meaning). No split.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.corpora import Names, named_rows
from clara.data.manifest import Corpus, Row

INFO = Corpus(
    "emovo",
    "none stated, free for research",
    "http://voice.fub.it/activities/corpora/emovo/index.html",
    "emotion",
    ("it",),
    "Costantini et al. 2014, aclanthology.org/L14-1478",
    {"all": 588},
)
FILES = Names(
    "**/*-*-*.wav",
    r"(?P<emotion>[a-z]{3})-(?P<person>[fm]\d)-(?P<sentence>[a-z]\d)",
    "dis-f1-b1.wav: emotion, speaker, sentence",
    {
        "person": {f"{g[0]}{i}": {"speaker": f"{g[0]}{i}", "gender": g} for g in ("female", "male") for i in (1, 2, 3)},
        "emotion": {
            "dis": "disgust",
            "gio": "happiness",
            "neu": "neutral",
            "pau": "fear",
            "rab": "anger",
            "sor": "surprise",
            "tri": "sadness",
        },
    },
)


def rows(folder: Path) -> Iterator[Row]:
    """Rows of all clips."""
    return named_rows(folder, INFO, FILES)
