"""Verbs about other projects' checkpoints: convert."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clara.cli.app import app, check_paths


@app.command()
def convert(
    path: Annotated[Path, typer.Argument(help="The checkpoint's file or folder.", show_default=False)],
    to: Annotated[Path, typer.Option("--to", help="Folder to write.", show_default=False)],
    family: Annotated[str | None, typer.Option("--from", help="Whose it is; a folder may say so itself.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Folder, file or hub id instead of the family's own.")] = None,
    storage: Annotated[str | None, typer.Option(help="int8: a quarter of float32's bytes.")] = None,
) -> None:
    """Write another project's checkpoint, or one of ours in another storage, as a folder for -m dir:FOLDER."""
    check_paths(path)
    from clara.zoo.factory import convert_checkpoint, load_checkpoint

    folder = convert_checkpoint(path, to, family, tokenizer, storage)
    model = load_checkpoint(folder).model
    count = sum(p.numel() for p in model.parameters())
    typer.echo(f"{folder}: {count:,} parameters, {model.config.embed_dim} dimensions. Use it as dir:{folder}")
