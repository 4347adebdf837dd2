"""Videos -> clips captioned by what is seen: scenes by change of picture, a key frame of each, its sound beside it.

Pictures and sound are read by PyAV, captions written by a CoCa of open_clip (Yu et al. 2022). Each
video becomes one shard whose samples hold `visual_captions` and, in `original_data`, the times they are of.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from tqdm.auto import tqdm

from clara.audio.arrays import mono
from clara.audio.decoder import check_format
from clara.audio.film import CONTAINERS_ALONE
from clara.audio.waveform import read
from clara.data.captioner import CocaConfig, caption, load_coca
from clara.data.manifest import Row
from clara.data.parallel import run_jobs, sole_writer
from clara.data.samples import read_index
from clara.data.shards import ShardConfig, encode, meta_from_row, write_index
from clara.data.tars import writer
from clara.errors import ClaraError, MissingDependency
from clara.saving import sha256_of

if TYPE_CHECKING:
    from PIL.Image import Image

THUMB = (32, 18)  # pixels of the pictures that are compared


@dataclass(frozen=True)
class VideoConfig:
    """Scenes cut from videos, captioned by what is seen."""

    coca: CocaConfig
    """The captioner."""
    change: float = 0.12
    """Mean difference of two pictures that counts as a cut, 0 to 1."""
    looks: float = 4.0
    """Comparisons of pictures per second."""
    least_seconds: float = 2.0
    """Shorter scenes join the one before, seconds."""
    most_seconds: float = 10.0
    """Longer scenes are cut into equal parts, seconds."""
    frames: int = 1
    """Pictures captioned per scene, evenly spread."""
    corpus: str = "video"
    """Corpus name of the samples."""
    split: str = "train"
    """Split of the samples."""
    license: str | None = None
    """License of the samples, or null."""
    audio: ShardConfig = ShardConfig()
    """How the sound is stored."""
    workers: int = 1
    """Processes that decode."""

    def __post_init__(self) -> None:
        if not 0 < self.least_seconds <= self.most_seconds or min(self.looks, self.change) <= 0 or self.frames < 1:
            raise ClaraError(
                f"least_seconds={self.least_seconds}, most_seconds={self.most_seconds}, looks={self.looks}, "
                f"change={self.change}, frames={self.frames}: expected values above 0, the least no more than the most."
            )


@dataclass(frozen=True)
class Scene:
    """A span of a video in seconds."""

    start: float
    end: float


@dataclass(frozen=True)
class _Job:
    path: Path
    out: Path
    name: str
    config: VideoConfig
    source: str


def caption_videos(
    videos: Sequence[str | Path], out: str | Path, config: VideoConfig, on_error: str = "raise"
) -> dict[str, Any]:
    """Write one shard a video, and `index.json`, into `out`; return the index. Videos that a former call finished are
    kept. `on_error`: "skip" leaves out what cannot be read, "raise" (after what is under way is done) does not.

    Raises:
        ClaraError: no video, one that cannot be decoded or has no sound, no such CoCa, or another process is writing to
            `out`.
    """
    if not videos:
        raise ClaraError("No video: give at least one file.")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with sole_writer(out):
        return _caption_videos(videos, out, config, on_error)


def _caption_videos(videos: Sequence[str | Path], out: Path, config: VideoConfig, on_error: str) -> dict[str, Any]:
    entries = {e["name"]: e for e in read_index(out)["shards"]} if (out / "index.json").is_file() else {}
    jobs = [_job(Path(v), out, config, on_error) for v in videos]
    if len({j.name for j in jobs}) < len(jobs):
        raise ClaraError("The same video is given twice.")
    left = [j for j in jobs if not _finished(j, entries.get(j.name))]
    bar = tqdm(total=len(jobs), initial=len(jobs) - len(left), unit="video", desc=str(out), disable=None)
    with bar:
        for entry in run_jobs(_write_video if on_error == "raise" else _write_or_skip, iter(left), config.workers):
            entries[entry["name"]] = entry
            write_index(out, entries)
            bar.update(1)
            bar.set_postfix(scenes=sum(e["count"] for e in entries.values()))
    return read_index(out)


def _job(path: Path, out: Path, config: VideoConfig, on_error: str) -> _Job:
    if not path.is_file():
        raise ClaraError(f"No such video: {path}.")
    stat = path.stat()
    what = [str(path.resolve()), stat.st_size, stat.st_mtime_ns, repr(replace(config, workers=1)), on_error]
    source = hashlib.sha256(json.dumps(what).encode()).hexdigest()
    place = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    stem = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in path.stem)
    return _Job(path, out, f"{config.corpus}-{config.split}-{stem}-{place}.tar", config, source)


def _finished(job: _Job, entry: dict[str, Any] | None) -> bool:
    path = job.out / job.name
    if entry is None or entry["source"] != job.source:
        return False
    return path.is_file() and sha256_of(path) == entry["sha256"]


def _write_or_skip(job: _Job) -> dict[str, Any]:
    try:
        return _write_video(job)
    except MissingDependency:
        raise
    except ClaraError as e:
        with writer(job.out / job.name):
            pass
        return _entry(job, 0, 0.0, [{"audio": job.path.name, "kept": 0, "why": str(e)}])


def _write_video(job: _Job) -> dict[str, Any]:
    c = job.config
    spans = scenes(job.path, c)
    times = [_times(s, c.frames) for s in spans]
    pictures = frames_at(job.path, [t for ts in times for t in ts])
    lines = caption(_coca(c.coca), pictures, c.coca)
    count, seconds = 0, 0.0
    with writer(job.out / job.name) as tar:
        for i, (scene, wave) in enumerate(zip(spans, sounds(job.path, spans, c.audio.sample_rate), strict=True)):
            if not len(wave):
                continue  # the sound ends before the picture does
            data, length = encode([wave], c.audio)
            said = tuple(dict.fromkeys(t for t in lines[i * c.frames : (i + 1) * c.frames] if t))
            original = {"video": job.path.name, "end": round(scene.end, 3), "frames": [round(t, 3) for t in times[i]]}
            row = Row(job.name, c.corpus, c.split, visual_captions=said, task="caption", license=c.license)
            meta = meta_from_row(replace(row, original=original), length, scene.start)
            key = f"{Path(job.name).stem}-{i:04d}"
            tar.write({"__key__": key, c.audio.format: data, "json": json.dumps(meta, ensure_ascii=False).encode()})
            count, seconds = count + 1, seconds + length
    return _entry(job, count, seconds, [])


def _entry(job: _Job, count: int, seconds: float, skipped: list[dict[str, Any]]) -> dict[str, Any]:
    licence = [job.config.license or "not stated"]
    about = {"count": count, "hours": round(seconds / 3600, 6), "license": licence, "skipped": skipped}
    return {"name": job.name, **about, "sha256": sha256_of(job.out / job.name), "source": job.source}


@lru_cache(maxsize=1)
def _coca(config: CocaConfig) -> Any:
    return load_coca(config)  # once a process


def _times(scene: Scene, frames: int) -> list[float]:
    return [scene.start + (scene.end - scene.start) * (k + 0.5) / frames for k in range(frames)]


def scenes(path: Path, config: VideoConfig) -> list[Scene]:
    """The scenes of a video, in order and without gaps. ClaraError: no pictures in it."""
    cuts, last, seen, end = [0.0], None, -1e9, 0.0
    for time, frame in _pictures(path):
        end = max(end, time + 1 / config.looks / 4)
        if time - seen < 1 / config.looks - 1e-6:
            continue
        thumb = frame.reformat(*THUMB, format="rgb24").to_ndarray().astype(np.float32) / 255
        if last is not None and float(np.abs(thumb - last).mean()) > config.change:
            cuts.append(time)
        last, seen = thumb, time
    if last is None:
        raise ClaraError(f"{path} holds no picture that can be decoded.")
    merged = [cuts[0]]
    for cut in cuts[1:]:
        if cut - merged[-1] >= config.least_seconds and end - cut >= config.least_seconds:
            merged.append(cut)
    out = []
    for start, stop in zip(merged, [*merged[1:], end], strict=True):
        parts = max(1, int(np.ceil((stop - start) / config.most_seconds - 1e-6)))
        edges = np.linspace(start, stop, parts + 1)
        out += [Scene(float(a), float(b)) for a, b in pairwise(edges)]
    return out


def frames_at(path: Path, times: Sequence[float]) -> list[Image]:
    """The picture shown at each of some rising times."""
    out: list[Image] = []
    shown: Any = None
    for time, frame in _pictures(path):
        while shown is not None and len(out) < len(times) and times[len(out)] < time:
            out.append(shown.to_image())
        shown = frame
        if len(out) == len(times):
            break
    out += [shown.to_image() for _ in range(len(times) - len(out))]
    return out


def _pictures(path: Path) -> Iterator[tuple[float, Any]]:
    """(seconds from the first picture, frame) of the first video stream."""
    try:
        with av.open(str(path), container_options=CONTAINERS_ALONE) as container:
            if not container.streams.video:
                raise ClaraError(f"{path} holds no pictures.")
            stream, first = container.streams.video[0], None
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                if frame.time is not None:
                    first = frame.time if first is None else first
                    yield frame.time - first, frame
    except av.FFmpegError as e:
        raise ClaraError(f"{path} cannot be decoded as video ({e}).") from e


def sounds(path: Path, spans: Sequence[Scene], sample_rate: int) -> Iterator[np.ndarray]:
    """The sound of each span, in order: mono float32 (T,) at `sample_rate`; empty where there is none any more."""
    blocks = _sound(path)
    buffer, rate, at = np.zeros((0, 1), np.float32), 1, 0  # samples from `at` on
    for span in spans:
        while (block := next(blocks, None)) is not None:
            rate = block[1]
            buffer = np.concatenate([buffer, block[0]]) if len(buffer) else block[0]
            if at + len(buffer) >= round(span.end * rate):
                break
        first, last = round(span.start * rate) - at, round(span.end * rate) - at
        wave_TC = buffer[max(0, first) : max(0, last)]
        buffer, at = buffer[max(0, last) :], at + min(max(0, last), len(buffer))
        yield read((mono(wave_TC, str(path)), rate), sample_rate) if len(wave_TC) else np.zeros(0, np.float32)


def _sound(path: Path) -> Iterator[tuple[np.ndarray, int]]:
    """Blocks of (samples (T, C), Hz) of the first audio stream. ClaraError where there is none."""
    try:
        with av.open(str(path), container_options=CONTAINERS_ALONE) as container:
            if not container.streams.audio:
                raise ClaraError(f"{path} holds no sound.")
            # the sample format alone: rate and channels are read()'s. Packed, for PyAV finds 8 planes at most
            resampler, kinds = av.AudioResampler(format="flt"), set()
            for frame in container.decode(container.streams.audio[0]):
                for part in resampler.resample(frame):
                    wave_TC = part.to_ndarray().reshape(-1, part.layout.nb_channels).astype(np.float32)
                    check_format(part.sample_rate, wave_TC.shape[1], str(path))
                    kinds.add((part.sample_rate, wave_TC.shape[1]))
                    if len(kinds) > 1:
                        raise ClaraError(f"{path}: its sound changes its rate or channels: {sorted(kinds)}.")
                    yield wave_TC, part.sample_rate
    except av.FFmpegError as e:
        raise ClaraError(f"{path}: its sound cannot be decoded ({e}).") from e
