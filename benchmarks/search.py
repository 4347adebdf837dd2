"""Exact search in memory beside LanceDB on disk, over millions of vectors: recall, latency, memory, in one run.

    python benchmarks/search.py --rows 2000000 --width 512 --queries 200 --threads 1

Vectors are drawn from a mixture whose coordinates fall off as those of trained models do, so that neighbours are
meaningful. Each index lives in a process of its own, so that its resident memory is its own; queries come one by one.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from clara.apps.lance_index import LanceIndex
from clara.apps.query import Searchable
from clara.apps.search import Index

CHUNK, PER_CENTRE, SPREAD, FALL = 50_000, 100, 0.5, 0.5
TOP = 10


class Mixture:
    """Unit vectors around centres: `rows(seed, count)` draws them, float32."""

    def __init__(self, rows: int, width: int) -> None:
        rng = np.random.default_rng(0)
        self.fall_D = (np.arange(1, width + 1) ** -FALL).astype(np.float32)
        self.turn_DD = np.linalg.qr(rng.standard_normal((width, width)))[0].astype(np.float32)
        self.centre_CD = rng.standard_normal((max(1, rows // PER_CENTRE), width), np.float32) * self.fall_D

    def rows(self, seed: int, count: int) -> np.ndarray:
        """Rows (count, D)."""
        rng = np.random.default_rng(seed)
        of_N = rng.integers(len(self.centre_CD), size=count)
        noise_ND = rng.standard_normal((count, len(self.fall_D)), np.float32) * self.fall_D
        x_ND = (self.centre_CD[of_N] + SPREAD * noise_ND) @ self.turn_DD
        return x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)


def chunks(vectors: Path, width: int) -> Iterator[tuple[list[str], torch.Tensor]]:
    """Paths and float32 vectors of the file, some at a time."""
    all_ND = np.memmap(vectors, np.float16, "r").reshape(-1, width)
    for begin in range(0, len(all_ND), CHUNK):
        part_ND = torch.from_numpy(np.array(all_ND[begin : begin + CHUNK]))
        yield [f"/clips/{row:09d}.wav" for row in range(begin, begin + len(part_ND))], part_ND.float()


def build_exact(vectors: Path, width: int, folder: Path) -> Searchable:
    """Everything in memory, float32, as `Index.load` gives it."""
    rows = vectors.stat().st_size // (2 * width)
    audio_ND, paths = torch.empty(rows, width), list[str]()
    for names, part_ND in chunks(vectors, width):
        audio_ND[len(paths) : len(paths) + len(names)] = part_ND
        paths += names
    return Index(audio_ND, paths, "benchmark", "0")


def build_lance(vectors: Path, width: int, folder: Path) -> Searchable:
    """On disk."""
    from clara.apps.lance_rows import schema_of

    lancedb: Any = __import__("lancedb")
    about = {"model": "benchmark", "sha256": "0"}
    lancedb.connect(str(folder)).create_table("windows", schema=schema_of(width, about))
    index = LanceIndex.open(folder)
    for names, part_ND in chunks(vectors, width):
        index.add_vectors(part_ND, names)
    index.tidy()
    return index


def memory() -> int:
    """Resident MiB of this process now."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) // 1024


def measure(
    build: Callable[[Path, int, Path], Searchable], vectors: Path, queries_QD: np.ndarray, folder: Path, threads: int
) -> None:
    """Build, or open what a run before built, and ask; writes result.json."""
    torch.set_num_threads(threads)
    begin, width = time.perf_counter(), queries_QD.shape[1]
    index = LanceIndex.open(folder) if (folder / "windows.lance").is_dir() else build(vectors, width, folder)
    took, seconds, hits = time.perf_counter() - begin, [], []
    for warm in (True, False):
        for query_D in torch.from_numpy(queries_QD[:20] if warm else queries_QD):
            start = time.perf_counter()
            found = index.nearest(query_D[None], TOP)[0]
            if not warm:
                seconds.append(time.perf_counter() - start)
                hits.append([int(Path(h.path).stem) for h in found])
    cuts = statistics.quantiles(seconds, n=20)
    result = {
        "build s": round(took, 1),
        "p50 ms": round(1000 * cuts[9], 1),
        "p95 ms": round(1000 * cuts[18], 1),
        "resident MiB": memory(),
        "peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "hits": hits,
    }
    (folder / "result.json").write_text(json.dumps(result))


def alone(*arguments: Any) -> dict[str, Any]:
    """`measure` in a fresh process -> its result."""
    process = multiprocessing.get_context("spawn").Process(target=measure, args=arguments)
    process.start()
    process.join()
    return json.loads((arguments[3] / "result.json").read_text())


def main(
    rows: Annotated[int, typer.Option()] = 2_000_000,
    width: Annotated[int, typer.Option()] = 512,
    queries: Annotated[int, typer.Option()] = 200,
    threads: Annotated[int, typer.Option(help="Of torch; LanceDB takes what there is.")] = 1,
    place: Annotated[Path | None, typer.Option(help="Roomy folder; its vectors are kept.")] = None,
) -> None:
    """Measure and print a table."""
    with tempfile.TemporaryDirectory(dir=place) as name:
        work, mixture, vectors = Path(name), Mixture(rows, width), (place or Path(name)) / "vectors.f16"
        if not vectors.is_file() or vectors.stat().st_size != 2 * rows * width:
            with vectors.open("wb") as file:
                for seed, begin in enumerate(range(0, rows, CHUNK)):
                    file.write(mixture.rows(seed + 1, min(CHUNK, rows - begin)).astype(np.float16).tobytes())
        queries_QD = mixture.rows(10**6, queries)
        print(f"{rows:,} vectors of {width} numbers, {queries} queries, the best {TOP}")
        print("| index | recall@10 | p50 ms | p95 ms | build s | resident MiB | MiB on disk |\n" + 7 * "|---" + "|")
        truth: list[list[int]] = []
        for what, build in (("exact", build_exact), ("lance", build_lance), ("lance, opened anew", build_lance)):
            folder = work / what.split(",")[0]
            folder.mkdir(exist_ok=True)
            result = alone(build, vectors, queries_QD, folder, threads)
            truth = truth or result["hits"]
            recall = statistics.mean(len({*a} & {*b}) / TOP for a, b in zip(result["hits"], truth, strict=True))
            disk = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) >> 20
            told = [what, f"{recall:.3f}", *(result[k] for k in ("p50 ms", "p95 ms", "build s", "resident MiB")), disk]
            print("| " + " | ".join(map(str, told)) + " |", flush=True)


if __name__ == "__main__":
    typer.run(main)
