"""ESD: github.com/HLTSingapore/Emotional-Speech-Data; speakers 0001 to 0010 speak Mandarin, 0011 to 0020 English.

Layout: `0011/Angry/train/0011_000351.wav` with the folders train, evaluation and test, or without them; then the
official split follows from the number: of an emotion's 350 sentences 20 are for evaluation, 30 for test, the rest for
training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from clara.data.corpora import Names, named_rows
from clara.data.manifest import Corpus, Row

INFO = Corpus(
    "esd",
    "research only, by signed form",
    "https://github.com/HLTSingapore/Emotional-Speech-Data",
    "emotion",
    ("en", "zh"),
    "Zhou et al. 2021, arXiv:2010.14794",
    {"train": 30000, "valid": 2000, "test": 3000},
)
MEN = {4, 5, 6, 8, 10, 11, 12, 13, 14, 20}
FILES = Names(
    "**/*_*.wav",
    r"(?P<emotion>[A-Z][a-z]+)/(?:(?P<split>train|evaluation|test)/)?(?P<person>\d{4})_(?P<number>\d{6})",
    "0011/Angry/train/0011_000351.wav",
    {
        "person": {
            f"{i:04d}": {
                "speaker": f"{i:04d}",
                "gender": "male" if i in MEN else "female",
                "language": "zh" if i <= 10 else "en",
            }
            for i in range(1, 21)
        },
        "emotion": {
            "Angry": "anger",
            "Happy": "happiness",
            "Neutral": "neutral",
            "Sad": "sadness",
            "Surprise": "surprise",
        },
        "split": {"train": "train", "evaluation": "valid", "test": "test"},
    },
)


def rows(folder: Path) -> Iterator[Row]:
    """Rows of all clips."""
    for row in named_rows(folder, INFO, FILES, split=""):
        at = (int(row.original["number"]) - 1) % 350
        yield row if row.split else replace(row, split="valid" if at < 20 else "test" if at < 50 else "train")
