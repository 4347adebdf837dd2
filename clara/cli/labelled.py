"""Verbs about labelled clips: fit, score."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clara.cli.app import DEFAULT_MODEL, BatchSize, Device, Model, SkipBroken, app, check_model, check_paths, left_out
from clara.saving import safetensors_file


@app.command()
def fit(
    clips: Annotated[Path, typer.Argument(help="Table (as for finetune), or a folder with a folder for each label.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")] = Path("fitted.safetensors"),
    language: Annotated[str, typer.Option(help="Language of a task's labels.")] = "en",
    model: Model = DEFAULT_MODEL,
    device: Device = None,
    batch_size: BatchSize = 16,
    skip_broken: SkipBroken = False,
) -> None:
    """Learn labels from a few clips of each, in seconds, for `classify -m FILE`; the model stays as it is."""
    check_paths(clips)
    check_model(model)
    from clara.apps.classifier import Classifier
    from clara.apps.fitting import labels_of_rows
    from clara.apps.search import embed_sources
    from clara.cli.models import at_terminal
    from clara.train.finetune import read_rows
    from clara.zoo.embedder import load

    rows = read_rows(clips)
    names, task = labels_of_rows(rows, str(clips))
    file = safetensors_file(out)
    file.parent.mkdir(parents=True, exist_ok=True)
    labels = sorted(set(names))
    classifier = Classifier(load(model, device), labels, task, language)
    broken = left_out(skip_broken)
    found, audio_ND = embed_sources(classifier.zoo, [r.audio for r in rows], batch_size, at_terminal(), broken)
    there = set(found)
    kept = [(row, name) for row, name in zip(rows, names) if row.audio in there]
    held = [row.split != "train" for row, _ in kept]
    groups = [row.speaker or row.audio for row, _ in kept]
    classifier.fit_embeddings(audio_ND, [name for _, name in kept], groups, held)
    classifier.save(file)
    fitted = classifier.fitted
    assert fitted is not None
    typer.echo(f"{file}: {len(labels)} labels from {fitted.clips} clips, on {classifier.zoo.name}")
    typer.echo(str(fitted.held_out or "held-out accuracy: unknown, a label has one clip alone: give each at least two"))
