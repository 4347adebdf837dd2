"""nEMO, Polish: github.com/amu-cai/nEMO or huggingface.co/datasets/amu-cai/nEMO.

Layout: `data.tsv` and `samples/*.wav`. No split; two speakers are kept apart as `valid`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.manifest import Corpus, Row, read_table
from clara.errors import unknown

INFO = Corpus(
    "nemo",
    "CC BY-NC-SA 4.0",
    "https://huggingface.co/datasets/amu-cai/nEMO",
    "emotion",
    ("pl",),
    "Christop 2024, arXiv:2404.06292",
    {"all": 4481},
)
COLUMNS = ("file_id", "emotion", "raw_text", "speaker_id", "gender", "age")
EMOTIONS = {e: e for e in ("anger", "fear", "happiness", "neutral", "sadness")} | {"surprised": "surprise"}
VALID_SPEAKERS = {"WR0", "KS0"}


def rows(folder: Path) -> Iterator[Row]:
    """Rows in the order of `data.tsv`."""
    for r in read_table(folder / "data.tsv", COLUMNS, delimiter="\t"):
        if r["emotion"] not in EMOTIONS:
            raise unknown(f"nEMO emotion of {r['file_id']}", r["emotion"], EMOTIONS)
        speaker = r["speaker_id"].strip()  # the published table pads it with blanks
        yield Row(
            str(folder / "samples" / r["file_id"]),
            INFO.name,
            "valid" if speaker in VALID_SPEAKERS else "train",
            language="pl",
            emotion=EMOTIONS[r["emotion"]],
            task="emotion",
            speaker=speaker,
            gender=r["gender"],
            age=r["age"],
            transcript=r["raw_text"],
        )
