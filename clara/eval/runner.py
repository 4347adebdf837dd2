"""Run an evaluation recipe: one YAML with named evaluations -> one JSON with all their results, pictures beside it."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clara.config import Spec, build, load_yaml, override, to_dict
from clara.errors import ClaraError, MissingDependency, require, unknown
from clara.eval import report
from clara.eval.clips import AudioTextEmbedder, Context, NoFolder, NotAtHand
from clara.eval.composed import ComposedConfig, composed_retrieval
from clara.eval.contamination import contamination, training_of
from clara.eval.embeddings import Supply
from clara.eval.keywords import KeywordConfig, keywords
from clara.eval.maps import write_sample
from clara.eval.probe import ProbeConfig, probe
from clara.eval.retrieval import RetrievalConfig, retrieval
from clara.eval.tables import MANY_LANGUAGES
from clara.eval.tagging import TaggingConfig, tagging
from clara.eval.transcripts import TranscriptConfig, transcripts
from clara.eval.zero_shot import ZeroShotConfig, zero_shot
from clara.train.distributed import World, processes

KINDS: dict[str, tuple[type, Callable[[Any, Context], dict[str, Any]]]] = {
    "zero_shot": (ZeroShotConfig, zero_shot),
    "retrieval": (RetrievalConfig, retrieval),
    "transcripts": (TranscriptConfig, transcripts),
    "composed_retrieval": (ComposedConfig, composed_retrieval),
    "probe": (ProbeConfig, probe),
    "tagging": (TaggingConfig, tagging),
    "keywords": (KeywordConfig, keywords),
}


TAUGHT = {"probe": "taught by clips", "keywords": "by text zero-shot, else taught by clips"}
FEW = 3  # corpora not at hand that are told with their sources


@dataclass(frozen=True)
class Recipe:
    """Named evaluations, each of a `kind` with that kind's options; `pictures`: draw confusion matrices and keep some
    embeddings for a map. `workers`: threads that decode. `cache`: folder where embeddings are kept by content, so that
    a run goes on where it was stopped and processes (torchrun) share the work; null: `embeddings` under the results.
    `limit`: at most so many clips of a set, classes in turn: a trial, which no card takes."""

    evaluations: dict[str, Spec]
    seed: int = 0
    batch_size: int = 16
    pictures: bool = True
    workers: int = 0
    cache: str | None = None
    limit: int | None = None


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> tuple[Recipe, dict[str, Any]]:
    """Read a recipe and each evaluation's config. ClaraError for any key, kind or type that is not known."""
    defaults = {f.name: f.default for f in dataclasses.fields(Recipe) if f.default is not dataclasses.MISSING}
    recipe = build(Recipe, override(defaults | load_yaml(path), overrides), where=path.name)
    if not recipe.evaluations:
        raise ClaraError(f"{path}: no evaluations.")
    configs = {}
    for name, spec in recipe.evaluations.items():
        if not re.fullmatch(r"[\w.-]+", name):  # it is part of the names of files, and of a figure's place in a card
            raise ClaraError(f"{path}: an evaluation is named {name!r}: expected letters, digits, '-', '_' and '.'.")
        if spec.kind not in KINDS:
            raise unknown(f"kind of {path.name}.evaluations.{name}", spec.kind, KINDS)
        configs[name] = build(KINDS[spec.kind][0], spec.options, where=f"{path.name}.evaluations.{name}")
    return recipe, configs


