"""Free Spoken Digit Dataset: github.com/Jakobovski/free-spoken-digit-dataset, v1.0.10.

Layout: `recordings/7_jackson_32.wav`: digit, speaker, number. Official split: numbers 0 to 4 are the test set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from clara.data.corpora import Names, named_rows
from clara.data.manifest import Corpus, Row

INFO = Corpus(
    "fsdd",
    "CC BY-SA 4.0",
    "https://github.com/Jakobovski/free-spoken-digit-dataset",
    "word",
    ("en",),
    "Jackson et al. 2018, doi:10.5281/zenodo.1342401",
    {"train": 2700, "test": 300},
)
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FILES = Names(
    "recordings/*.wav",
    r"(?P<digit>\d)_(?P<speaker>[a-z]+)_(?P<number>\d+)",
    "7_jackson_32.wav: digit, speaker, number",
    {"digit": {str(i): {"label": word, "transcript": word} for i, word in enumerate(DIGITS)}},
)


def rows(folder: Path) -> Iterator[Row]:
    """Rows of `recordings`."""
    for row in named_rows(folder, INFO, FILES):
        yield row if int(row.original["number"]) < 5 else replace(row, split="train")
