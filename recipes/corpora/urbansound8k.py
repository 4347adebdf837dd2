"""UrbanSound8K: zenodo.org/record/1203745, by form on urbansounddataset.weebly.com. For scoring only.

Layout: `metadata/UrbanSound8K.csv` and `audio/foldN/*.wav`. Ten official folds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.manifest import Corpus, Row, read_table

INFO = Corpus(
    "urbansound8k",
    "CC BY-NC 3.0",
    "https://urbansounddataset.weebly.com/urbansound8k.html",
    "sound",
    (),
    "Salamon et al. 2014, doi:10.1145/2647868.2655045",
    {"all": 8732},
    sources=("freesound",),
)
KEYS = {"dog_bark": "dog", "engine_idling": "engine"}  # the others are keys of ours but for the underscore


def rows(folder: Path) -> Iterator[Row]:
    """Rows in the order of the table. `speaker` is the fold, for cross-validation."""
    for r in read_table(
        folder / "metadata" / "UrbanSound8K.csv", ("slice_file_name", "fsID", "salience", "fold", "class")
    ):
        yield Row(
            str(folder / "audio" / f"fold{r['fold']}" / r["slice_file_name"]),
            INFO.name,
            "test",
            label=KEYS.get(r["class"], r["class"].replace("_", " ")),
            task="sound",
            speaker=f"fold{r['fold']}",
            original={"freesound": r["fsID"], "foreground": r["salience"] == "1"},
        )
