"""An evaluation's scale: clips a second and memory of its embedding, and ranks in a large gallery.

    python benchmarks/eval.py --clips 512 --seconds 5 --workers 1          # new, then from the cache
    python benchmarks/eval.py --clips 50000 --seconds 1 --folder FOLDER    # one pass; again after a kill: what is left
    python benchmarks/eval.py --gallery 1000000 --queries 256              # ranks among a million vectors on disk

Prints one JSON line a pass. Clips are made: noise of 16 kHz in files of their own, or in tars of 1,000 (`--tar`). In
`--folder` they and the cache stay. `cpu_seconds` is this process's own time, which other work on the machine does not
lengthen; `peak_mb` its highest resident memory, which of a gallery counts pages of the file; `own_mb` the highest
without these, looked at twenty times a second.
"""

from __future__ import annotations

import io
import json
import resource
import tarfile
import tempfile
import threading
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

import clara
from clara import metrics
from clara.eval.embeddings import Spent, Supply, embed_clips

RATE, SHARD, WIDTH, BLOCK = 16000, 1000, 256, 10000
LOOK_SECONDS = 0.05


def main(
    clips: Annotated[int, typer.Option(help="Clips to embed.")] = 512,
    seconds: Annotated[float, typer.Option(help="Length of a clip.")] = 5.0,
    workers: Annotated[int, typer.Option(help="Threads that decode.")] = 1,
    folder: Annotated[Path | None, typer.Option(help="Where clips and cache stay; one pass.")] = None,
    tar: Annotated[bool, typer.Option(help="Clips in tars, not in files of their own.")] = False,
    gallery: Annotated[int, typer.Option(help="Ranks among so many vectors instead.")] = 0,
    queries: Annotated[int, typer.Option(help="Of the gallery.")] = 256,
) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as made:
        place = folder or Path(made)
        place.mkdir(parents=True, exist_ok=True)
        if gallery:
            measure_gallery(place, gallery, queries)
        else:
            names = make_clips(place, clips, seconds, tar)
            facts = {"clips": clips, "seconds_each": seconds, "workers": workers, "in": "tars" if tar else "files"}
            for what in ("run",) if folder else ("new", "cached"):
                measure_clips(place, names, workers, {"pass": what} | facts)


def measure_clips(place: Path, names: list[str], workers: int, facts: dict[str, Any]) -> None:
    """Embed the clips that the cache does not hold, on one thread of PyTorch."""
    torch.set_num_threads(1)
    zoo, spent = clara.load("clara-small.base", device="cpu"), Spent()
    with measured(facts) as line:
        embed_clips(zoo.embed_audio, names, Supply(workers=workers, cache=place / "cache"), zoo.sha256, spent)
        line |= {"embedded": spent.embedded, "cached": spent.cached}
    rate = len(names) / line["cpu_seconds"]
    typer.echo(json.dumps(line | {"clips_per_cpu_second": round(rate, 1)}))


def measure_gallery(place: Path, count: int, queries: int) -> None:
    """Ranks of queries near one vector each of a gallery that lies on disk (float32)."""
    file, rng = place / "gallery.npy", np.random.default_rng(0)
    made = np.lib.format.open_memmap(file, "w+", np.float32, (count, WIDTH))
    for start in range(0, count, BLOCK):
        block = rng.standard_normal((min(BLOCK, count - start), WIDTH), np.float32)
        made[start : start + BLOCK] = block / np.linalg.norm(block, axis=1, keepdims=True)
    made.flush()
    own = rng.choice(count, queries, replace=False)
    near = made[own] + 0.1 * rng.standard_normal((queries, WIDTH), np.float32)
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    with measured({"gallery": count, "width": WIDTH, "queries": queries}) as line:
        ranks = metrics.gallery_ranks(near, np.load(file, mmap_mode="r"), own[:, None])
        line["R@1"] = metrics.recall_at_k(np.concatenate(ranks), 1)
    typer.echo(json.dumps(line))


def make_clips(place: Path, count: int, seconds: float, tar: bool) -> list[str]:
    """Clips of noise, each another, unless they are there already -> their `Row.audio`."""
    names = [f"{i // SHARD:03d}{'.tar::' if tar else '/'}{i:06d}.wav" for i in range(count)]
    rng, size = np.random.default_rng(0), round(seconds * RATE)
    for start in range(0, count, SHARD):
        part = names[start : start + SHARD]
        shard = place / f"{start // SHARD:03d}{'.tar' if tar else ''}"
        if shard.exists():
            continue
        waves = [_wav(rng.integers(96, 160, size, np.uint8).tobytes()) for _ in part]
        if not tar:
            shard.mkdir()
            for name, data in zip(part, waves):
                (place / name).write_bytes(data)
            continue
        with tarfile.open(shard, "w") as out:
            for name, data in zip(part, waves):
                member = tarfile.TarInfo(name.partition("::")[2])
                member.size = len(data)
                out.addfile(member, io.BytesIO(data))
    return [str(place / name) for name in names]


def _wav(samples: bytes) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1), file.setsampwidth(1), file.setframerate(RATE)
        file.writeframes(samples)
    return buffer.getvalue()


@contextmanager
def measured(facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A line that holds, when the work in it is done, its time and memory."""
    line, done, most = dict(facts), threading.Event(), [0]

    def look() -> None:
        while not done.wait(LOOK_SECONDS):
            status = Path("/proc/self/status").read_text()
            most[0] = max(most[0], int(status.partition("RssAnon:")[2].split()[0]))

    watch = threading.Thread(target=look, daemon=True)
    watch.start()
    start, cpu = time.perf_counter(), time.process_time()
    yield line
    line["cpu_seconds"] = round(time.process_time() - cpu, 1)
    line["wall_seconds"] = round(time.perf_counter() - start, 1)
    done.set()
    watch.join()
    line["own_mb"] = round(most[0] / 1024)
    line["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    typer.run(main)
