"""What the checkpoint of a run states of the data that it and its start were trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clara.data.entries import Entry, scan
from clara.zoo.lineage import CARD, front_matter, heard_corpora, inherited

if TYPE_CHECKING:
    from clara.train.recipe import TrainConfig


def lineage(config: TrainConfig, exported: Path, entries: Sequence[Entry] | None) -> Mapping[str, Any]:
    """The front matter of the card: what `init` and a teacher were trained on, licences, the corpora of `entries`.
    Without these the run is finished and its shards may be gone: what the card in `exported` says stays."""
    kept = front_matter(exported / CARD)
    if entries is None and kept:
        return kept
    entries = scan(config.data) if entries is None else entries
    starts = [name for name in (config.init, config.distil and config.distil.teacher) if name]
    return inherited(starts, heard_corpora(e.meta for e in entries))
