"""Embeddings of many clips as a file: parts are kept as they are made, so that whoever was interrupted goes on."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from clara.apps.search import NothingReadable, embed_sources, embed_windows_of
from clara.audio.sources import describe, path_of, plain
from clara.data.parallel import sole_writer
from clara.errors import ClaraError
from clara.saving import whole_file
from clara.zoo.embedder import Embedder

PART_CLIPS, PART_BYTES = 128, 1 << 26  # of a part: what is lost when a run is killed
FIELDS = ("ids", "rows", "paths", "audio", "times", "failed_ids", "failed", "why")


@dataclass(frozen=True)
class EmbedConfig:
    """How clips are embedded into a file."""

    windows: bool = False
    """Whether each window has a row, with its times; else each clip."""
    batch_size: int = 16
    """Windows embedded at once."""


@dataclass(frozen=True)
class Written:
    """What was written: clips that were embedded, of them those that a former run had embedded, rows, numbers in each,
    and the clips that could not be read."""

    clips: int
    resumed: int
    rows: int
    width: int
    failed: int


def write_embeddings(
    zoo: Embedder,
    items: list[Any],
    out: Path,
    config: EmbedConfig | None = None,
    broken: Callable[[str], None] | None = None,
    progress: bool = False,
) -> Written:
    """Embed clips (`clara.audio.sources.expand`) into `out`, an .npz of audio (N, D), paths, model, sha256, failed and
    why; with `config.windows` a row for each window, and times (N, 2) in seconds.

    Parts lie in a hidden folder beside `out` until it is written. The same call goes on from them: a clip is embedded
    again only if its file, the model or the windows changed.

    Raises:
        ClaraError: another process writes there, no clip can be read, or without `broken` one that cannot.
    """
    folder, config = out.with_name(f".{out.name}.parts"), config or EmbedConfig()
    settings = [zoo.sha256, str(config.windows), zoo.long, str(zoo.window), str(zoo.hop), str(zoo.half)]
    names = [_identity(item, settings) for item in items]
    with sole_writer(out):
        parts = [part for file in sorted(folder.glob("*.npz")) if (part := _read(file)) is not None]
        known = {str(name) for part in parts for name in part["ids"]}
        left = [(name, item) for name, item in zip(names, items) if name not in known]
        with tqdm(total=len(items), initial=len(items) - len(left), disable=not progress, unit="clip") as bar:
            for chunk in _chunks(left):
                parts.append(_embed(zoo, chunk, config, broken))
                name = hashlib.sha256("".join(n for n, _ in chunk).encode()).hexdigest()
                _write(folder / f"{name[:24]}.npz", parts[-1])
                bar.update(len(chunk))
        written = _join(zoo, names, parts, out, config.windows, len(items) - len(left))
        shutil.rmtree(folder, ignore_errors=True)
    return written


def _identity(item: Any, settings: list[str]) -> str:
    """What tells a clip, as it is now and embedded so, from every other."""
    digest = hashlib.sha256("\0".join([*settings, describe(item)]).encode(errors="surrogateescape"))
    if isinstance(item, str | Path):
        try:
            stat = path_of(item).stat()
            digest.update(f"{stat.st_size} {stat.st_mtime_ns}".encode())
        except OSError:
            digest.update(b"missing")
    elif isinstance(data := plain(item), bytes | bytearray):
        digest.update(data)
    return digest.hexdigest()


def _chunks(left: list[tuple[str, Any]]) -> Iterator[list[tuple[str, Any]]]:
    chunk: list[tuple[str, Any]] = []
    size = 0
    for name, item in left:
        chunk.append((name, item))
        path = path_of(item) if isinstance(item, str | Path) else None
        size += path.stat().st_size if path is not None and path.is_file() else 0
        if len(chunk) == PART_CLIPS or size >= PART_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _embed(
    zoo: Embedder, chunk: list[tuple[str, Any]], config: EmbedConfig, broken: Callable[[str], None] | None
) -> dict[str, np.ndarray]:
    """A part: the rows of its clips, and what could not be read."""
    why: list[str] = []

    def left_out(reason: str) -> None:
        why.append(reason)
        assert broken is not None
        broken(reason)

    items, told = [item for _, item in chunk], None if broken is None else left_out
    try:
        if config.windows:
            owners, times_N2, audio_ND = embed_windows_of(zoo, items, config.batch_size, False, told)
        else:
            owners, audio_ND = embed_sources(zoo, items, config.batch_size, False, told)
            times_N2 = torch.zeros(len(owners), 2)
    except NothingReadable:
        owners, times_N2, audio_ND = [], torch.zeros(0, 2), torch.zeros(0, zoo.config.embed_dim)
    of = {id(item): name for name, item in chunk}
    rows = [of[id(item)] for item in owners]
    there = set(rows)
    failed = [(name, item) for name, item in chunk if name not in there]
    return {
        "ids": np.array(sorted(there), "U64"),
        "rows": np.array(rows, "U64"),
        "paths": np.array([describe(item) for item in owners], np.str_),
        "audio": audio_ND.numpy(),
        "times": times_N2.numpy(),
        "failed_ids": np.array([name for name, _ in failed], "U64"),
        "failed": np.array([describe(item) for _, item in failed], np.str_),
        "why": np.array(why, np.str_),
    }


def _write(file: Path, part: dict[str, np.ndarray]) -> None:
    with whole_file(file) as place, place.open("wb") as opened:
        np.savez(opened, allow_pickle=False, **part)


def _read(file: Path) -> dict[str, np.ndarray] | None:
    """A part of a former run; None of a file that is damaged, whose clips are embedded again."""
    try:
        with np.load(file, allow_pickle=False) as data:
            part = {name: data[name] for name in FIELDS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return part | {name: part[name][:0] for name in ("failed_ids", "failed", "why")}  # what failed is tried again


def _join(
    zoo: Embedder, names: list[str], parts: list[dict[str, np.ndarray]], out: Path, windows: bool, resumed: int
) -> Written:
    """Write all parts as one file, in the order of the clips; what was embedded of other clips is left out."""
    place = {name: i for i, name in enumerate(names)}
    joined = {n: np.concatenate([p[n] for p in parts]) for n in FIELDS if n != "ids"}
    order = _in_order(joined["rows"], place)
    failed = _in_order(joined["failed_ids"], place)
    if not len(order):
        raise ClaraError(f"None of {len(names)} clips can be read.")
    audio_ND = joined["audio"][order]
    times: dict[str, Any] = {"times": joined["times"][order]} if windows else {}
    lists = {"paths": joined["paths"][order], "failed": joined["failed"][failed], "why": joined["why"][failed]}
    with whole_file(out) as part, part.open("wb") as file:
        np.savez(file, audio=audio_ND, model=zoo.name, sha256=zoo.sha256, **lists, **times)
    clips = len(set(joined["rows"][order].tolist()))
    return Written(clips, resumed, len(order), audio_ND.shape[1], len(failed))


def _in_order(ids: np.ndarray, place: dict[str, int]) -> np.ndarray:
    """Which of the rows to take, those of one clip together, by the places of the clips."""
    kept = [(place[name], i) for i, name in enumerate(ids.tolist()) if name in place]
    return np.array([i for _, i in sorted(kept)], int)
