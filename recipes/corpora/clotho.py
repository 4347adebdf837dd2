"""Clotho 2.1: zenodo.org/record/4783391.

Layout: `clotho_captions_SPLIT.csv` and `SPLIT/*.wav` of development, validation, evaluation; five captions a clip.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.manifest import Corpus, Row, read_table
from clara.errors import ClaraError

INFO = Corpus(
    "clotho",
    "captions Tampere University, non-commercial with attribution; each clip its own Creative Commons licence",
    "https://zenodo.org/record/4783391",
    "caption",
    ("en",),
    "Drossos et al. 2020, doi:10.1109/ICASSP40776.2020.9052990",
    {"train": 3839, "valid": 1045, "test": 1045},
    sources=("freesound",),
)
SPLITS = {"development": "train", "validation": "valid", "evaluation": "test"}
CAPTIONS = tuple(f"caption_{i}" for i in range(1, 6))


def rows(folder: Path) -> Iterator[Row]:
    """One row a clip, with its five captions, of every split whose table is there."""
    tables = {s: folder / f"clotho_captions_{s}.csv" for s in SPLITS}
    if not any(t.is_file() for t in tables.values()):
        raise ClaraError(f"{folder}: no clotho_captions_development.csv, …_validation.csv or …_evaluation.csv.")
    for name, table in tables.items():
        for r in read_table(table, ("file_name", *CAPTIONS)) if table.is_file() else ():
            yield Row(
                str(folder / name / r["file_name"]),
                INFO.name,
                SPLITS[name],
                text=tuple(r[c].strip() for c in CAPTIONS),
                task="caption",
            )
