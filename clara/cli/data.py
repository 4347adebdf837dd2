"""Verbs about data: shards, corpus."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clara.cli.app import SkipBroken, app
from clara.errors import ClaraError

if TYPE_CHECKING:
    from clara.data.manifest import Row

SHOWN = 10  # clips that are left out are named one by one, so many of them


@app.command()
def shards(
    out: Annotated[Path, typer.Argument(help="Folder of shards to write, or to verify.")],
    manifest: Annotated[Path | None, typer.Option(help="Rows as JSON Lines.")] = None,
    corpus: Annotated[str | None, typer.Option(help="A corpus by name, or the path of its .py file.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the corpora, or of this one as published.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Check shards: truncation, decoding, keys.")] = False,
    audio_format: Annotated[str, typer.Option("--format", help="flac, opus, ogg or wav.")] = "flac",
    sample_rate: Annotated[int, typer.Option(help="Hz.")] = 16000,
    samples: Annotated[int, typer.Option(help="Clips per shard.")] = 512,
    max_seconds: Annotated[float | None, typer.Option(help="Cut longer clips into equal parts.")] = None,
    skip_broken: SkipBroken = False,
    workers: Annotated[int, typer.Option(help="Processes.")] = 2,
) -> None:
    """Write webdataset shards from a manifest or a corpus (resumable), or verify them."""
    from clara.data.corpora import corpus_folder
    from clara.data.manifest import read_manifest, rows_from_corpus
    from clara.data.shards import ShardConfig, verify_shards, write_shards

    if verify:
        problems = verify_shards(out)
        for problem in problems:
            typer.echo(str(problem))
        typer.echo(f"{len(problems)} problems in {out}")
        raise typer.Exit(1 if problems else 0)
    if manifest is not None and corpus is None and data is None:
        rows: Iterable[Row] = read_manifest(manifest)
    elif manifest is None and corpus is not None and data is not None:
        rows = rows_from_corpus(corpus, corpus_folder(corpus, data))
    else:
        raise ClaraError("Give --manifest ROWS.jsonl, or --corpus NAME with --data FOLDER, or --verify.")
    on_error = "skip" if skip_broken else "raise"
    index = write_shards(rows, out, ShardConfig(samples, audio_format, sample_rate, workers, max_seconds, on_error))
    skipped = [s for shard in index["shards"] for s in shard["skipped"]]
    for s in skipped[:SHOWN]:
        typer.echo(s["why"], err=True)
    left_out = f", {len(skipped)} left out (index.json says which and why)" if skipped else ""
    counts = f"{index['count']} clips, {index['hours']:.2f} h, {len(index['shards'])} shards"
    typer.echo(f"{out / 'index.json'}: {counts}{left_out}")


@app.command()
def corpus(
    name: Annotated[str | None, typer.Argument(help="A corpus, or the path of its .py file; none: list them.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the corpora, or of this one as published.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Count files against the published number.")] = False,
) -> None:
    """Say where a corpus comes from, under which licence, and whether a folder holds all of it."""
    from clara.data.corpora import take_inventory
    from clara.data.manifest import corpus_names, load_corpus

    if name is None:
        for known in corpus_names():
            info = load_corpus(known).INFO
            typer.echo(f"{known:16} {info.task:8} {' '.join(info.languages) or '-':5} {info.license}")
        return
    module = load_corpus(name)
    if data is None:
        if check:
            raise ClaraError(f"--check needs --data FOLDER, the folder of {name} in its official layout.")
        info = module.INFO
        published = ", ".join(f"{part} {n}" for part, n in info.clips.items()) or "not counted"
        typer.echo(f"{str(module.__doc__).strip()}\n")
        for key, value in (("licence", info.license), ("cite", info.citation), ("clips", published)):
            typer.echo(f"{key}: {value}")
        return
    found = take_inventory(name, data)
    typer.echo("\n".join(found.lines()))
    if check:
        typer.echo(f"{name}: {'complete' if found.complete else 'not complete'}")
        raise typer.Exit(0 if found.complete else 1)
