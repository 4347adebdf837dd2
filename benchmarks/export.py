"""A checkpoint in torch beside its ONNX export, float32 and int8: agreement on real clips, accuracy, speed, in one run.

    python benchmarks/export.py ESC50 --model clara-small.base --work exports

ESC50 is a folder with audio.tar and manifest.csv (`file`, `label`); clips of fold 4 are named by four templates.
"""

from __future__ import annotations

import csv
import io
import statistics
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

import clara
from clara.audio import waveform
from clara.zoo.export import export_onnx
from clara.zoo.onnx_model import OnnxEmbedder

TEMPLATES = ("{}", "the sound of {}", "a recording of {}", "one can hear {}")
LENGTHS = (0.2, 0.5, 1.0, 2.37, 5.0, 10.0, 23.0)  # seconds; the last two of clips put together


def accuracy(model: Any, audio_BD: Any, labels: list[str]) -> float:
    """Share of clips whose label's texts lie nearest, the mean of four templates."""
    names = sorted(set(labels))
    text_KD = np.stack([np.asarray(model.embed_text([t.format(name) for t in TEMPLATES])).mean(0) for name in names])
    text_KD /= np.linalg.norm(text_KD, axis=1, keepdims=True)
    found = (np.asarray(audio_BD) @ text_KD.T).argmax(1)
    return float(np.mean([names[i] == label for i, label in zip(found, labels)]))


def timed(call: Callable[[], object], rounds: int) -> float:
    """Median milliseconds."""
    call()
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - begin))
    return statistics.median(times)


def main(
    esc50: Annotated[Path, typer.Argument()],
    model: Annotated[str, typer.Option()] = "clara-small.base",
    work: Annotated[Path, typer.Option(help="Where exports are written, or were by a run before.")] = Path("exports"),
    limit: Annotated[int, typer.Option()] = 400,
    rounds: Annotated[int, typer.Option()] = 5,
) -> None:
    """Measure and print tables."""
    zoo = clara.load(model, "cpu")
    rate = zoo.model.front_end.sample_rate
    folders = {"float32": work / model, "int8": work / f"{model}.int8"}
    for kind, folder in folders.items():
        if not folder.is_dir():
            export_onnx(zoo, folder, kind == "int8")
    with (esc50 / "manifest.csv").open(encoding="utf-8") as file:
        label_of = {r["file"]: r["label"] for r in csv.DictReader(file) if r["file"].startswith("4-")}
    with tarfile.open(esc50 / "audio.tar") as tar:
        taken = [m for m in tar.getmembers() if Path(m.name).name in label_of]
        chosen = taken[:: max(1, len(taken) // limit)][:limit]
        clips = [(waveform.read(io.BytesIO(tar.extractfile(m).read()).getvalue(), rate), rate) for m in chosen]  # type: ignore[union-attr]
    labels = [label_of[Path(m.name).name] for m in chosen]
    graphs = {kind: OnnxEmbedder.open(folder) for kind, folder in folders.items()}
    whole = np.concatenate([wave for wave, _ in clips[:8]])
    print(f"{model}: largest difference of a number of the vector, real clips of several lengths")
    for seconds in LENGTHS:
        cut = (whole[: round(seconds * rate)], rate)
        print(f"  {seconds:g} s: {np.abs(zoo.embed_audio(cut).numpy() - graphs['float32'].embed_audio(cut)).max():.1e}")
    audio = {"torch": zoo.embed_audio(clips).numpy()} | {k: g.embed_audio(clips) for k, g in graphs.items()}
    size = {k: sum(p.stat().st_size for p in f.iterdir()) / 2**20 for k, f in folders.items()}
    print(f"{len(clips)} clips of ESC-50 fold 4")
    print("| what | MiB | lowest cosine | mean cosine | accuracy |\n" + 5 * "|---" + "|")
    for what, audio_BD in audio.items():
        cosine_B = (audio["torch"] * audio_BD).sum(1)
        right = accuracy(graphs.get(what, zoo), audio_BD, labels)
        print(f"| {what} | {size.get(what, 0):.0f} | {cosine_B.min():.4f} | {cosine_B.mean():.5f} | {right:.4f} |")
    print("| ms, median | " + " | ".join(f"{what}, {n} threads" for n in (1, 2) for what in audio) + " |")
    texts, rows = [t.format(x) for x in sorted(set(labels))[:12] for t in TEMPLATES], dict[str, list[float]]()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        runs = {"torch": zoo} | {k: OnnxEmbedder.open(f, threads=threads) for k, f in folders.items()}
        for one in runs.values():
            rows.setdefault("one clip of 5 s", []).append(timed(lambda one=one: one.embed_audio(clips[0]), rounds))
            rows.setdefault("16 clips of 5 s", []).append(timed(lambda one=one: one.embed_audio(clips[:16]), rounds))
            rows.setdefault("48 texts", []).append(timed(lambda one=one: one.embed_text(texts), rounds))
    for what, times in rows.items():
        print(f"| {what} | " + " | ".join(f"{t:.0f}" for t in times) + " |")


if __name__ == "__main__":
    typer.run(main)
