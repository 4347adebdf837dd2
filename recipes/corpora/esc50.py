"""ESC-50: github.com/karolpiczak/ESC-50.

Layout: `meta/esc50.csv` and `audio/*.wav`. Five official folds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.manifest import Corpus, Row, read_table

INFO = Corpus(
    "esc50",
    "CC BY-NC 3.0",
    "https://github.com/karolpiczak/ESC-50",
    "sound",
    (),
    "Piczak 2015, doi:10.1145/2733373.2806390",
    {"all": 2000},
    sources=("freesound",),
)
SPLITS = {"4": "valid", "5": "test"}


def rows(folder: Path) -> Iterator[Row]:
    """Rows in the order of the table; folds 1–3 train, 4 valid, 5 test. `speaker` is the fold, for cross-validation."""
    for r in read_table(folder / "meta" / "esc50.csv", ("filename", "fold", "category", "src_file", "esc10")):
        yield Row(
            str(folder / "audio" / r["filename"]),
            INFO.name,
            SPLITS.get(r["fold"], "train"),
            label=r["category"].replace("_", " "),
            task="sound",
            speaker=f"fold{r['fold']}",
            original={"src_file": r["src_file"], "esc10": r["esc10"] == "True"},
        )
