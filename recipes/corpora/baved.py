"""BAVED, Arabic words at three levels of arousal: github.com/40uf411/Basic-Arabic-Vocal-Emotions-Dataset.

Layout: `remake/0/1-M-21-0-0-123.wav` or `0/…`: speaker, gender, age, word, level, recording. No split.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.corpora import Names, named_rows
from clara.data.manifest import Corpus, Row

INFO = Corpus(
    "baved",
    "none stated, free for research",
    "https://github.com/40uf411/Basic-Arabic-Vocal-Emotions-Dataset",
    "arousal",
    ("ar",),
    "Aouf 2019",
    {"all": 1935},
)
WORDS = ("اعجبني", "لم يعجبني", "هذا", "الفيلم", "رائع", "مقول", "سيئ")
FILES = Names(
    "**/?/*.wav",
    r"(?P<speaker>\d+)-(?P<gender>[MF])-(?P<age>\d+)-(?P<transcript>\d)-(?P<label>\d)-\d+",
    "1-M-21-0-0-123.wav: speaker, gender, age, word, level, recording",
    {
        "gender": {"M": "male", "F": "female"},
        "label": {"0": "low", "1": "neutral", "2": "high"},
        "transcript": {str(i): word for i, word in enumerate(WORDS)},
    },
)


def rows(folder: Path) -> Iterator[Row]:
    """Rows of all clips; `label` is the level."""
    return named_rows(folder, INFO, FILES)
