"""Verbs about other forms of checkpoints: convert, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clara.cli.app import app, check_model, check_paths
from clara.errors import require, unknown

FORMATS = ("onnx",)


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


@app.command()
def export(
    name: Annotated[str, typer.Argument(help="arch.tag, hf:org/repo[@revision] or dir:path.", show_default=False)],
    folder: Annotated[Path, typer.Argument(help="Folder to write.", show_default=False)],
    to: Annotated[str, typer.Option("--to", help="The format: onnx.")] = "onnx",
    int8: Annotated[bool, typer.Option("--int8", help="Matrices in 8 bits.")] = False,
) -> None:
    """Write a checkpoint as ONNX, audio and text with its tokenizer, for onnx:FOLDER in Python or other runtimes."""
    if to not in FORMATS:
        raise unknown("format to export to", to, FORMATS)
    check_model(name)
    require("onnxruntime", "onnx")
    from clara.zoo.export import export_onnx
    from clara.zoo.loading import load

    export_onnx(load(name, "cpu"), folder, int8)
    size = sum(p.stat().st_size for p in folder.iterdir() if p.is_file()) / 2**20
    typer.echo(f"{folder}: {size:.0f} MiB. Use it as clara.load('onnx:{folder}')")
