"""MSP-Podcast: by request from the MSP lab of UT Dallas (INFO.source_url). Counts differ by release.

Layout: `Labels/labels_consensus.csv` (older releases: labels_concensus.csv) and `Audios/*.wav`. The official splits are
Train, Development and Test1 to Test3. Contempt, other and no agreement have no key and stay in `original`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.corpora import emotion
from clara.data.manifest import Corpus, Row, read_table

INFO = Corpus(
    "msp_podcast",
    "by request, research only",
    "https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Podcast.html",
    "emotion",
    ("en",),
    "Lotfian and Busso 2019, doi:10.1109/TAFFC.2017.2736999",
)
EMOTIONS = {
    "A": "anger",
    "C": "contempt",
    "D": "disgust",
    "F": "fear",
    "H": "happiness",
    "N": "neutral",
    "O": "other",
    "S": "sadness",
    "U": "surprise",
    "X": "unknown",
}
SPLITS = {"Train": "train", "Development": "valid", "Validation": "valid"}
COLUMNS = ("FileName", "EmoClass", "SpkrID", "Gender", "Split_Set")


def rows(folder: Path) -> Iterator[Row]:
    """Rows in the order of the table."""
    table = folder / "Labels" / "labels_consensus.csv"
    table = table if table.is_file() else folder / "Labels" / "labels_concensus.csv"
    for r in read_table(table, COLUMNS):
        yield Row(
            str(folder / "Audios" / r["FileName"]),
            INFO.name,
            SPLITS.get(r["Split_Set"], r["Split_Set"].lower()),
            language="en",
            task="emotion",
            speaker=None if r["SpkrID"] == "Unknown" else r["SpkrID"],
            gender=r["Gender"].lower() if r["Gender"] in ("Male", "Female") else None,
            **emotion(r["EmoClass"], EMOTIONS, r["FileName"]),
        )
