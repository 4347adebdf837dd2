"""Verbs about evaluation: eval, leave-one-out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clara.cli.app import DEFAULT_MODEL, Model, Settings, app, check_model, check_paths
from clara.config import recipe_path


@app.command("eval")
def evaluate(
    recipe: Annotated[str, typer.Argument(help="A recipe's path or name.")],
    data: Annotated[Path, typer.Option(help="Folder of the corpora, or of one as published.")],
    model: Model = DEFAULT_MODEL,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("results"),
    limit: Annotated[int | None, typer.Option(help="At most so many clips of a set: a trial.")] = None,
    settings: Settings = [],  # noqa: B006
) -> None:
    """Evaluate a checkpoint by a recipe; results are JSON with the command, the hash and the prompts."""
    path = recipe_path("eval", recipe)
    check_model(model)
    check_paths(data)
    from clara.eval.runner import run

    run(path, model, data, out, [*settings, *([f"limit={limit}"] if limit is not None else [])])


@app.command("leave-one-out")
def leave_one_out(
    recipe: Annotated[str, typer.Argument(help="A recipe's path or name.")],
    settings: Settings = [],  # noqa: B006
) -> None:
    """Train without each corpus in turn and score it there; the same call goes on from where an earlier one stopped."""
    path = recipe_path("leave_one_out", recipe)
    from clara.eval.leave_one_out import leave_one_out as run

    run(path, settings, typer.echo)
