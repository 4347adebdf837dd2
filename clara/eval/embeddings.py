"""Embeddings of many clips: decoded ahead in threads, kept on disk by content, shared by several processes.

Memory is bounded by the clips under way and the vectors themselves. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from clara.audio import waveform
from clara.data.manifest import split_audio
from clara.data.shards import read_member
from clara.errors import ClaraError
from clara.train.distributed import World
from clara.zoo.embedder import check_finite

Item, Result = TypeVar("Item"), TypeVar("Result")
CHUNK = 64  # clips decoded and embedded between two looks at the cache
AHEAD = 2  # clips a thread decodes before they are needed
LONG_SECONDS = 60.0  # longer clips are not decoded ahead: the embedder reads them window by window
HASH_BYTES = 1 << 24  # read at a time
ALONE = World(0, 1, torch.device("cpu"))


@dataclass(frozen=True)
class Supply:
    """How clips become embeddings. `workers`: threads that decode (0: the embedder reads the files itself). `cache`:
    folder of embeddings by content. `world`: processes that share the work; of several, all need the same `cache`."""

    batch_size: int = 16
    workers: int = 0
    cache: Path | None = None
    world: World = ALONE


SERIAL = Supply()


@dataclass
class Spent:
    """Clips embedded, clips found in the cache, and seconds that both took."""

    embedded: int = 0
    cached: int = 0
    seconds: float = field(default=0.0)


class EmbeddingCache:
    """One SQLite file a checkpoint: sha256 of a clip's bytes -> vector, and which file had which bytes.

    Safe for several processes at once. A file that has been changed (size or time) is hashed again.

    Args:
        folder: where the file lies; made when missing.
        of: what the vectors depend on besides the clip: the checkpoint's sha256, the way with long audio, precision.

    Raises:
        ClaraError: the file is none of ours, broken, locked for minutes or has no room (SQLite's words).
    """

    def __init__(self, folder: Path, of: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{hashlib.sha256(of.encode()).hexdigest()[:16]}.sqlite"
        with self._open() as db, db:
            db.execute("CREATE TABLE IF NOT EXISTS vectors (key TEXT PRIMARY KEY, vector BLOB)")
            db.execute("CREATE TABLE IF NOT EXISTS files (name TEXT, state TEXT, key TEXT, PRIMARY KEY (name, state))")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=300)) as db:
                yield db
        except sqlite3.Error as e:
            raise ClaraError(
                f"The embeddings kept in {self.path} cannot be used ({e}): delete that file, or set another cache."
            ) from e

    def known(self, names: Sequence[str]) -> dict[str, Tensor]:
        """name -> vector (D,) of those of `names` whose file is unchanged since it was embedded."""
        found, query = {}, "SELECT vector FROM files JOIN vectors USING (key) WHERE name = ? AND state = ?"
        with self._open() as db:
            for name in names:
                vector = _vector(db.execute(query, (_named(name), _state(name))).fetchone())
                if vector is not None:
                    found[name] = vector
        return found

    def by_content(self, keys: Sequence[str]) -> list[Tensor | None]:
        """The vectors of clips with these bytes, None where there is none."""
        with self._open() as db:
            rows = [db.execute("SELECT vector FROM vectors WHERE key = ?", (key,)).fetchone() for key in keys]
        return [_vector(row) for row in rows]

    def add(self, names: Sequence[str], keys: Sequence[str], vectors: Sequence[Tensor]) -> None:
        """Keep the vectors of clips, all or none of them."""
        blobs = [(k, v.to(torch.float32).numpy().tobytes()) for k, v in zip(keys, vectors, strict=True)]
        with self._open() as db, db:
            db.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", blobs)
            rows = [(_named(n), _state(n), k) for n, k in zip(names, keys, strict=True)]
            db.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", rows)


def _vector(row: tuple[bytes] | None) -> Tensor | None:
    """The vector of a row, None where there is none or where it is not finite: that clip is embedded again, which says
    what is wrong with it."""
    if row is None or len(row[0]) % 4:
        return None
    vector = torch.from_numpy(np.frombuffer(row[0], np.float32).copy())
    return vector if vector.isfinite().all() else None


def _named(name: str) -> str:
    """SQLite takes UTF-8 alone; a file's name may hold what that lacks."""
    return name.encode(errors="backslashreplace").decode()


def _state(name: str) -> str:
    try:
        found = os.stat(split_audio(name)[0])
    except OSError:
        return "missing"  # the reader says so, with the file's name
    return f"{found.st_size}:{found.st_mtime_ns}"


def source(audio: str) -> str | bytes:
    """What the embedder reads for `Row.audio`: the path, or the bytes of a tar's member."""
    path, member = split_audio(audio)
    return path if member is None else read_member(path, member)


def content_key(clip: str | bytes) -> str:
    """sha256 of a clip's encoded bytes, given them or their path."""
    if isinstance(clip, bytes):
        return hashlib.sha256(clip).hexdigest()
    digest = hashlib.sha256()
    with open(clip, "rb") as file:
        while block := file.read(HASH_BYTES):
            digest.update(block)
    return digest.hexdigest()


def embed_clips(
    embed: Callable[..., Tensor], names: Sequence[str], supply: Supply, of: str, spent: Spent | None = None
) -> dict[str, Tensor]:
    """Embed clips (`Row.audio`, each named once) -> {name: vector (D,)}, by `embed(sources, batch_size=…)`.

    Every process embeds its share; then all of them hold all. ClaraError as `embed` raises it, for an embedding that is
    not finite, or without a `cache` for several processes.
    """
    if supply.world.size > 1 and supply.cache is None:
        raise ClaraError("Several processes share embeddings through the cache: set one.")
    spent = Spent() if spent is None else spent
    start = time.perf_counter()
    cache = None if supply.cache is None else EmbeddingCache(supply.cache, of)
    found = {} if cache is None else cache.known(names)
    spent.cached += len(found)
    # shares by place among all: what is in the cache already may look different to each process
    mine = [n for n in names[supply.world.rank :: supply.world.size] if n not in found]
    bar = tqdm(total=len(mine), unit="clip", desc="embeddings", leave=False, disable=None)
    for part, keys, sources in _chunks(mine, supply, cache is not None):
        vectors: list[Tensor | None] = cache.by_content(keys) if cache else [None] * len(part)
        new = [i for i, v in enumerate(vectors) if v is None]
        if new:
            made = embed([sources[i] for i in new], batch_size=supply.batch_size)
            check_finite(made, lambda row, part=part, new=new: f"{part[new[row]]} gives")
            for i, v in zip(new, made):
                vectors[i] = v
        spent.embedded += len(new)
        spent.cached += len(part) - len(new)
        if cache:
            cache.add(part, keys, vectors)
        found |= dict(zip(part, vectors))
        bar.update(len(part))
    bar.close()
    supply.world.wait()
    if missing := [n for n in names if n not in found]:
        found |= cache.known(missing)
    spent.seconds += time.perf_counter() - start
    return found


def _chunks(names: Sequence[str], supply: Supply, hashed: bool) -> Iterator[tuple[list[str], list[str], list[Any]]]:
    def ready(name: str) -> tuple[str, Any]:
        clip = source(name)
        there = isinstance(clip, bytes) or Path(clip).is_file()  # of a missing file the embedder says its name
        return content_key(clip) if hashed and there else "", _decoded(clip) if supply.workers else clip

    part: list[str] = []
    got: list[tuple[str, Any]] = []
    for name, pair in zip(names, _ahead(ready, names, supply.workers)):
        part.append(name)
        got.append(pair)
        if len(part) == CHUNK:
            yield part, [k for k, _ in got], [c for _, c in got]
            part, got = [], []
    if part:
        yield part, [k for k, _ in got], [c for _, c in got]


def _decoded(clip: str | bytes) -> Any:
    found = waveform.info(clip)
    if found.seconds > LONG_SECONDS:
        return clip
    return waveform.read(clip, found.sample_rate), found.sample_rate


def _ahead(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """`work` of each item in order, done by threads a bounded number of items ahead; by this thread for 0."""
    if not workers:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
