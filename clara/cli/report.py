"""Verbs about results: card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clara.cli.app import app


@app.command()
def card(
    name: Annotated[str, typer.Argument(help="A checkpoint that travels with the package.")],
    results: Annotated[list[Path], typer.Argument(help="JSON of clara eval; none: what is kept.")] = [],  # noqa: B006
    every: Annotated[
        bool, typer.Option("--all", help="Take the main figures of all, not those chosen before.")
    ] = False,
) -> None:
    """Fill a checkpoint's card from result files; a figure without one is removed."""
    from clara.eval.cards import fill_card

    figures = fill_card(name, results, every, typer.echo)
    typer.echo(f"{name}: {len(figures)} figures")
