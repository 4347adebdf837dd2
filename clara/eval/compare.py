"""Is one checkpoint better than another on the same clips? Paired bootstraps from what results say of each clip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from clara import metrics
from clara.eval.cards import main_places
from clara.eval.outcomes import unpack_classes, unpack_counts
from clara.eval.tables import NAMES, judged_by

CLASSES = {"accuracy": metrics.accuracy, "uar": metrics.uar, "macro_f1": metrics.macro_f1}


@dataclass(frozen=True)
class Difference:
    """`second` less `first` at one place of one evaluation, with its 95 % interval over clips and its p."""

    evaluation: str
    place: str
    metric: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    clips: int


def differences(files: Sequence[Mapping[str, Any]], names: Sequence[str], samples: int = 1000) -> list[Difference]:
    """Every pair of checkpoints, wherever both have the same evaluation of the same clips.

    Args:
        files: contents of result files.
        names: what each file's checkpoint is called.
    """
    out = []
    for (first, a), (second, b) in combinations(zip(names, files), 2):
        for one, other in _pairs(a, b):
            evaluation = f"{a['recipe'].removesuffix('.yaml')} / {one['name']}"
            for keys in main_places(one, one):
                if found := _compare(_at(one, keys[:-1]), _at(other, keys[:-1]), one, samples):
                    metric, clips, d = found
                    d = {k: float(v) for k, v in d.items()}
                    out.append(Difference(evaluation, " ".join(keys[:-1]), metric, first, second, clips=clips, **d))
    return out


def _pairs(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    others = {r["name"]: r for r in b["results"]} if a["recipe"] == b["recipe"] else {}
    for one in a["results"]:
        other = others.get(one["name"])
        same = ("clips_sha256", "config", "kind")
        if other is not None and one.get("clips_sha256") and all(one.get(k) == other.get(k) for k in same):
            yield one, other


def _at(result: Mapping[str, Any], keys: Sequence[str]) -> Mapping[str, Any]:
    found: Any = result
    for key in keys:
        found = found.get(key, {}) if isinstance(found, Mapping) else {}
    return found


def _compare(
    one: Mapping[str, Any], other: Mapping[str, Any], result: Mapping[str, Any], samples: int
) -> tuple[str, int, dict[str, float]] | None:
    """The metric, how many clips or queries were compared, and `metrics.paired_bootstrap`'s answer."""
    metric = judged_by(result, one)
    if metric in CLASSES and "outcomes" in one and "outcomes" in other:
        (truth, first), (again, second) = unpack_classes(one["outcomes"]), unpack_classes(other["outcomes"])
        if not np.array_equal(truth, again):
            return None
        return (
            NAMES.get(metric, metric),
            len(truth),
            metrics.paired_bootstrap(CLASSES[metric], truth, first, second, samples=samples),
        )
    key = next((k for k in ("hits", "ranks") if k in one and k in other), None)
    if key is None:
        return None
    first, second = (unpack_counts(x[key]).astype(float) for x in (one, other))
    count = np.full(len(first), float(len(one.get("runs", "1"))))  # draws of which a clip was right in so many
    if key == "ranks":
        first, second, count = (first == 1).astype(float), (second == 1).astype(float), np.ones(len(first))
        if len(first) != result.get("clips"):
            first, second, count = _by_clip(first, second, result, one)
    if len(first) != len(second) or not len(first):
        return None
    found = metrics.paired_bootstrap(_share, count, first, second, samples=samples)
    return "R@1" if key == "ranks" else "accuracy", len(first), found


def _share(count_N: np.ndarray, right_N: np.ndarray) -> float:
    return float(right_N.sum() / count_N.sum())


def _by_clip(
    first: np.ndarray, second: np.ndarray, result: Mapping[str, Any], node: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Right captions of each clip: they are no independent draws, and are resampled together."""
    tables = [result, *result.get("languages", {}).values()]
    count = next((unpack_counts(t["captions_of_clips"]) for t in tables if t.get("t2a") is node), np.ones(len(first)))
    if count.sum() != len(first) or len(first) != len(second):
        return np.zeros(0), np.zeros(0), np.zeros(0)
    clip = np.repeat(np.arange(len(count)), count.astype(int))
    return np.bincount(clip, first), np.bincount(clip, second), count
