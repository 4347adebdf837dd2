"""Run an evaluation recipe: one YAML with named evaluations -> one JSON with all their results, pictures beside it."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import clara
from clara.config import Spec, build, load_yaml, override, to_dict
from clara.errors import ClaraError, MissingDependency, require, unknown
from clara.eval.clips import AudioTextEmbedder, Context, NoFolder, NotAtHand, truth_of
from clara.eval.composed import ComposedConfig, composed_retrieval
from clara.eval.contamination import contamination, training_of
from clara.eval.embeddings import Supply
from clara.eval.keywords import KeywordConfig, keywords
from clara.eval.probe import ProbeConfig, probe
from clara.eval.retrieval import RetrievalConfig, retrieval
from clara.eval.tagging import TaggingConfig, tagging
from clara.eval.transcripts import TranscriptConfig, transcripts
from clara.eval.zero_shot import ZeroShotConfig, zero_shot
from clara.report.drawing import draw_confusions, draw_reliability
from clara.report.maps import write_sample
from clara.report.tables import language_lines
from clara.report.text import headline
from clara.results import VERSION, Result, ResultFile, write_json
from clara.saving import whole_file
from clara.train.distributed import World, processes

KINDS: dict[str, tuple[type, Callable[[Any, Context], Result]]] = {
    "zero_shot": (ZeroShotConfig, zero_shot),
    "retrieval": (RetrievalConfig, retrieval),
    "transcripts": (TranscriptConfig, transcripts),
    "composed_retrieval": (ComposedConfig, composed_retrieval),
    "probe": (ProbeConfig, probe),
    "tagging": (TaggingConfig, tagging),
    "keywords": (KeywordConfig, keywords),
}


TAUGHT = {"probe": "taught by clips", "keywords": "by text zero-shot, else taught by clips"}
SAMPLE = 1500  # embeddings kept for a map
FEW = 3  # missing corpora that are listed with their sources


@dataclass(frozen=True)
class Recipe:
    """An evaluation recipe."""

    evaluations: dict[str, Spec]
    """By name: the `kind` of evaluation and that kind's options."""
    seed: int = 0
    """Seed of all draws."""
    batch_size: int = 16
    """Windows per forward pass."""
    pictures: bool = True
    """Draw confusion matrices and keep some embeddings for a map."""
    workers: int = 0
    """Threads that decode audio; 0 = in the main thread."""
    cache: str | None = None
    """Folder of embeddings by content, which a resumed run and other processes share; null = beside the results."""
    limit: int | None = None
    """Most clips per set, classes in turn, for a trial; null = all. Cards refuse limited results."""


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
) -> list[Result]:
    """Run every evaluation of a recipe and write `out/RECIPE.MODEL.json`, a `ResultFile` (after each one, atomically).

    Args:
        zoo: a checkpoint, or its name.
        data: folder of the corpora's folders, one of these, or a folder of shards. Corpora that are not there are
            listed in the file under "not_found".
        overrides: `a.b=value` settings, e.g. `evaluations.emodb.languages=[en]`.
        log: gets the primary figures, line by line.

    Returns:
        The results in the recipe's order.

    Raises:
        ClaraError: a fault of the recipe, the folders or the checkpoint, before anything is computed; no corpus at
            hand; and at the end, when the others are done, evaluations that the data did not allow.
    """
    path, out, data = Path(recipe), Path(out), Path(data)
    settings, configs = load_recipe(path, overrides)
    _check(settings, data, out)
    with processes() as world:
        cache = Path(settings.cache) if settings.cache else out / "embeddings"
        supply = Supply(settings.batch_size, settings.workers, cache, world)
        zoo = _loaded(zoo, world) if isinstance(zoo, str) else zoo
        training_of(zoo.name)  # a card that cannot be read is refused before anything is computed
        context = Context(zoo, data, path, settings.seed, supply, settings.limit)
        file = out / f"{path.stem}.{re.sub(r'[^A-Za-z0-9.-]+', '_', zoo.name)}.json"
        made = _provenance(path.name, zoo, settings.seed, overrides)
        absent, faults = {}, {}
        for name, config in configs.items():
            try:
                result = _evaluate(name, settings.evaluations[name].kind, config, context)
            except NotAtHand as e:
                absent[name] = e
                continue
            except ClaraError as e:
                if world.size > 1 or len(configs) == 1 or isinstance(e, MissingDependency):
                    raise
                faults[name] = e
                continue
            except KeyboardInterrupt:
                log(f"{name}: stopped. The same command goes on from there: embeddings are kept in {cache}.")
                raise
            result = _keep(file, result, context, settings.pictures) if world.main else result
            made = replace(made, results=(*made.results, result), not_found=_whys(absent), faults=_whys(faults))
            if world.main:
                write_json(file, made)
                for line in headline(result):
                    log(line)
        made = replace(made, not_found=_whys(absent), faults=_whys(faults))
        _conclude(file, made, absent, data, log if world.main else None)
    return list(made.results)


def _whys(errors: Mapping[str, ClaraError]) -> tuple[dict[str, str], ...]:
    return tuple({"name": name, "why": str(e)} for name, e in errors.items())


