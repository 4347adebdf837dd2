"""FLEURS, 102 languages: huggingface.co/datasets/google/fleurs. Read sentences of FLoRes.

Layout: `data/de_de/train.tsv`, dev.tsv, test.tsv without a header (id, file, raw and plain transcription, characters,
samples, gender) and `data/de_de/audio/train/*.wav`, as `audio/train.tar.gz` unpacks.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.manifest import Corpus, Row, find_files, read_table

INFO = Corpus(
    "fleurs",
    "CC BY 4.0",
    "https://huggingface.co/datasets/google/fleurs",
    "language",
    (),
    "Conneau et al. 2022, arXiv:2205.12446",
    partial=True,  # the tables hold sentences whose recordings were withdrawn
)
COLUMNS = ("id", "file", "raw", "plain", "characters", "samples", "gender")
SPLITS = {"train": "train", "dev": "valid", "test": "test"}
CODES = {"cmn": "zh", "yue": "zh", "fil": "tl", "ckb": "ku"}  # ISO 639-1 where the folder's name is no such code


def rows(folder: Path) -> Iterator[Row]:
    """Rows of every language and split there is; `original.sentence` joins the same sentence in all languages."""
    for table in (t for t in find_files(folder, "**/*.tsv") if t.stem in SPLITS):
        code = table.parent.name.partition("_")[0]
        for r in read_table(table, COLUMNS, delimiter="\t", quoted=False, header=False):
            yield Row(
                str(table.parent / "audio" / table.stem / r["file"]),
                INFO.name,
                SPLITS[table.stem],
                seconds=int(r["samples"]) / 16000,
                language=CODES.get(code, code),
                task="language",
                gender=r["gender"].lower() if r["gender"] in ("MALE", "FEMALE") else None,
                transcript=r["raw"],
                original={"sentence": r["id"], "locale": table.parent.name},
            )
