"""The verb that finds moments in recordings: find."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

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
    left_out,
    room_for,
)
from clara.errors import ClaraError, MissingDependency


@app.command()
def find(
    query: Annotated[str, typer.Argument(help="What to listen for, in any of the model's languages.")],
    sources: Sources,
    also: Annotated[list[str], typer.Option(help="Something more to listen for; may be repeated.")] = [],  # noqa: B006
    out: Annotated[
        list[Path],
        typer.Option(
            "--out", "-o", help="File to write: .rttm, .txt (Audacity), .csv, .json, .png, .svg, .pdf; repeatable."
        ),
    ] = [],  # noqa: B006
    threshold: Annotated[float, typer.Option(help="Score at which an event begins, 0 to 1.")] = 0.6,
    low: Annotated[float | None, typer.Option(help="Score down to which it goes on; default: half of it.")] = None,
    least: Annotated[float, typer.Option(help="Seconds of the shortest event.")] = 0.2,
    gap: Annotated[float, typer.Option(help="Seconds between events that are taken for one.")] = 0.5,
    against: Annotated[
        list[str], typer.Option(help="What it could be instead; may be repeated; default: 81 sounds and silence.")
    ] = [],  # noqa: B006
    constant: Annotated[
        bool, typer.Option("--constant", help="Find also what sounds for most of a recording.")
    ] = False,
    frames: Annotated[
        bool, typer.Option("--frames", help="Pool the model's frames: faster, heard in context.")
    ] = False,
    window: Window = None,
    hop: Hop = None,
    as_json: Json = False,
    model: Model = DEFAULT_MODEL,
    device: Device = None,
    batch_size: BatchSize = 16,
    skip_broken: SkipBroken = False,
) -> None:
    """Find when recordings of any length sound like a text."""
    check_model(model)
    items = audio_items(sources, skip_broken)
    from clara.apps.event_files import check_format, records, write_events
    from clara.audio.sources import describe
    from clara.zoo.embedder import load
    from clara.zoo.events import FindConfig, Timeline

    config = FindConfig(threshold, low, least, gap, tuple(against) or None, constant, frames)
    for path in out:
        check_format(path, len(items))
        room_for(path)
    zoo, broken = load(model, device, window=window, hop=hop), left_out(skip_broken)
    timelines: dict[str, Timeline] = {}
    for item in items:
        try:
            timelines[describe(item)] = zoo.timeline(item, [query, *also], batch_size=batch_size, config=config)
        except ClaraError as e:
            if broken is None or isinstance(e, MissingDependency):
                raise
            broken(str(e))
    for path in out:
        write_events(path, timelines)
    found = records({name: line.events() for name, line in timelines.items()})
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False, indent=1))
        return
    for r in found:
        typer.echo(f"{r['file']}  {r['start']:8.1f}–{r['end']:.1f} s  {r['score']:.2f}  {r['text']}")
    quiet = [name for name, line in timelines.items() if not line.events()]
    for name in quiet:
        highest = max(float(row.max()) for row in timelines[name].scores_QN)
        typer.echo(f"{name}: nothing found; the highest score is {highest:.2f} (--threshold {threshold:g})", err=True)
