"""Verbs about libraries of audio: index, search."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clara.cli.app import (
    DEFAULT_MODEL,
    BatchSize,
    Device,
    Hop,
    Json,
    Model,
    SkipBroken,
    Sources,
    Window,
    app,
    audio_items,
    check_model,
    check_paths,
    left_out,
    room_for,
)
from clara.cli.models import at_terminal
from clara.errors import ClaraError, require
from clara.saving import safetensors_file

if TYPE_CHECKING:
    from clara.apps.query import Searchable

ON_DISK = ".lance"  # the suffix of an index that LanceDB keeps


@app.command()
def index(
    sources: Sources,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The index: NAME.safetensors, or NAME.lance, a folder (clara[search]).")
    ],
    table: Annotated[
        Path | None, typer.Option(help="CSV with more columns for filters; its column 'audio' names files.")
    ] = None,
    window: Window = None,
    hop: Hop = None,
    model: Model = DEFAULT_MODEL,
    device: Device = None,
    batch_size: BatchSize = 16,
    skip_broken: SkipBroken = False,
) -> None:
    """Make a library searchable; a NAME.lance is brought up to date, only files that changed are embedded."""
    on_disk = out.suffix == ON_DISK
    if table is not None and not on_disk:
        raise ClaraError(f"--table needs an index with columns: name it {out.with_suffix(ON_DISK)}.")
    check_model(model)
    check_paths(table)
    found = audio_items(sources, skip_broken)
    if on_disk:
        require("lancedb", "search")
        from clara.apps.lance_rows import read_columns

        columns = None if table is None else read_columns(table)
    else:
        room_for(safetensors_file(out))
    from clara.zoo.loading import load

    zoo = load(model, device, window=window, hop=hop)
    how = {"batch_size": batch_size, "progress": at_terminal(), "broken": left_out(skip_broken)}
    if on_disk:
        from clara.apps.lance_index import LanceIndex

        library = LanceIndex.open(out, zoo)
        changes = library.update(zoo, sources, columns, **how)  # type: ignore[arg-type]
        typer.echo(f"{changes} -> {out}: {len(library)} windows of {library.files()} files")
        return
    from clara.apps.search import Index

    made = Index.build(zoo, found, **how)  # type: ignore[arg-type]
    file = made.save(out)
    typer.echo(f"{len(made)} windows of {len(set(made.paths))} files -> {file}")


@app.command()
def search(
    query: Annotated[str | None, typer.Argument(help="What to look for, in any of the model's languages.")] = None,
    index: Annotated[Path | None, typer.Option(help="What `clara index` wrote.")] = None,
    folder: Annotated[list[str], typer.Option(help="Instead: files and folders, embedded now; may be repeated.")] = [],  # noqa: B006
    like: Annotated[str | None, typer.Option("--like", help="An audio file: find what sounds like it.")] = None,
    weight: Annotated[
        float, typer.Option(min=0, max=1, help="The text's share beside --like; the clip has the rest.")
    ] = 0.5,
    unlike: Annotated[
        list[str], typer.Option("--not", help="A text or audio file that hits are not like; may be repeated.")
    ] = [],  # noqa: B006
    where: Annotated[
        str | None, typer.Option(help="A filter in SQL, of a NAME.lance: \"duration < 5 and language = 'de'\".")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Clips shown.")] = 5,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write: .csv, .json, .m3u (a playlist), .txt.")
    ] = None,
    window: Window = None,
    hop: Hop = None,
    as_json: Json = False,
    model: Model = DEFAULT_MODEL,
    device: Device = None,
    skip_broken: SkipBroken = False,
) -> None:
    """Find clips in an index or in folders by a text, by a clip, or by both."""
    _check_query(query, like, index, folder, where)
    check_model(model)
    clip = None if like is None else audio_items([like])[0]
    others = [Path(audio_items([x])[0]) if _is_audio(x) else x for x in unlike]
    items = audio_items(folder, skip_broken) if folder else []
    from clara.apps.hit_files import as_json as json_of
    from clara.apps.hit_files import as_table, check_hit_file, write_hits

    if out is not None:
        check_hit_file(out)
        room_for(out)
    from clara.apps.search import Index
    from clara.zoo.loading import load

    found = None if index is None else opened(index)
    if found is not None and where is not None:
        found = found.where(where)
    zoo = load(model, device, window=window, hop=hop)
    library = found or Index.build(zoo, items, progress=at_terminal(), broken=left_out(skip_broken))
    hits = library.query(zoo, text=query, audio=clip, unlike=others, weight=weight, top=top)
    if out is not None:
        write_hits(out, hits)
        return
    typer.echo(json_of(hits) if as_json else as_table(hits))


def _check_query(query: str | None, like: str | None, index: Path | None, folder: list[str], where: str | None) -> None:
    """ClaraError for options that do not go together, and for an index that is not there."""
    if (index is None) == (not folder):
        raise ClaraError("Give --index FILE (what clara index wrote) or --folder DIR (embedded now), one of them.")
    if query is None and like is None:
        raise ClaraError("Give a text to search by, or --like FILE, or both.")
    if query is not None and _is_audio(query):
        raise ClaraError(f"{query} is an audio file: write --like {query} to find what sounds like it.")
    if where is not None and (index is None or index.suffix != ON_DISK):
        raise ClaraError(f"--where needs an index with columns: clara index … --out NAME{ON_DISK}.")
    if index is not None:
        check_paths(index if index.suffix == ON_DISK else safetensors_file(index))


def _is_audio(text: Any) -> bool:
    from clara.audio.sources import EXTENSIONS

    return Path(text).suffix.lower() in EXTENSIONS and Path(text).is_file()


def opened(path: Path) -> Searchable:
    """The index at `path`; its suffix says which kind. ClaraError as of their classes."""
    if path.suffix != ON_DISK:
        from clara.apps.search import Index

        return Index.load(path)
    from clara.apps.lance_index import LanceIndex

    return LanceIndex.open(path)
