"""Seconds of audio embedded per second, beside transformers' ClapModel (random weights, published size) in one run.

    python benchmarks/embed.py --model clara-small.base --threads 2

Prints one JSON line a measurement: median and spread over rounds, and the ratio to the peer. Rounds of both alternate,
so that a busy machine slows them alike.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile as sf
import torch
import typer

import clara

SECONDS, CLIPS = 10, 16


def timed(call: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def peer() -> Callable[[list[np.ndarray]], torch.Tensor]:
    """transformers' CLAP, unfused HTSAT-tiny, from 48 kHz arrays to embeddings."""
    from transformers import ClapAudioConfig, ClapAudioModelWithProjection, ClapFeatureExtractor

    model = ClapAudioModelWithProjection(ClapAudioConfig()).eval()
    features = ClapFeatureExtractor(truncation="rand_trunc", padding="repeatpad")

    def embed(waves: list[np.ndarray]) -> torch.Tensor:
        with torch.inference_mode():
            return model(**features(waves, sampling_rate=48000, return_tensors="pt")).audio_embeds

    return embed


def main(
    model: Annotated[str, typer.Option()] = "clara-small.base",
    threads: Annotated[int, typer.Option()] = 2,
    rounds: Annotated[int, typer.Option()] = 5,
) -> None:
    """Measure and print."""
    torch.set_num_threads(threads)
    zoo, other = clara.load(model, device="cpu"), peer()
    rng = np.random.default_rng(0)
    own = [(rng.uniform(-0.1, 0.1, 16000 * SECONDS).astype(np.float32), 16000) for _ in range(CLIPS)]
    theirs = [rng.uniform(-0.1, 0.1, 48000 * SECONDS).astype(np.float32) for _ in range(CLIPS)]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{i}.flac" for i in range(CLIPS)]
        for file, (wave, rate) in zip(files, own):
            sf.write(file, wave, rate)
        calls = {
            "clara array": lambda: zoo.embed_audio(own),
            "clara flac file": lambda: zoo.embed_audio(files),
            "transformers ClapModel array": lambda: other(theirs),
        }
        for call in calls.values():
            call()
        times = {name: [] for name in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                times[name].append(timed(call))
    base = statistics.median(times["transformers ClapModel array"])
    for name, values in times.items():
        speed = [SECONDS * CLIPS / v for v in values]
        row = {
            "what": name, "threads": threads, "audio_seconds_per_second": round(statistics.median(speed), 1),
            "spread": [round(min(speed), 1), round(max(speed), 1)], "ratio": round(base / statistics.median(values), 2),
        }  # fmt: skip
        print(json.dumps(row))


if __name__ == "__main__":
    typer.run(main)