def _provenance(recipe: str, zoo: AudioTextEmbedder, seed: int, overrides: Sequence[str]) -> ResultFile:
    """A file without results: command, checkpoint and its sha256, seed, versions, date (UTC)."""
    import torch

    versions = {"clara": clara.__version__, "python": platform.python_version()}
    return ResultFile(
        recipe,
        {"name": zoo.name, "sha256": zoo.sha256},
        shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        VERSION,
        overrides=tuple(overrides),
        seed=seed,
        versions=versions | {"torch": torch.__version__, "numpy": np.__version__},
        date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    )


def _check(settings: Recipe, data: Path, out: Path) -> None:
    """Before anything is computed: can pictures be drawn, is there data, and can results be written?"""
    if settings.pictures:
        require("matplotlib", "demo")
    if not data.is_dir():
        raise ClaraError(f"No such folder: {data}. Expected --data to hold the folders of corpora, or to be one.")
    there = next(p for p in (out, *out.absolute().parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise ClaraError(f"Results cannot be written into {out}: choose another folder with --out.")


def _keep(file: Path, result: Result, context: Context, pictures: bool) -> Result:
    """Write what lies beside the result file, and note it: the list of clips, some embeddings, pictures."""
    if clips := result.notes.get("clips"):
        manifest = write_clips(file.with_name(f"{file.stem}.{result.name}.clips.jsonl"), clips)
        notes = {k: v for k, v in result.notes.items() if k != "clips"}
        result = replace(result, manifest=manifest, notes=notes)
    if pictures:
        if sample := _sample(context, result.config.get("task")):
            kept = file.with_name(f"{file.stem}.{result.name}.npz")
            result = replace(result, embeddings=write_sample(kept, *sample))
        draw_confusions(file.parent, file.stem, result)
        draw_reliability(file.parent, file.stem, result)
    return result


def _sample(context: Context, task: str | None) -> tuple[np.ndarray, list[str]] | None:
    """Embeddings and labels of at most SAMPLE labelled clips, drawn by the seed; None where there are none."""
    rows = {row.audio: row for row in context.used} if task else {}
    kept = [(row, label) for row in rows.values() if row.audio in context.made and (label := truth_of(row, task))]
    if not kept:
        return None
    pick = np.sort(np.random.default_rng(context.seed).permutation(len(kept))[:SAMPLE])
    return np.stack([context.made[kept[i][0].audio].numpy() for i in pick]), [kept[i][1] for i in pick]


def write_clips(path: Path, clips: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Write the clips of an evaluation as JSON Lines: {"file", "found", "missing", "sha256"}; the hash is of the clips'
    names and contents, so that two results with one hash were made on the same audio."""
    lines = sorted(json.dumps(clip, ensure_ascii=False, sort_keys=True) for clip in clips)
    with whole_file(path) as part:
        part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="backslashreplace")
    found = [line for line in lines if json.loads(line)["found"]]
    digest = hashlib.sha256("\n".join(found).encode(errors="backslashreplace")).hexdigest()
    return {"file": path.name, "found": len(found), "missing": len(lines) - len(found), "sha256": digest}


def _conclude(
    file: Path, made: ResultFile, absent: dict[str, NotAtHand], data: Path, log: Callable[[str], None] | None
) -> None:
    """Say what was not found, show many languages as one table, and raise what was wrong with some evaluations."""
    if not made.results and not made.faults:
        whys = list(dict.fromkeys(str(e) for e in absent.values() if len(absent) <= FEW or not isinstance(e, NoFolder)))
        whys += [f"expected folders such as {', '.join(absent)}, or clips named as theirs"] if len(absent) > FEW else []
        raise ClaraError(f"No corpus of {made.recipe} was found under {data}: {'; '.join(whys)}.")
    if log:
        if made.results:
            write_json(file, made)
        for line in language_lines(made.results):
            log(line)
        for name, e in absent.items():
            if not isinstance(e, NoFolder):
                log(f"{name}: {e}")
        if names := [name for name, e in absent.items() if isinstance(e, NoFolder)]:
            log(f"not found under {data}: {', '.join(names)}")
        if made.results:
            log(f"results: {file}")
    if made.faults:
        whys = "; ".join(f"{f['name']}: {f['why']}" for f in made.faults)
        raise ClaraError(f"{len(made.faults)} of the evaluations could not be made. {whys}")


def _loaded(name: str, world: World) -> AudioTextEmbedder:
    from clara.zoo.loading import load

    return load(name, world.device if world.size > 1 else None)


def _evaluate(name: str, kind: str, config: Any, context: Context) -> Result:
    """One evaluation, with the sha256 of the clips' names it was asked for, and the time that their embeddings took."""
    context.fresh()
    found = KINDS[kind][1](config, context)
    parts: dict[str, set[str | None]] = {}
    for row in context.used:
        parts.setdefault(row.corpus, set()).add(row.speaker)
    clips = sorted({os.path.relpath(row.audio, context.data) for row in context.used})
    spent = context.spent
    speed = {"embedded": spent.embedded, "cached": spent.cached, "seconds": round(spent.seconds, 3)}
    if spent.embedded and spent.seconds:
        speed["clips_per_second"] = round(spent.embedded / spent.seconds, 2)
    return replace(
        found,
        name=name,
        kind=kind,
        config=to_dict(config),
        data=tuple(context.found),
        limit=context.limit,
        contamination=contamination(parts, training_of(context.zoo.name), context.near, TAUGHT.get(kind)),
        clips_sha256=hashlib.sha256("\n".join(clips).encode(errors="backslashreplace")).hexdigest(),
        speed=speed,
    )
