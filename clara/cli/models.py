"""Verbs about models and audio: list, show, languages, embed, classify, demo."""

from __future__ import annotations

import csv
import json
import sys
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
from clara.config import CONFIGS
from clara.errors import ClaraError, MissingDependency, unknown
from clara.saving import whole_file
from clara.zoo import catalog

if TYPE_CHECKING:
    from clara.apps.classifier import Classifier, Prediction
    from clara.zoo.embedder import Embedder


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
    """Models by name: architectures and checkpoints; with a filter the checkpoints that fit all of them."""
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
        about = f"{row.terms:<14}  {spoken:<12}  {', '.join(row.tasks)}" if row else "architecture, no weights"
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
) -> None:
    """Embed audio into an .npz: audio (N, D) float32 of unit length, paths, model, sha256; --windows adds times."""
    if out.suffix != ".npz":
        raise ClaraError(f"--out {out}: expected a name that ends in .npz.")
    check_model(model)
    found = audio_items(sources, skip_broken)
    room_for(out)
    import numpy as np

    from clara.apps.search import embed_sources, embed_windows_of
    from clara.audio.sources import describe
    from clara.data.parallel import sole_writer

    with sole_writer(out):
        zoo = _load(model, device, window, hop)
        how = (batch_size, at_terminal(), left_out(skip_broken))
        times: dict[str, Any] = {}
        if windows:
            items, times_W2, audio = embed_windows_of(zoo, found, *how)
            times = {"times": times_W2.numpy()}
        else:
            items, audio = embed_sources(zoo, found, *how)
        paths = np.array([describe(i) for i in items])
        with whole_file(out) as part, part.open("wb") as file:
            np.savez(file, audio=audio.numpy(), paths=paths, model=zoo.name, sha256=zoo.sha256, **times)
    typer.echo(f"{len(items)} {'windows' if windows else 'clips'} -> {out}, {audio.shape[1]} numbers each")


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
    independent: Annotated[
        bool, typer.Option("--independent", help="Each label by itself: several may be heard, or none.")
    ] = False,
    min_score: Annotated[
        float | None, typer.Option(min=0, max=1, help="None of these below it; default: 0, independent 0.5.")
    ] = None,
    as_json: Json = False,
    model: Model = DEFAULT_MODEL,
    device: Device = None,
    batch_size: BatchSize = 16,
    skip_broken: SkipBroken = False,
) -> None:
    """Classify recordings by a task's labels or your own."""
    own = [label for line in labels for label in _listed(line)] or None
    fitted = _fitted(model, task is not None or own is not None or bool(template) or independent)
    if not fitted:
        _check_labels(own, task, language, template, 1 if independent else 2)
        check_model(model)
    given = audio_items(sources, skip_broken)
    unlabelled = None if calibrate is None else audio_items([str(calibrate)])
    from clara.apps.classifier import Classifier
    from clara.apps.search import embed_sources

    if fitted:
        classifier = Classifier.load(model, device=device, window=window, hop=hop)
    else:
        classifier = Classifier(_load(model, device, window, hop), own, task, language, template or None, independent)
    classifier.min_score = classifier.min_score if min_score is None else min_score
    if unlabelled is not None:
        classifier.calibrate(unlabelled, calibration, batch_size)
    broken = left_out(skip_broken)
    found: list[tuple[Any, dict[str, float], Prediction]]
    if windows:
        spans = [(i, *window) for i in given for window in _windows(classifier, i, batch_size, broken)]
        found = [(i, {"start": round(start, 3), "end": round(end, 3)}, p) for i, start, end, p in spans]
    else:
        items, audio_BD = embed_sources(classifier.zoo, given, batch_size, at_terminal(), broken)
        found = [(i, {}, p) for i, p in zip(items, classifier.predict(audio_BD))]
    _print_predictions([_record(classifier, item, span, p, top) for item, span, p in found], as_json)


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


def _print_predictions(records: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(records, ensure_ascii=False, indent=1))
        return
    for r in records:
        at = f"  {r['start']:8.1f}–{r['end']:.1f} s" if "start" in r else ""
        names = ", ".join(f"{s['name']} {s['score']:.2f}" for s in r["top"])
        none = "none of these: " if r["label"] is None else ""
        typer.echo(f"{r['file']}{at}  {none}{names}{'  (calibrated)' if r['calibrated'] else ''}")


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


def _load(model: str, device: str | None, window: float | None, hop: float | None) -> Embedder:
    from clara.zoo.loading import load

    return load(model, device, window=window, hop=hop)


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


def at_terminal() -> bool:
    """Whether somebody watches: a progress bar is for them alone. A closed standard error is None."""
    return sys.stderr is not None and sys.stderr.isatty()
