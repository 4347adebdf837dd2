"""Verbs about models and audio: list, show, languages, embed, demo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from clara.cli.app import (
    DEFAULT_MODEL,
    BatchSize,
    Device,
    Hop,
    Model,
    SkipBroken,
    Sources,
    Window,
    app,
    audio_items,
    check_model,
    left_out,
    room_for,
)
from clara.config import CONFIGS
from clara.errors import ClaraError, unknown
from clara.zoo import catalog


@app.command("list")
def list_verb(
    pattern: Annotated[str, typer.Argument(help="Shell wildcards.")] = "*",
    licence: Annotated[
        str | None,
        typer.Option(
            "--licence", "--license", help="permissive, non-commercial, restricted, none stated, or a part of its name."
        ),
    ] = None,
    task: Annotated[str | None, typer.Option(help="emotion, sound, music, word, retrieval …")] = None,
    language: Annotated[str | None, typer.Option(help="A language of its training texts: de, German.")] = None,
) -> None:
    """Models by name: architectures and checkpoints; with a filter the checkpoints that fit all of them.

    local: loads without a network; downloadable: by its name; convertible: fetch its file, then `clara convert`.
    """
    from clara.zoo.fetch import place

    filtered = (licence, task, language) != (None, None, None)
    names = catalog.list_pretrained(pattern, licence, task, language) if filtered else catalog.list_models(pattern)
    if not names and catalog.list_models(pattern):
        raise ClaraError("No checkpoint fits all of these filters: leave one out.")
    if not names:
        raise unknown("model", pattern, catalog.list_models())
    width = max(map(len, names))
    for name in names:
        row = catalog.CHECKPOINTS.get(name)
        spoken = (
            ""
            if row is None
            else " ".join(row.languages)
            if len(row.languages) < 5
            else f"{len(row.languages)} languages"
        )
        about = "architecture, no weights"
        if row is not None:
            about = f"{place(row):<12}  {row.terms:<14}  {spoken:<12}  {', '.join(row.tasks)}"
        typer.echo(f"{name:<{width}}  {about}")


@app.command()
def show(name: Annotated[str, typer.Argument(help="arch, arch.tag, hf:org/repo or dir:path.")]) -> None:
    """One model: where it comes from, its licence, training data and card, or its configuration."""
    read = catalog.parse_name(name)
    if read.kind == "arch":
        typer.echo((CONFIGS / f"{read.value}.yaml").read_text(encoding="utf-8").rstrip())
        return
    if read.kind == "checkpoint":
        row = catalog.checkpoint(read.value)
        typer.echo("\n".join(catalog.describe(row)))
        typer.echo("\n" + catalog.card(row.name)[1].rstrip())
        return
    folder = catalog.checkpoint_folder(read)
    from clara.zoo.factory import CARD, CONFIG, read_config

    read_config(folder)
    typer.echo(f"folder: {folder}\n\n{(folder / CONFIG).read_text(encoding='utf-8')}")
    if (folder / CARD).is_file():
        typer.echo((folder / CARD).read_text(encoding="utf-8").rstrip())


@app.command()
def languages() -> None:
    """Languages with label names and templates, and what they name."""
    from clara.text.prompts import languages as codes
    from clara.text.prompts import load_language

    for code in codes():
        language = load_language(code)
        typer.echo(f"{code}  {language.english_name:<12} {language.name:<17} {' '.join(language.terms)}")


@app.command()
def embed(
    sources: Sources,
    out: Annotated[Path, typer.Option("--out", "-o", help="The .npz file to write.")],
    windows: Annotated[bool, typer.Option("--windows", help="One row per window, with times.")] = False,
    window: Window = None,
    hop: Hop = None,
    model: Model = DEFAULT_MODEL,
    device: Device = None,
    batch_size: BatchSize = 16,
    skip_broken: SkipBroken = False,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Threads that read audio ahead; default: 4 with a GPU, else 0.")
    ] = None,
) -> None:
    """Embed audio into an .npz: audio (N, D) float32 of unit length, paths, model, sha256; --windows adds times.

    The same call goes on where an earlier one stopped.
    """
    if out.suffix != ".npz":
        raise ClaraError(f"--out {out}: expected a name that ends in .npz.")
    check_model(model)
    found = audio_items(sources, skip_broken)
    room_for(out)
    from clara.apps.embedding_file import EmbedConfig, write_embeddings
    from clara.zoo.loading import load

    zoo = load(model, device, window=window, hop=hop)
    zoo.readers = zoo.readers if workers is None else workers
    done = write_embeddings(zoo, found, out, EmbedConfig(windows, batch_size), left_out(skip_broken), at_terminal())
    if done.resumed:
        typer.echo(f"{done.resumed} clips were done by a former run", err=True)
    failed = f"; {done.failed} could not be read (listed under 'failed' there)" if done.failed else ""
    typer.echo(f"{done.rows} {'windows' if windows else 'clips'} -> {out}, {done.width} numbers each{failed}")


@app.command()
def demo(
    files: Annotated[list[str] | None, typer.Argument(help="Your own audio, beside what the demo makes.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the sounds and the picture.")] = Path("demo_out"),
    model: Model = DEFAULT_MODEL,
) -> None:
    """Name, search and picture sounds that it makes itself, and FILES."""
    check_model(model)
    own = audio_items(files) if files else []
    from clara.apps.demo import run

    run(own, out, model)


def at_terminal() -> bool:
    """Whether somebody watches: a progress bar is for them alone. A closed standard error is None."""
    return sys.stderr is not None and sys.stderr.isatty()
