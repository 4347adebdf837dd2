"""Verbs about results: report, card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clara.cli.app import app, check_paths
from clara.zoo import catalog


@app.command()
def report(
    results: Annotated[list[Path], typer.Argument(help="JSON files of clara eval.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write: .html or .md.")] = Path("report.html"),
    method: Annotated[str, typer.Option("--map", help="Of embeddings: pca, or tsne (needs scikit-learn).")] = "pca",
) -> None:
    """One page of results: tables, differences between models, confusions, maps, examples, speed."""
    check_paths(*results)
    from clara.report.page import write_report

    typer.echo(write_report(results, out, method, lambda line: typer.echo(line, err=True)))


@app.command()
def card(
    name: Annotated[str, typer.Argument(help="A checkpoint that travels with the package.")],
    results: Annotated[list[Path], typer.Argument(help="JSON of clara eval; none: what is kept.")] = [],  # noqa: B006
    every: Annotated[
        bool, typer.Option("--all", help="Take the main figures of all, not those chosen before.")
    ] = False,
) -> None:
    """Fill a checkpoint's card from result files; a figure without one is removed."""
    catalog.checkpoint(name)
    check_paths(*results)
    from clara.report.cards import fill_card

    figures = fill_card(name, results, every, typer.echo)
    typer.echo(f"{name}: {len(figures)} figures")
