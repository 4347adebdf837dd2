"""Manifest rows -> webdataset tars, in parallel and resumably. Reading and verifying them: `clara.data.samples`.

A sample is `KEY.flac` (or .wav, .opus, .ogg) and `KEY.json`; see `meta_from_row`. The bytes depend on rows, config and
codec version only, so a sha256 in `index.json` tells whether a shard is whole and current.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
from tqdm.auto import tqdm

from clara.audio.sources import is_frame
from clara.audio.waveform import info, stream
from clara.data.clip_tables import read_rows
from clara.data.manifest import TEXTS, Row, row_to_dict, split_audio
from clara.data.parallel import run_jobs, sole_writer
from clara.data.samples import Problem, Sample, read_index, read_shard, sample_from_wds, verify_shards
from clara.data.tars import members, writer
from clara.errors import ClaraError, MissingDependency, unknown
from clara.saving import sha256_of, write_json

FORMATS = {"flac": ("FLAC", "PCM_16"), "wav": ("WAV", "PCM_16"), "opus": ("OGG", "OPUS"), "ogg": ("OGG", "VORBIS")}
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
META = ("language", "label", "emotion", "task", "corpus", "split", "speaker", "gender", "age", "transcript", "license")
BLOCK = 30.0  # seconds decoded and encoded at a time

__all__ = [
    "Problem",
    "Sample",
    "ShardConfig",
    "meta_from_row",
    "read_index",
    "read_shard",
    "sample_from_wds",
    "verify_shards",
    "write_shards",
]


@dataclass(frozen=True)
class ShardConfig:
    """How clips are stored in shards: mono."""

    samples_per_shard: int = 512
    """Samples per tar."""
    format: str = "flac"
    """'flac', 'wav', 'opus' or 'ogg' (Vorbis)."""
    sample_rate: int = 16000
    """Hz; Opus knows 8000, 12000, 16000, 24000 and 48000."""
    workers: int = 1
    """Processes that decode and encode."""
    max_seconds: float | None = None
    """Longer clips are cut into equal parts, seconds; null = never."""
    on_error: str = "raise"
    """'raise' at a clip that cannot be decoded, or 'skip' and list it."""

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise unknown("shard format", self.format, FORMATS)
        if self.on_error not in ("raise", "skip"):
            raise unknown("on_error", self.on_error, ("raise", "skip"))
        if self.format == "opus" and self.sample_rate not in OPUS_RATES:
            raise ClaraError(f"Opus at {self.sample_rate} Hz: it knows only {OPUS_RATES}. Choose one, or format=flac.")
        lengths = () if self.max_seconds is None else (self.max_seconds,)
        if min(self.samples_per_shard, self.sample_rate, self.workers) < 1 or min(lengths, default=1) <= 0:
            raise ClaraError(f"{self}: counts, rate and seconds must be above 0.")


@dataclass(frozen=True)
class _Job:
    out: Path
    name: str
    rows: tuple[Row, ...]
    config: ShardConfig
    source: str


def write_shards(rows: Any, out: str | Path, config: ShardConfig = ShardConfig()) -> dict[str, Any]:
    """Write rows as `CORPUS-SPLIT-NNNNNN.tar` plus `index.json` into `out`; return the index. `rows` are `Row`s, or a
    table of clips as of `clara.data.clip_tables.read_rows`.

    Shards that a former run finished are kept when their sha256 and their rows still match, so an interrupted run goes
    on where it stopped. Other corpora may be written to the same folder in other runs.

    Raises:
        ClaraError: a clip cannot be decoded (its row is named), no rows, `out` holds other shards of the same name, or
            another process is writing to it.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with sole_writer(out):
        if is_frame(rows) or (isinstance(rows, list | tuple) and rows and isinstance(rows[0], Mapping)):
            rows = read_rows(rows, out / "clips")
        return _write_shards(rows, out, config)


