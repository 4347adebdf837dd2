"""The verb that names what is heard: classify."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
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
from clara.errors import ClaraError, MissingDependency
from clara.report.text import csv_of
from clara.saving import whole_file

if TYPE_CHECKING:
    from clara.apps.classifier import Classifier
    from clara.apps.predictions import Prediction


Independent = Annotated[
    bool, typer.Option("--independent", help="Each label by itself: several may be heard, or none.")
]
MinScore = Annotated[
    float | None, typer.Option(min=0, max=1, help="None of these below it; default: 0, independent 0.5.")
]
Csv = Annotated[bool, typer.Option("--csv", help="Print CSV: a row for each clip, or window.")]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="Write a file instead: .csv or .json, unless --csv or --json.")
]


@app.command()
def classify(
    sources: Sources,
    task: Annotated[
        str | None, typer.Option(help="emotion, sound, instrument, word, language, speaker, arousal, voice.")
    ] = None,
    language: Annotated[
        str, typer.Option(help="Language of a task's labels: de, de-AT, German or Deutsch (see clara languages).")
    ] = "en",
    labels: Annotated[
        list[str],
        typer.Option(help="Own labels, or some of a task's: 'dog,\"rain, then wind\"'; may be repeated."),
    ] = [],  # noqa: B006
    template: Annotated[list[str], typer.Option(help="Text with {} for the label; may be repeated.")] = [],  # noqa: B006
    top: Annotated[int, typer.Option(min=1, help="Labels shown.")] = 3,
    windows: Annotated[bool, typer.Option("--windows", help="One answer per window, with times.")] = False,
    window: Window = None,
    hop: Hop = None,
    calibrate: Annotated[Path | None, typer.Option(help="Folder of unlabelled clips of the same kind.")] = None,
    calibration: Annotated[str, typer.Option(help="mean (balanced labels), prior (unbalanced) or auto.")] = "auto",
    independent: Independent = False,
    min_score: MinScore = None,
    as_json: Json = False,
    as_csv: Csv = False,
    out: Out = None,
    model: Model = DEFAULT_MODEL,
    device: Device = None,
    batch_size: BatchSize = 16,
    skip_broken: SkipBroken = False,
) -> None:
    """Classify recordings by a task's labels or your own."""
    form = _form(as_json, as_csv, out)
    own = [label for line in labels for label in _listed(line)] or None
    fitted = _fitted(model, task is not None or own is not None or bool(template) or independent)
    if not fitted:
        _check_labels(own, task, language, template, 1 if independent else 2)
        check_model(model)
    given = audio_items(sources, skip_broken)
    unlabelled = None if calibrate is None else audio_items([str(calibrate)])
    if out is not None:
        room_for(out)
    from clara.apps.classifier import Classifier
    from clara.zoo.loading import load

    if fitted:
        classifier = Classifier.load(model, device=device, window=window, hop=hop)
    else:
        zoo = load(model, device, window=window, hop=hop)
        classifier = Classifier(zoo, own, task, language, template or None, independent)
    classifier.min_score = classifier.min_score if min_score is None else min_score
    if unlabelled is not None:
        classifier.calibrate(unlabelled, calibration, batch_size)
    found = _answers(classifier, given, windows, batch_size, left_out(skip_broken))
    _show([_record(classifier, item, span, p, top) for item, span, p in found], form, out)


def _answers(
    classifier: Classifier, given: list[Any], windows: bool, batch_size: int, broken: Callable[[str], None] | None
) -> list[tuple[Any, dict[str, float], Prediction]]:
    """(clip, start and end of the window where each has an answer of its own, answer)."""
    from clara.apps.search import embed_sources

    if windows:
        spans = [(i, *window) for i in given for window in _windows(classifier, i, batch_size, broken)]
        return [(i, {"start": round(start, 3), "end": round(end, 3)}, p) for i, start, end, p in spans]
    items, audio_BD = embed_sources(classifier.zoo, given, batch_size, at_terminal(), broken)
    return [(i, {}, p) for i, p in zip(items, classifier.predict(audio_BD))]


