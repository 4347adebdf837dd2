"""The verb that finds moments in recordings: find."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from clara.zoo.events import Timeline


Also = Annotated[list[str], typer.Option(help="Something more to listen for; may be repeated.")]
Out = Annotated[
    list[Path],
    typer.Option(
        "--out", "-o", help="File to write: .rttm, .txt (Audacity), .csv, .json, .png, .svg, .pdf; repeatable."
    ),
]
Threshold = Annotated[float, typer.Option(help="Score at which an event begins, 0 to 1.")]
Low = Annotated[float | None, typer.Option(help="Score down to which it goes on; default: half of it.")]
Against = Annotated[
    list[str], typer.Option(help="What it could be instead; may be repeated; default: 81 sounds and silence.")
]
Constant = Annotated[bool, typer.Option("--constant", help="Find also what sounds for most of a recording.")]
Frames = Annotated[bool, typer.Option("--frames", help="Pool the model's frames: faster, heard in context.")]


@app.command()
def find(
    query: Annotated[str, typer.Argument(help="What to listen for, in any of the model's languages.")],
    sources: Sources,
    also: Also = [],  # noqa: B006
    out: Out = [],  # noqa: B006
    threshold: Threshold = 0.6,
    low: Low = None,
    least: Annotated[float, typer.Option(help="Seconds of the shortest event.")] = 0.2,
    gap: Annotated[float, typer.Option(help="Seconds between events that are taken for one.")] = 0.5,
    against: Against = [],  # noqa: B006
    constant: Constant = False,
    frames: Frames = False,
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
    from clara.zoo.events import FindConfig
    from clara.zoo.loading import load

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
    if as_json:
        found = records({name: line.events() for name, line in timelines.items()})
        typer.echo(json.dumps(found, ensure_ascii=False, indent=1))
        return
    for name, line in timelines.items():
        _print_events(name, line)


def _print_events(name: str, line: Timeline) -> None:
    for e in line.events():
        typer.echo(f"{name}  {e.start:8.1f}–{e.end:.1f} s  {e.score:.2f}  {e.text}")
    if not line.events():
        highest, needed = line.scores_QN.max(), line.config.threshold
        typer.echo(f"{name}: nothing found; the highest score is {highest:.2f} (--threshold {needed:g})", err=True)
