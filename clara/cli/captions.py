"""Verbs about captions: captions acoustic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clara.cli.app import Verbs, app

captions = typer.Typer(cls=Verbs, no_args_is_help=True, help="Make captions: of voices, of pictures, of captions.")
app.add_typer(captions, name="captions")

Workers = Annotated[int, typer.Option(min=1, help="Processes.")]


@captions.command()
def acoustic(
    source: Annotated[Path, typer.Argument(help="Manifest (.jsonl) or folder of shards.")],
    out: Annotated[Path, typer.Argument(help="The same again, with what is heard of each voice.")],
    outer: Annotated[float, typer.Option(help="Share of clips at each end of a measure that may get a word.")] = 0.2,
    least_clips: Annotated[int, typer.Option(help="A speaker or corpus with fewer says nothing.")] = 20,
    workers: Workers = 1,
) -> None:
    """Measure voices and say which are clearly high, low, loud, quiet, fast, slow … (resumable)."""
    from clara.data.acoustics import AcousticConfig, annotate

    counts = annotate(source, out, AcousticConfig(outer, least_clips, workers))
    said = ", ".join(f"{word} {n}" for word, n in counts.items() if word != "clips")
    typer.echo(f"{out}: {counts['clips']} voices; {said or 'no word for any'}")