def _write_shards(rows: Iterable[Row], out: Path, config: ShardConfig) -> dict[str, Any]:
    entries = {e["name"]: e for e in read_index(out)["shards"]} if (out / "index.json").is_file() else {}
    total = len(rows) if isinstance(rows, Sized) else None
    current: set[str] = set()
    with tqdm(total=total, unit="clip", desc=str(out), disable=None) as bar:

        def pending() -> Iterator[_Job]:
            for job in _jobs(rows, out, config):
                current.add(job.name)
                if _finished(job, entries.get(job.name)):
                    bar.update(len(job.rows))
                else:
                    yield job

        for entry in run_jobs(_write_shard, pending(), config.workers):
            entries[entry["name"]] = entry
            write_index(out, entries)
            bar.update(entry["count"])
    if not current:
        raise ClaraError("No rows: nothing to write into shards.")
    _refuse_leftovers(out, entries, current)
    return read_index(out)


def write_index(out: Path, entries: Mapping[str, dict[str, Any]]) -> None:
    """Write `index.json`, atomically: one entry per shard, by name."""
    shards = [entries[name] for name in sorted(entries)]
    hours = round(sum(e["hours"] for e in shards), 6)
    index = {"version": 1, "count": sum(e["count"] for e in shards), "hours": hours, "shards": shards}
    write_json(out / "index.json", index)


def _jobs(rows: Iterable[Row], out: Path, config: ShardConfig) -> Iterator[_Job]:
    """Rows in shards of one corpus and split each, in the order given."""
    waiting: dict[str, list[Row]] = {}
    numbers: dict[str, int] = {}

    def job(group: str) -> _Job:
        number, chunk = numbers.get(group, 0), tuple(waiting.pop(group))
        numbers[group] = number + 1
        return _Job(out, f"{group}-{number:06d}.tar", chunk, config, _source_hash(chunk, config))

    for row in rows:
        group = re.sub(r"[^\w-]+", "_", f"{row.corpus}-{row.split}", flags=re.ASCII)
        waiting.setdefault(group, []).append(row)
        if len(waiting[group]) == config.samples_per_shard:
            yield job(group)
    for group in list(waiting):
        yield job(group)


def _source_hash(rows: tuple[Row, ...], config: ShardConfig) -> str:
    """Of everything the bytes of a shard depend on, but not of the folder where the clips lie."""
    how = [config.format, config.sample_rate, config.max_seconds, config.on_error]
    what = [{**row_to_dict(r), "audio": re.split(r"[/\\]", r.audio)[-1]} for r in rows]
    return hashlib.sha256(json.dumps([how, what], sort_keys=True).encode()).hexdigest()


def _finished(job: _Job, entry: dict[str, Any] | None) -> bool:
    path = job.out / job.name
    if entry is None or not path.is_file() or sha256_of(path) != entry["sha256"]:
        return False
    if entry["source"] != job.source:
        raise ClaraError(f"{path} was written from other rows or settings. Delete it, or write to another folder.")
    return True


def _refuse_leftovers(out: Path, entries: Mapping[str, Any], current: set[str]) -> None:
    groups = {name.rpartition("-")[0] for name in current}
    old = sorted(n for n in entries.keys() - current if n.rpartition("-")[0] in groups)
    if old:
        raise ClaraError(
            f"{out} also holds {', '.join(old)} of a former, longer run: its clips would be read twice. "
            "Delete the folder and write it again."
        )


def _write_shard(job: _Job) -> dict[str, Any]:
    path = job.out / job.name
    count, seconds, skipped = 0, 0.0, []
    with writer(path) as tar:
        for i, row in enumerate(job.rows):
            kept = 0
            try:
                for start, data, length in _clips(row, job.config):
                    key = f"{path.stem}-{i:06d}" + (f"-{kept:04d}" if job.config.max_seconds else "")
                    meta = json.dumps(meta_from_row(row, length, start), ensure_ascii=False)
                    meta_json = meta.encode(errors="backslashreplace")  # a file's name may hold what UTF-8 lacks
                    tar.write({"__key__": key, job.config.format: data, "json": meta_json})
                    kept, count, seconds = kept + 1, count + 1, seconds + length
            except ClaraError as e:
                if job.config.on_error == "raise" or isinstance(e, MissingDependency):
                    hint = "--skip-broken, or on_error='skip', leaves such out"
                    raise ClaraError(f"Row {row.audio!r} of {row.corpus}: {e} ({hint}.)") from e
                skipped.append(
                    {"audio": split_audio(row.audio)[1] or Path(row.audio).name, "kept": kept, "why": str(e)}
                )
    return {
        "name": job.name,
        "count": count,
        "hours": round(seconds / 3600, 6),
        "sha256": sha256_of(path),
        "source": job.source,
        "license": sorted({r.license or "not stated" for r in job.rows}),
        "skipped": skipped,
    }


