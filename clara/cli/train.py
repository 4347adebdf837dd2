"""Verbs about training: train, align, finetune, average, config."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clara.cli.app import DEFAULT_MODEL, Model, Settings, SkipBroken, app, check_model, check_paths, left_out
from clara.config import config_file, recipe_path
from clara.errors import ClaraError


@app.command()
def train(recipe: Annotated[str, typer.Argument(help="A recipe's path or name.")], settings: Settings = []) -> None:  # noqa: B006
    """Train by a recipe; the same call goes on from where an earlier one stopped."""
    path = recipe_path("train", recipe)
    from clara.train.trainer import train as run

    typer.echo(f"dir:{run(path, settings)}")


@app.command()
def align(recipe: Annotated[str, typer.Argument(help="A recipe's path or name.")], settings: Settings = []) -> None:  # noqa: B006
    """Train the text side alone: translations of one meaning become neighbours."""
    path = recipe_path("train", recipe)
    from clara.train.align import align as run

    typer.echo(f"dir:{run(path, settings)}")


@app.command()
def finetune(
    csv: Annotated[Path, typer.Argument(help="Table of clips: column audio, and text, label or emotion.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")] = Path("runs/finetune"),
    model: Model = DEFAULT_MODEL,
    settings: Settings = [],  # noqa: B006
    skip_broken: SkipBroken = False,
    parts: Annotated[str, typer.Option(help="heads (fast), all, or auto: heads on a CPU.")] = "auto",
) -> None:
    """Fine-tune a checkpoint on a table of clips, or a folder of folders; of a few clips, see fit."""
    check_paths(csv)
    check_model(model)
    from clara.train.finetune import finetune as run

    typer.echo(f"dir:{run(csv, model, out, settings, left_out(skip_broken), parts)}")


@app.command()
def average(
    models: Annotated[list[str], typer.Argument(help="Checkpoints of one training line; the last gives the rest.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the result.")],
    shares: Annotated[str | None, typer.Option(help='Of each, "0.3,0.7"; default: equal.')] = None,
    part: Annotated[str, typer.Option(help="all, audio or text.")] = "all",
) -> None:
    """Average the weights of checkpoints."""
    try:
        given = [float(x) for x in shares.split(",")] if shares else [1 / len(models)] * len(models)
    except ValueError as e:
        raise ClaraError(f"--shares {shares!r}: expected numbers with commas between them, such as 0.3,0.7.") from e
    for model in models:
        check_model(model)
    from clara.train.average import average as run

    typer.echo(f"dir:{run(models, given, out, part)}")


@app.command("config")
def config_verb(recipe: Annotated[str, typer.Argument(help="A recipe or an architecture, by path or name.")]) -> None:
    """Print every setting of a recipe or architecture as YAML, each with its meaning; defaults are filled in."""
    path = config_file(recipe)
    from clara.apps.settings import commented

    typer.echo(commented(path))
