"""Multilingual Spoken Words Corpus, 50 languages: mlcommons.org/datasets/multilingual-spoken-words.

Layout: one folder a language with `en_splits.csv` (SET, LINK, WORD, VALID, SPEAKER, GENDER) and `clips/WORD/NAME.opus`,
as the audio archives and the archive of splits unpack beside each other. Splits as published: TRAIN, DEV, TEST.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.manifest import Corpus, Row, find_files, read_table

INFO = Corpus(
    "mswc",
    "CC BY 4.0",
    "https://mlcommons.org/datasets/multilingual-spoken-words",
    "word",
    (),
    "Mazumder et al. 2021, NeurIPS Datasets and Benchmarks",
    partial=True,  # the tables list every language; few unpack them all
    sources=("common_voice",),
)
SPLITS = {"TRAIN": "train", "DEV": "valid", "TEST": "test"}
GENDERS = {"MALE": "male", "FEMALE": "female"}


def rows(folder: Path) -> Iterator[Row]:
    """Rows of every language there is; clips that Common Voice's validation left out are left out."""
    for table in find_files(folder, "**/*_splits.csv"):
        language = table.name.removesuffix("_splits.csv")
        for r in read_table(table, ("SET", "LINK", "WORD", "VALID", "SPEAKER", "GENDER")):
            if r["VALID"] == "False":
                continue
            yield Row(
                str(table.parent / "clips" / r["LINK"]),
                INFO.name,
                SPLITS[r["SET"]],
                language=language.partition("-")[0],
                label=r["WORD"],
                task="word",
                speaker=r["SPEAKER"],
                gender=GENDERS.get(r["GENDER"]),
                transcript=r["WORD"],
            )
