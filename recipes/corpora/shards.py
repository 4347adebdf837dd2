"""Any folder of webdataset shards: ours, LAION's or the first CLARA's. Rows keep their own corpus' name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.corpora import shard_rows
from clara.data.manifest import Corpus, Row

INFO = Corpus("shards", "as each clip states", "your own shards", "caption", sources=None)


def rows(folder: Path) -> Iterator[Row]:
    """Rows of every tar below `folder`."""
    return shard_rows(folder)
