"""Verbs about labelled clips: fit, score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from clara.cli.app import (
    DEFAULT_MODEL,
    BatchSize,
    Device,
    Json,
    Model,
    SkipBroken,
    app,
    audio_items,
    check_model,
    check_paths,
    left_out,
)
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
    from clara.data.clip_tables import read_rows
    from clara.zoo.loading import load

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


@app.command()
def score(
    pairs: Annotated[Path, typer.Argument(help="Table with the columns audio and text, a pair in each row.")],
    as_json: Json = False,
    model: Model = DEFAULT_MODEL,
    device: Device = None,
    batch_size: BatchSize = 16,
) -> None:
    """CLAP score of audio, such as generated, and its prompts: mean cosine, 95 % bootstrap interval."""
    check_paths(pairs)
    check_model(model)
    from clara.data.manifest import numbered_table

    rows = [record for _, record in numbered_table(pairs, ["audio", "text"])]
    audio = audio_items([str(pairs.parent / record["audio"]) for record in rows])
    from clara.apps.pairs import score_pairs
    from clara.zoo.loading import load

    zoo = load(model, device)
    found = score_pairs(zoo, audio, [record["text"] for record in rows], batch_size)
    if as_json:
        each = [
            {"audio": record["audio"], "text": record["text"], "score": round(s, 4)}
            for record, s in zip(rows, found.scores)
        ]
        about = {"model": zoo.name, "sha256": zoo.sha256, "pairs": len(rows), "score": found.score}
        about |= {"interval": found.interval, "shuffled": found.shuffled, "each": each}
        typer.echo(json.dumps(about, ensure_ascii=False, indent=1))
        return
    low, high = found.interval
    typer.echo(f"CLAP score {found.score:.3f} [{low:.3f}, {high:.3f}] over {len(rows)} pairs, by {zoo.name}")
    if found.shuffled is not None:
        typer.echo(f"the same clips with the other pairs' texts: {found.shuffled:.3f}")
