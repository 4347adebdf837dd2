"""TESS: doi.org/10.5683/SP2/E8H2MF. For scoring only.

Layout: `.../OAF_back_angry.wav`: the speaker's age group, word, emotion; folders as one likes. No split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from clara.data.corpora import Names, named_rows
from clara.data.manifest import Corpus, Row

INFO = Corpus(
    "tess",
    "CC BY-NC-ND 4.0",
    "https://doi.org/10.5683/SP2/E8H2MF",
    "emotion",
    ("en",),
    "Pichora-Fuller and Dupuis 2020",
    {"all": 2800},
)
OLDER, YOUNGER = {"speaker": "OAF", "age": "64"}, {"speaker": "YAF", "age": "26"}
FILES = Names(
    "**/*.wav",
    r"(?P<who>[A-Z]+)_(?P<transcript>\w+)_(?P<emotion>[a-z]+)",
    "OAF_back_angry.wav: SPEAKER_word_emotion",
    {
        "who": {"OAF": OLDER, "OA": OLDER, "YAF": YOUNGER},  # OA_bite_neutral.wav is spelt so upstream
        "emotion": {
            "angry": "anger",
            "disgust": "disgust",
            "fear": "fear",
            "happy": "happiness",
            "neutral": "neutral",
            "ps": "surprise",
            "sad": "sadness",
        },
    },
)


def rows(folder: Path) -> Iterator[Row]:
    """Rows of all clips below `folder`."""
    for row in named_rows(folder, INFO, FILES, gender="female"):
        yield replace(row, transcript=f"Say the word {row.transcript}")
