"""Run an evaluation recipe: one YAML with named evaluations -> one JSON with all their results, pictures beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clara.config import Spec, build, load_yaml, override, to_dict
from clara.errors import ClaraError, require, unknown
from clara.eval import report
from clara.eval.clips import AudioTextEmbedder, Context
from clara.eval.composed import ComposedConfig, composed_retrieval
from clara.eval.probe import ProbeConfig, probe
from clara.eval.retrieval import RetrievalConfig, retrieval
from clara.eval.zero_shot import ZeroShotConfig, zero_shot

KINDS: dict[str, tuple[type, Callable[[Any, Context], dict[str, Any]]]] = {
    "zero_shot": (ZeroShotConfig, zero_shot),
    "retrieval": (RetrievalConfig, retrieval),
    "composed_retrieval": (ComposedConfig, composed_retrieval),
    "probe": (ProbeConfig, probe),
}


@dataclass(frozen=True)
class Recipe:
    """Named evaluations, each of a `kind` with that kind's options; `pictures`: draw confusion matrices."""

    evaluations: dict[str, Spec]
    seed: int = 0
    batch_size: int = 16
    pictures: bool = True


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> tuple[Recipe, dict[str, Any]]:
    """Read a recipe and each evaluation's config. ClaraError for any key, kind or type that is not known."""
    recipe = build(Recipe, override(load_yaml(path), overrides), where=path.name)
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
        data: folder of the corpora's folders.
        overrides: `a.b=value` settings, e.g. `evaluations.emodb.languages=[en]`.
        log: gets the headline figures, line by line.

    Returns:
        The results in the recipe's order, each with "name", "kind", "config" and its kind's fields.

    Raises:
        ClaraError: a fault of the recipe (before anything is computed), of the data or of the checkpoint.
    """
    path, out = Path(recipe), Path(out)
    settings, configs = load_recipe(path, overrides)
    if settings.pictures:
        require("matplotlib", "demo")
    if isinstance(zoo, str):
        from clara.zoo.embedder import load

        zoo = load(zoo)
    context = Context(zoo, data, path, settings.seed, settings.batch_size)
    stem = f"{path.stem}.{re.sub(r'[^A-Za-z0-9.-]+', '_', zoo.name)}"
    results: list[dict[str, Any]] = []
    for name, config in configs.items():
        kind = settings.evaluations[name].kind
        result = {"name": name, "kind": kind, "config": to_dict(config), **KINDS[kind][1](config, context)}
        results.append(result)
        made = report.provenance(zoo, settings.seed) | {"recipe": path.name, "overrides": list(overrides)}
        report.write_json(out / f"{stem}.json", made | {"results": results})
        if settings.pictures:
            _pictures(out, stem, result)
        for line in report.headline(result):
            log(line)
    return results


def _pictures(out: Path, stem: str, result: dict[str, Any]) -> None:
    labels = list(result.get("labels", ()))
    tables = {code: r["plain"] for code, r in result.get("languages", {}).items() if "plain" in r}
    tables |= {method: r for method, r in result.get("methods", {}).items() if "confusion" in r}
    for part, found in tables.items():
        title = f"{result['name']} ({part}): accuracy {found['accuracy']:.3f}, UAR {found['uar']:.3f}"
        path = out / f"{stem}.{result['name']}.{part}.png"
        report.confusion_picture(path, found["confusion"], labels, title)
