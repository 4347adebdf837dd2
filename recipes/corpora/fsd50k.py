"""FSD50K: zenodo.org/record/4060432. 200 classes of the AudioSet ontology, several a clip.

Layout: `FSD50K.dev_audio`, `FSD50K.eval_audio`, `FSD50K.ground_truth/dev.csv` (with the split train or val) and
eval.csv. `original.labels` holds a clip's classes in words; `label` stays empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.manifest import Corpus, Row, read_table

INFO = Corpus(
    "fsd50k",
    "CC BY 4.0; each clip its own Creative Commons licence",
    "https://zenodo.org/record/4060432",
    "sound",
    (),
    "Fonseca et al. 2022, doi:10.1109/TASLP.2021.3133208",
    {"train": 36796, "valid": 4170, "test": 10231},
    sources=("freesound",),
)
SPLITS = {"train": "train", "val": "valid"}


def rows(folder: Path) -> Iterator[Row]:
    """Rows of the tables that are there: dev.csv, then eval.csv."""
    for name in ("dev", "eval"):
        table = folder / "FSD50K.ground_truth" / f"{name}.csv"
        if not table.is_file() and (table.parent / "eval.csv").is_file():
            continue  # the evaluation part alone
        for r in read_table(table, ("fname", "labels")):
            yield Row(
                str(folder / f"FSD50K.{name}_audio" / f"{r['fname']}.wav"),
                INFO.name,
                SPLITS[r["split"]] if name == "dev" else "test",
                task="sound",
                original={"labels": [words(label) for label in r["labels"].split(",")]},
            )


def words(label: str) -> str:
    """`Accelerating_and_revving_and_vroom` -> `accelerating, revving, vroom`."""
    return label.lower().replace("_and_", ", ").replace("_", " ")