def run(
    recipe: Path | str,
    zoo: AudioTextEmbedder | str,
    data: Path | str,
    out: Path | str = "results",
    overrides: Sequence[str] = (),
    log: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Run every evaluation of a recipe and write `out/RECIPE.MODEL.json` (after each one, atomically).

    Args:
        zoo: a checkpoint, or its name.
        data: folder of the corpora's folders, one of these, or a folder of shards. Corpora that are not there are
            listed in the file under "not_at_hand".
        overrides: `a.b=value` settings, e.g. `evaluations.emodb.languages=[en]`.
        log: gets the headline figures, line by line.

    Returns:
        The results in the recipe's order, each with "name", "kind", "config" and its kind's fields.

    Raises:
        ClaraError: a fault of the recipe, the folders or the checkpoint, before anything is computed; no corpus at
            hand; and at the end, when the others are done, evaluations that the data did not allow.
    """
    path, out, data = Path(recipe), Path(out), Path(data)
    settings, configs = load_recipe(path, overrides)
    if settings.pictures:
        require("matplotlib", "demo")
    _check_folders(data, out)
    with processes() as world:
        cache = Path(settings.cache) if settings.cache else out / "embeddings"
        supply = Supply(settings.batch_size, settings.workers, cache, world)
        zoo = _loaded(zoo, world) if isinstance(zoo, str) else zoo
        context = Context(zoo, data, path, settings.seed, supply, settings.limit)
        file = out / f"{path.stem}.{re.sub(r'[^A-Za-z0-9.-]+', '_', zoo.name)}.json"
        made = report.provenance(zoo, settings.seed) | {"recipe": path.name, "overrides": list(overrides)}
        made |= {"results": [], "not_at_hand": []}
        absent, faults = {}, {}
        for name, config in configs.items():
            try:
                result = _evaluate(name, settings.evaluations[name].kind, config, context)
            except NotAtHand as e:
                absent[name] = e
                made["not_at_hand"].append({"name": name, "why": str(e)})
                continue
            except MissingDependency:
                raise
            except ClaraError as e:
                if world.size > 1 or len(configs) == 1:
                    raise
                faults[name] = e
                continue
            except KeyboardInterrupt:
                log(f"{name}: stopped. The same command goes on from there: embeddings are kept in {cache}.")
                raise
            made["results"].append(result)
            if world.main:
                _write(file, made, context, settings.pictures, log)
        _conclude(file, made, (absent, faults), data, log if world.main else None)
    return made["results"]


def _check_folders(data: Path, out: Path) -> None:
    """Before anything is computed: is there data, and can results be written?"""
    if not data.is_dir():
        raise ClaraError(f"No such folder: {data}. Expected --data to hold the folders of corpora, or to be one.")
    there = next(p for p in (out, *out.absolute().parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ClaraError(f"Results cannot be written into {out}: choose another folder with --out.")


def _write(file: Path, made: dict[str, Any], context: Context, pictures: bool, log: Callable[[str], None]) -> None:
    """The results so far, the newest one's pictures and headline."""
    result = made["results"][-1]
    if "manifest" in result:
        clips = file.with_name(f"{file.stem}.{result['name']}.clips.jsonl")
        result["manifest"] = report.write_clips(clips, result["manifest"])
    if pictures:
        kept = file.with_name(f"{file.stem}.{result['name']}.npz")
        if sample := write_sample(kept, context, result["config"].get("task")):
            result["embeddings"] = sample
    report.write_json(file, made)
    if pictures:
        _pictures(file.parent, file.stem, result)
    for line in report.headline(result):
        log(line)


def _conclude(
    file: Path,
    made: dict[str, Any],
    left_out: tuple[dict[str, NotAtHand], dict[str, ClaraError]],
    data: Path,
    log: Callable[[str], None] | None,
) -> None:
    """Say what was not at hand, tell many languages as one table, and raise what was wrong with some evaluations."""
    absent, faults = left_out
    if not made["results"] and not faults:
        whys = list(dict.fromkeys(str(e) for e in absent.values() if len(absent) <= FEW or not isinstance(e, NoFolder)))
        whys += [f"expected folders such as {', '.join(absent)}, or clips named as theirs"] if len(absent) > FEW else []
        raise ClaraError(f"Nothing of {made['recipe']} is at hand below {data}: {'; '.join(whys)}.")
    if log:
        if faults:
            made["faults"] = [{"name": name, "why": str(e)} for name, e in faults.items()]
        if made["results"]:
            report.write_json(file, made)
        for line in report.languages_table(made["results"]):
            log(line)
        for name, e in absent.items():
            if not isinstance(e, NoFolder):
                log(f"{name}: {e}")
        if names := [name for name, e in absent.items() if isinstance(e, NoFolder)]:
            log(f"not at hand below {data}: {', '.join(names)}")
        if made["results"]:
            log(f"results: {file}")
    if faults:
        whys = "; ".join(f"{name}: {e}" for name, e in faults.items())
        raise ClaraError(f"{len(faults)} of the evaluations could not be made. {whys}")


def _loaded(name: str, world: World) -> AudioTextEmbedder:
    from clara.zoo.embedder import load

    return load(name, world.device if world.size > 1 else None)


def _evaluate(name: str, kind: str, config: Any, context: Context) -> dict[str, Any]:
    """One evaluation, with the sha256 of the clips' names it was asked for, and the time that their embeddings took."""
    context.fresh()
    found = KINDS[kind][1](config, context)
    found["data"] = context.found
    if context.limit is not None:
        found["limit"] = context.limit
    parts: dict[str, set[str | None]] = {}
    for row in context.used:
        parts.setdefault(row.corpus, set()).add(row.speaker)
    found["contamination"] = contamination(parts, training_of(context.zoo.name), TAUGHT.get(kind))
    clips = sorted({os.path.relpath(row.audio, context.data) for row in context.used})
    spent = context.spent
    speed = {"embedded": spent.embedded, "cached": spent.cached, "seconds": round(spent.seconds, 3)}
    if spent.embedded and spent.seconds:
        speed["clips_per_second"] = round(spent.embedded / spent.seconds, 2)
    digest = hashlib.sha256("\n".join(clips).encode(errors="backslashreplace")).hexdigest()
    return {"name": name, "kind": kind, "config": to_dict(config), **found, "clips_sha256": digest, "speed": speed}


def _pictures(out: Path, stem: str, result: dict[str, Any]) -> None:
    """Confusion matrices as PNG, of many languages English's alone."""
    labels = list(result.get("labels", ()))
    codes = result.get("languages", {})
    shown = codes if len(codes) <= MANY_LANGUAGES else {"en": codes["en"]} if "en" in codes else {}
    tables = {code: r["plain"] for code, r in shown.items() if "plain" in r}
    tables |= {method: r for method, r in result.get("methods", {}).items() if "confusion" in r}
    for part, found in tables.items():
        title = f"{result['name']} ({part}): accuracy {found['accuracy']:.3f}, UAR {found['uar']:.3f}"
        path = out / f"{stem}.{result['name']}.{part}.png"
        report.confusion_picture(path, found["confusion"], labels, title)