def meta_from_row(row: Row, seconds: float, start: float = 0.0) -> dict[str, Any]:
    """The JSON of one sample. `seconds` is its real length, `start` where in the original clip it begins."""
    meta: dict[str, Any] = {name: list(getattr(row, name)) for name in TEXTS}
    meta |= {name: getattr(row, name) for name in META}
    meta |= {"seconds": round(seconds, 4), "original_data": dict(row.original)}
    return meta if not start else meta | {"start": round(start, 4)}


def _clips(row: Row, config: ShardConfig) -> Iterator[tuple[float, bytes, float]]:
    """(start, encoded bytes, seconds) of each part of one row, in bounded memory."""
    path, member = split_audio(row.audio)
    source = path if member is None else read_member(path, member)
    rate, window = config.sample_rate, BLOCK
    if config.max_seconds is None:
        blocks = (wave for _, wave in stream(source, rate, window=window, hop=window))
        yield 0.0, *encode(blocks, config)
        return
    total = math.ceil(info(source).seconds * rate) + 2  # resampling may round up: no part of one sample at the end
    parts = math.ceil(total / max(1, int(config.max_seconds * rate)))
    window = math.ceil(total / parts) / rate
    for start, wave in stream(source, rate, window=window, hop=window):
        yield start, *encode([wave], config)


def encode(blocks: Iterable[np.ndarray], config: ShardConfig) -> tuple[bytes, float]:
    """Waves (T,) in order, at the config's rate -> one encoded clip and its length in seconds."""
    container, subtype = FORMATS[config.format]
    buffer, frames = io.BytesIO(), 0
    with sf.SoundFile(buffer, "w", config.sample_rate, 1, format=container, subtype=subtype) as file:
        for wave in blocks:
            file.write(wave)
            frames += len(wave)
    data = buffer.getvalue()
    return (_without_serial(data) if container == "OGG" else data), frames / config.sample_rate


_REVERSED = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))


def _without_serial(data: bytes) -> bytes:
    """Ogg pages with stream serial 0 in place of the encoder's random one, checksums renewed (RFC 3533, section 6)."""
    out, at = bytearray(data), 0
    while at < len(out):
        segments = out[at + 26]
        end = at + 27 + segments + sum(out[at + 27 : at + 27 + segments])
        out[at + 14 : at + 18] = out[at + 22 : at + 26] = bytes(4)
        # Ogg's CRC-32 is zlib's polynomial with bits in the other order, started from 0 and not inverted
        crc = zlib.crc32(bytes(out[at:end]).translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
        out[at + 22 : at + 26] = int(f"{crc:032b}"[::-1], 2).to_bytes(4, "little")
        at = end
    return bytes(out)


def read_member(path: str, member: str) -> bytes:
    """The bytes of one member of an uncompressed tar, read where it lies."""
    file = Path(path)
    if not file.is_file():
        raise ClaraError(f"No such tar: {path}.")
    stat = file.stat()
    places = _members(path, stat.st_mtime_ns, stat.st_size)
    if member not in places:
        raise unknown(f"member of {path}", member, places)
    offset, size = places[member]
    with file.open("rb") as handle:
        handle.seek(offset)
        return handle.read(size)


@lru_cache(maxsize=16)
def _members(path: str, _mtime: int, _size: int) -> dict[str, tuple[int, int]]:
    """Offsets and sizes; time and size of the file are arguments so that a changed file is read again."""
    return {m.name: (m.offset_data, m.size) for m in members(Path(path))}
