"""Clips a second and memory of an evaluation's embedding: decode, embed, keep on disk; then again from the cache.

    python benchmarks/eval.py --clips 512 --seconds 5 --workers 1 --threads 1

Prints one JSON line a pass: 'new' and 'cached'. `peak_mb` is the process's highest resident memory so far, so that more
clips with the same memory show that it is bounded.
"""

from __future__ import annotations

import json
import resource
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile as sf
import torch
import typer

import clara
from clara.eval.embeddings import Spent, Supply, embed_clips

RATE = 44100


def main(
    model: Annotated[str, typer.Option()] = "clara-small.base",
    clips: Annotated[int, typer.Option(help="Clips; each is a file of its own.")] = 512,
    seconds: Annotated[float, typer.Option(help="Length of a clip.")] = 5.0,
    workers: Annotated[int, typer.Option(help="Threads that decode.")] = 1,
    threads: Annotated[int, typer.Option(help="Of PyTorch.")] = 1,
) -> None:
    """Measure and print."""
    torch.set_num_threads(threads)
    zoo, rng = clara.load(model, device="cpu"), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        names = []
        for i in range(clips):
            names.append(str(Path(folder) / f"{i}.flac"))
            sf.write(names[-1], rng.uniform(-0.1, 0.1, round(seconds * RATE)), RATE)
        supply = Supply(workers=workers, cache=Path(folder) / "cache")
        for what in ("new", "cached"):
            spent = Spent()
            embed_clips(zoo.embed_audio, names, supply, zoo.sha256, spent)
            done = spent.embedded or spent.cached
            line = {"pass": what, "model": model, "clips": done, "seconds": seconds, "workers": workers}
            line |= {"threads": threads, "clips_per_second": round(done / spent.seconds, 1)}
            line["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
            typer.echo(json.dumps(line))


if __name__ == "__main__":
    typer.run(main)
