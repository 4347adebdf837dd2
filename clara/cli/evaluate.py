"""Verbs about evaluation: eval."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clara.cli.app import DEFAULT_MODEL, Model, Settings, app, recipe_path


@app.command("eval")
def evaluate(
    recipe: Annotated[str, typer.Argument(help="A recipe's path or name.")],
    data: Annotated[Path, typer.Option(help="Folder of the corpora.")],
    model: Model = DEFAULT_MODEL,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("results"),
    limit: Annotated[int | None, typer.Option(help="At most so many clips of a set: a trial.")] = None,
    settings: Settings = [],  # noqa: B006
) -> None:
    """Evaluate a checkpoint by a recipe; results are JSON with the command, the hash and the prompts."""
    path = recipe_path("eval", recipe)
    from clara.eval.runner import run

    run(path, model, data, out, [*settings, *([f"limit={limit}"] if limit is not None else [])])
