"""The samples of webdataset shards: where each lies and what is known of it."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clara.audio.waveform import read
from clara.data.manifest import TEXTS
from clara.data.samples import NOTHING, SPLITS, scan_rows
from clara.data.tars import shards_of
from clara.errors import ClaraError
from clara.text.captions import CaptionConfig, Fact, facts_of, known

if TYPE_CHECKING:
    from clara.data.loader import DataConfig

BLACKLISTED = "blacklisted"  # of WavCaps: what test sets hold too


class BrokenClip(ClaraError):
    """A clip that cannot be read: `entry`, and its place in the batch."""

    place = -1

    def __init__(self, entry: Entry, why: object) -> None:
        super().__init__(f"{entry.tar}: sample {entry.key!r}: {why}")
        self.entry = entry


@dataclass(frozen=True)
class Entry:
    """Where one sample lies and what is known of it."""

    tar: str
    key: str
    offset: int
    size: int
    meta: dict[str, Any]
    facts: frozenset[Fact]


def scan(config: DataConfig) -> list[Entry]:
    """All samples of the shards that the config wants. ClaraError for no shards, a broken tar or no samples left."""
    paths = [str(path) for path in shards_of(config.shards)]
    stats = [(path, os.stat(path)) for path in paths]
    entries = [e for path, now in stats for e in _scanned(path, now.st_size, now.st_mtime_ns)]
    wanted = set(config.splits)
    kept = [
        e
        for e in entries
        if (not config.splits or {str(e.meta.get("split")), f"{e.meta.get('corpus')}:{e.meta.get('split')}"} & wanted)
        and e.meta.get("corpus") not in config.exclude_corpora
        and (e.facts or own_texts(e.meta, config.captions))
    ]
    if not kept:
        seen = sorted({str(e.meta.get("split")) for e in entries})
        raise ClaraError(f"No captioned sample of splits {sorted(wanted)} in {len(paths)} shards (splits: {seen}).")
    _say_left_out(entries, config)
    return kept


def _say_left_out(entries: Sequence[Entry], config: DataConfig) -> None:
    """One warning of what is not trained on although nobody asked to leave it out."""
    mute = [e for e in entries if not (e.facts or own_texts(e.meta, config.captions))]
    strange = Counter(str(e.meta.get("split")) for e in entries if e.meta.get("split") not in (*SPLITS, BLACKLISTED))
    strange = Counter({name: n for name, n in strange.items() if not any(w.endswith(name) for w in config.splits)})
    whys = []
    if mute:
        whys.append(f"{len(mute)} without a text or a known label (first: {mute[0].tar} {mute[0].key!r}; {NOTHING})")
    if strange and config.splits:
        whys.append("by splits: " + ", ".join(f"{n} of {name!r}" for name, n in sorted(strange.items())))
    if whys:
        warnings.warn(f"Of {len(entries)} samples some are left out: {'; '.join(whys)}.", stacklevel=3)


def own_texts(meta: Mapping[str, Any], captions: CaptionConfig) -> Sequence[str]:
    """What is said of a clip without labels when no caption is drawn: its published texts, else its augmented ones,
    else its visual ones, unless the config wants none of those."""
    shares = {"text": 1.0, "text_augmented": captions.augmented, "visual_captions": captions.visual}
    return next((meta[name] for name in TEXTS if meta.get(name) and shares[name] > 0), ())


@lru_cache(maxsize=4096)
def _scanned(path: str, size: int, changed_ns: int) -> tuple[Entry, ...]:
    """`scan_tar`, once per process for a file that stays as it is: a run and its evaluation scan several times."""
    return tuple(scan_tar(path))


def scan_tar(path: str) -> Iterator[Entry]:
    """The samples of one tar, whoever wrote it, as `clara.data.tars` groups them; what else they hold is left.

    Raises:
        ClaraError: no uncompressed tar (members are read where they lie), one that is truncated or damaged, invalid
            JSON, a sample without audio or JSON.
    """
    for key, audio, row in scan_rows(path):
        meta = {f.name: getattr(row, f.name) for f in dataclasses.fields(row)}
        facts = frozenset(f for f in facts_of(meta) if known(f) or f[0] == "intensity")
        yield Entry(path, key, audio.offset_data, audio.size, meta, facts)


def read_entry(entry: Entry, sample_rate: int) -> np.ndarray:
    """The samples of one entry: float32 (T,)."""
    with Path(entry.tar).open("rb") as file:
        file.seek(entry.offset)
        data = file.read(entry.size)
    try:
        return read(data, sample_rate)
    except ClaraError as e:
        raise BrokenClip(entry, e) from e
