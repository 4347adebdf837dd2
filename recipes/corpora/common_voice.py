"""Common Voice: commonvoice.mozilla.org/datasets, any release. Read sentences; counts differ by release.

Layout: one folder a language with `train.tsv`, `dev.tsv`, `test.tsv` (the official split) and `clips/*.mp3`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.manifest import Corpus, Row, find_files, read_table

INFO = Corpus(
    "common_voice",
    "CC0 1.0",
    "https://commonvoice.mozilla.org/datasets",
    "language",
    (),
    "Ardila et al. 2020, arXiv:1912.06670",
)
SPLITS = {"train": "train", "dev": "valid", "test": "test"}


def rows(folder: Path) -> Iterator[Row]:
    """Rows of every language and official split there is."""
    for table in (t for t in find_files(folder, "**/*.tsv") if t.stem in SPLITS):
        for r in read_table(table, ("client_id", "path", "sentence"), delimiter="\t", quoted=False):
            yield Row(
                str(table.parent / "clips" / r["path"]),
                INFO.name,
                SPLITS[table.stem],
                language=(r.get("locale") or table.parent.name).partition("-")[0],
                task="language",
                speaker=r["client_id"][:16],
                gender={"male": "male", "female": "female"}.get((r.get("gender") or "").partition("_")[0]),
                age=r.get("age") or None,
                transcript=r["sentence"],
            )