def _record(classifier: Classifier, item: Any, span: dict[str, float], p: Prediction, top: int) -> dict[str, Any]:
    from clara.audio.sources import describe

    scores = [{"label": k, "name": classifier.names[k], "score": round(s, 4)} for k, s in p.top(top)]
    return {"file": describe(item), **span, "label": p.label, "calibrated": p.calibrated, "top": scores}


def _fitted(model: str, labels: bool) -> bool:
    """Whether --model names a file of `clara fit`. ClaraError where it is not there, or labels come beside it."""
    if not model.endswith(".safetensors") or model.startswith(("dir:", "hf:")):
        return False
    check_paths(Path(model))
    if labels:
        raise ClaraError(f"{model} has labels of its own: leave out --task, --labels, --template and --independent.")
    return True


def _check_labels(own: list[str] | None, task: str | None, language: str, template: list[str], least: int) -> None:
    if task is None and not own:
        raise ClaraError(
            'Give --task emotion (sound, instrument, word, …), or labels of your own: --labels "dog,rain".'
        )
    from clara.text.prompts import label_texts

    label_texts(own, task, language, template or None, least)


def _form(as_json: bool, as_csv: bool, out: Path | None) -> str:
    """How predictions are written: 'text', 'json' or 'csv'. ClaraError for two at once, or a file of another kind."""
    if as_json and as_csv:
        raise ClaraError("Give --json or --csv, one of them.")
    if as_json or as_csv or out is None:
        return "json" if as_json else "csv" if as_csv else "text"
    if (suffix := out.suffix.lower()) not in (".json", ".csv"):
        raise ClaraError(f"--out {out}: expected a name that ends in .csv or .json, or --csv or --json beside it.")
    return suffix[1:]


def _show(records: list[dict[str, Any]], form: str, out: Path | None) -> None:
    """Print predictions, or write them to a file, whole or not at all."""
    written = {"text": _as_text, "json": _as_json, "csv": _as_csv}[form](records)
    if out is None:
        typer.echo(written, nl=bool(records))
        return
    with whole_file(out) as part:
        part.write_text(f"{written}\n", encoding="utf-8", errors="backslashreplace", newline="")
    typer.echo(f"{len(records)} answers -> {out}")


def _as_json(records: list[dict[str, Any]]) -> str:
    return json.dumps(records, ensure_ascii=False, indent=1)


def _as_text(records: list[dict[str, Any]]) -> str:
    lines = []
    for r in records:
        at = f"  {r['start']:8.1f}–{r['end']:.1f} s" if "start" in r else ""
        names = ", ".join(f"{s['name']} {s['score']:.2f}" for s in r["top"])
        none = "none of these: " if r["label"] is None else ""
        lines.append(f"{r['file']}{at}  {none}{names}{'  (calibrated)' if r['calibrated'] else ''}")
    return "\n".join(lines)


def _as_csv(records: list[dict[str, Any]]) -> str:
    """The columns file, start and end of a window, label (empty: none of these) and whether calibrated, then label,
    name and score of the best, the second …"""
    rows = []
    for r in records:
        row = {**r, "label": r["label"] or ""}
        for i, s in enumerate(row.pop("top"), start=1):
            row |= {f"{key}_{i}": value for key, value in s.items()}
        rows.append(row)
    return csv_of(rows)


def _windows(
    classifier: Classifier, item: Any, batch_size: int, broken: Callable[[str], None] | None
) -> list[tuple[float, float, Prediction]]:
    try:
        return classifier.windows(item, batch_size)
    except ClaraError as e:
        if broken is None or isinstance(e, MissingDependency):
            raise
        broken(str(e))
        return []


def _listed(line: str) -> list[str]:
    """The labels of a line of CSV: between commas, or within quotes, where commas are letters."""
    try:
        return [label.strip() for label in next(csv.reader([line], skipinitialspace=True, strict=True), [""])] or [""]
    except csv.Error as e:
        raise ClaraError(f"--labels {line!r}: {e}. Quote a whole label: 'dog,\"rain, then wind\"'.") from e
