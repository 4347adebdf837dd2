"""Verbs about training: train, align, finetune."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clara.cli.app import DEFAULT_MODEL, Model, Settings, app, recipe_path


@app.command()
def train(recipe: Annotated[str, typer.Argument(help="A recipe's path or name.")], settings: Settings = []) -> None:  # noqa: B006
    """Train by a recipe; the same call goes on from where an earlier one stopped."""
    from clara.train.trainer import train as run

    typer.echo(f"dir:{run(recipe_path('train', recipe), settings)}")


@app.command()
def align(recipe: Annotated[str, typer.Argument(help="A recipe's path or name.")], settings: Settings = []) -> None:  # noqa: B006
    """Train the text side alone: translations of one meaning become neighbours."""
    from clara.train.align import align as run

    typer.echo(f"dir:{run(recipe_path('train', recipe), settings)}")


@app.command()
def finetune(
    csv: Annotated[Path, typer.Argument(help="Table of clips: column audio, and text, label or emotion.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")] = Path("runs/finetune"),
    model: Model = DEFAULT_MODEL,
    settings: Settings = [],  # noqa: B006
) -> None:
    """Fine-tune a checkpoint on a table of clips."""
    from clara.train.finetune import finetune as run

    typer.echo(f"dir:{run(csv, model, out, settings)}")
