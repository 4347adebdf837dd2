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
from clara.errors import ClaraError, require, unknown
from clara.eval import report
from clara.eval.clips import AudioTextEmbedder, Context, NotAtHand
from clara.eval.composed import ComposedConfig, composed_retrieval
from clara.eval.contamination import contamination, training_of
from clara.eval.embeddings import Supply
from clara.eval.keywords import KeywordConfig, keywords
from clara.eval.maps import write_sample
from clara.eval.probe import ProbeConfig, probe
from clara.eval.retrieval import RetrievalConfig, retrieval
from clara.eval.tagging import TaggingConfig, tagging
from clara.eval.zero_shot import ZeroShotConfig, zero_shot
from clara.train.distributed import World, processes

KINDS: dict[str, tuple[type, Callable[[Any, Context], dict[str, Any]]]] = {
    "zero_shot": (ZeroShotConfig, zero_shot),
    "retrieval": (RetrievalConfig, retrieval),
    "composed_retrieval": (ComposedConfig, composed_retrieval),
    "probe": (ProbeConfig, probe),
    "tagging": (TaggingConfig, tagging),
    "keywords": (KeywordConfig, keywords),
}


@dataclass(frozen=True)
class Recipe:
    """Named evaluations, each of a `kind` with that kind's options; `pictures`: draw confusion matrices and keep some
    embeddings for a map. `workers`: threads that decode. `cache`: folder where embeddings are kept by content; several
    processes (torchrun) share the work through it and have one under the results where it is null."""

    evaluations: dict[str, Spec]
    seed: int = 0
    batch_size: int = 16
    pictures: bool = True
    workers: int = 0
    cache: str | None = None


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> tuple[Recipe, dict[str, Any]]:
    """Read a recipe and each evaluation's config. ClaraError for any key, kind or type that is not known."""
    defaults = {f.name: f.default for f in dataclasses.fields(Recipe) if f.default is not dataclasses.MISSING}
    recipe = build(Recipe, override(defaults | load_yaml(path), overrides), where=path.name)
    if not recipe.evaluations:
        raise ClaraError(f"{path}: no evaluations.")
    configs = {}
    for name, spec in recipe.evaluations.items():
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
        ClaraError: a fault of the recipe (before anything is computed), the data or the checkpoint; no corpus at hand.
    """
    path, out = Path(recipe), Path(out)
    settings, configs = load_recipe(path, overrides)
    if settings.pictures:
        require("matplotlib", "demo")
    with processes() as world:
        cache = settings.cache or (str(out / "embeddings") if world.size > 1 else None)
        supply = Supply(settings.batch_size, settings.workers, None if cache is None else Path(cache), world)
        zoo = _loaded(zoo, world) if isinstance(zoo, str) else zoo
        context = Context(zoo, data, path, settings.seed, supply)
        stem = f"{path.stem}.{re.sub(r'[^A-Za-z0-9.-]+', '_', zoo.name)}"
        results: list[dict[str, Any]] = []
        absent: list[dict[str, str]] = []
        made = report.provenance(zoo, settings.seed) | {"recipe": path.name, "overrides": list(overrides)}
        made |= {"results": results, "not_at_hand": absent}
        for name, config in configs.items():
            try:
                result = _evaluate(name, settings.evaluations[name].kind, config, context)
            except NotAtHand as e:
                absent.append({"name": name, "why": str(e)})
                continue
            results.append(result)
            if not world.main:
                continue
            if "manifest" in result:
                result["manifest"] = report.write_clips(out / f"{stem}.{name}.clips.jsonl", result["manifest"])
            report.write_json(out / f"{stem}.json", made)
            if settings.pictures:
                _pictures(out, stem, result, context)
            for line in report.headline(result):
                log(line)
        if not results:
            raise ClaraError(f"Nothing of {path.name} is at hand below {data}: {'; '.join(a['why'] for a in absent)}.")
        if world.main and absent:
            report.write_json(out / f"{stem}.json", made)
            for one in absent:
                log(f"{one['name']}: {one['why']}")
    return results


def _loaded(name: str, world: World) -> AudioTextEmbedder:
    from clara.zoo.embedder import load

    return load(name, world.device if world.size > 1 else None)


def _evaluate(name: str, kind: str, config: Any, context: Context) -> dict[str, Any]:
    """One evaluation, with the sha256 of the clips' names it was asked for, and the time that their embeddings took."""
    context.fresh()
    found = KINDS[kind][1](config, context)
    found["data"] = context.found
    corpora = {row.corpus for row in context.used}
    found["contamination"] = contamination(corpora, training_of(context.zoo.name), taught=kind == "probe")
    clips = sorted({os.path.relpath(row.audio, context.data) for row in context.used})
    spent = context.spent
    speed = {"embedded": spent.embedded, "cached": spent.cached, "seconds": round(spent.seconds, 3)}
    if spent.embedded and spent.seconds:
        speed["clips_per_second"] = round(spent.embedded / spent.seconds, 2)
    digest = hashlib.sha256("\n".join(clips).encode()).hexdigest()
    return {"name": name, "kind": kind, "config": to_dict(config), **found, "clips_sha256": digest, "speed": speed}


def _pictures(out: Path, stem: str, result: dict[str, Any], context: Context) -> None:
    """Confusion matrices as PNG, and some embeddings with their labels for a map."""
    write_sample(out / f"{stem}.{result['name']}.npz", context, result["config"].get("task"))
    labels = list(result.get("labels", ()))
    tables = {code: r["plain"] for code, r in result.get("languages", {}).items() if "plain" in r}
    tables |= {method: r for method, r in result.get("methods", {}).items() if "confusion" in r}
    for part, found in tables.items():
        title = f"{result['name']} ({part}): accuracy {found['accuracy']:.3f}, UAR {found['uar']:.3f}"
        path = out / f"{stem}.{result['name']}.{part}.png"
        report.confusion_picture(path, found["confusion"], labels, title)
