"""Is one checkpoint better than another on the same clips? Paired bootstraps from what results keep of each clip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from clara import metrics
from clara.report.text import metric_name
from clara.results import Figure, Outcomes, Result, ResultFile, unpack

CLASSES = {"accuracy": metrics.accuracy, "uar": metrics.uar, "macro_f1": metrics.macro_f1}


@dataclass(frozen=True)
class Difference:
    """`second` less `first` at one place of one evaluation, with its 95 % interval over clips and its p. `clips`: how
    many clips or queries were compared."""

    evaluation: str
    what: str
    metric: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    clips: int


def differences(files: Sequence[ResultFile], names: Sequence[str], samples: int = 1000) -> list[Difference]:
    """Every pair of checkpoints at every primary figure, wherever both have the same evaluation of the same clips.

    Args:
        names: what each file's checkpoint is called.
    """
    out = []
    for (first, a), (second, b) in combinations(zip(names, files), 2):
        for one, other in _pairs(a, b):
            for figure in one.figures:
                pair = [r.outcomes.get(figure.where) for r in (one, other)]
                if not figure.primary or None in pair or pair[0].kind != pair[1].kind:
                    continue
                if found := _compare(figure, *pair, samples):
                    metric, clips, d = found
                    place = (f"{a.stem} / {one.name}", figure.what, metric_name(metric))
                    out.append(Difference(*place, first, second, clips=clips, **d))
    return out


def _pairs(a: ResultFile, b: ResultFile) -> Iterator[tuple[Result, Result]]:
    others = {r.name: r for r in b.results} if a.recipe == b.recipe else {}
    for one in a.results:
        other = others.get(one.name)
        same = ("clips_sha256", "config", "kind")
        if other is not None and one.clips_sha256 and all(getattr(one, k) == getattr(other, k) for k in same):
            yield one, other


def _compare(figure: Figure, one: Outcomes, other: Outcomes, samples: int) -> tuple[str, int, dict[str, float]] | None:
    """The metric, how many clips or queries were compared, and `metrics.paired_bootstrap`'s answer."""
    if one.kind == "classes":
        (truth, first), (again, second) = unpack(one.text), unpack(other.text)
        if not np.array_equal(truth, again):
            return None
        found = metrics.paired_bootstrap(CLASSES[figure.metric], truth, first, second, samples=samples)
        return figure.metric, len(truth), found
    first, second = (unpack(x.text)[0].astype(float) for x in (one, other))
    metric, count = "accuracy", np.full(len(first), float(one.draws))
    if one.kind == "ranks":
        metric, first, second = "R@1", (first == 1).astype(float), (second == 1).astype(float)
        if one.captions and one.captions == other.captions:  # the captions of a clip are not independent draws
            count = unpack(one.captions)[0].astype(float)
            clip = np.repeat(np.arange(len(count)), count.astype(int))
            first, second = (np.bincount(clip, x, len(count)) for x in (first, second))
    if len(first) != len(second) or not len(first):
        return None
    return metric, len(first), metrics.paired_bootstrap(_share, count, first, second, samples=samples)


def _share(count_N: np.ndarray, right_N: np.ndarray) -> float:
    return float(right_N.sum() / count_N.sum())
