"""Figures of predictions: accuracy, UAR and macro-F1, of one set of predictions or the mean over several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clara import metrics
from clara.results import MANY_LANGUAGES, Figure, Outcomes, pack

RATES = {"accuracy": metrics.accuracy, "uar": metrics.uar}
SCORES = {**RATES, "macro_f1": metrics.macro_f1}
PRIMARY = {"emotion": "uar", "arousal": "uar"}  # classes are unbalanced


def primary_metric(task: str) -> str:
    """The primary metric of a classification task."""
    return PRIMARY.get(task, "accuracy")


def shown(code: str, codes: Sequence[str]) -> bool:
    """Whether a language's figures are primary: of many languages only English's."""
    return code == "en" or len(codes) <= MANY_LANGUAGES


@dataclass(frozen=True)
class Place:
    """Where figures stand (see `Figure`), their primary metric (None: none is primary), and the place in words."""

    where: str
    primary: str | None = None
    what: str = ""

    def figure(self, metric: str, value: float, **more: Any) -> Figure:
        """A figure here; `more` are fields of Figure."""
        what = self.what or self.where.replace("/", " ").replace("_", " ") or "all"
        return Figure(what, metric, float(value), where=self.where, primary=metric == self.primary, **more)


def class_figures(
    place: Place, predicted_B: np.ndarray, truth_B: np.ndarray, classes: int, seed: int = 0
) -> tuple[list[Figure], Outcomes]:
    """The SCORES of predicted classes, each with its 95 % bootstrap interval over clips, and what became of each."""
    figures = [
        place.figure(
            metric,
            score(truth_B, predicted_B),
            interval=metrics.bootstrap_interval(score, truth_B, predicted_B, seed=seed),
            chance=1 / classes if metric in RATES else None,
        )
        for metric, score in SCORES.items()
    ]
    return figures, Outcomes("classes", pack(truth_B, predicted_B))


def draw_figures(
    place: Place, found: Sequence[np.ndarray], truth_B: np.ndarray, classes: int, seed: int = 0
) -> tuple[list[Figure], Outcomes]:
    """As `class_figures`, of predictions from several draws of training clips: mean and standard deviation over them,
    and in how many draws each clip was right."""
    if len(found) == 1:
        return class_figures(place, found[0], truth_B, classes, seed)
    std = {name: float(np.std([rate(truth_B, p) for p in found], ddof=1)) for name, rate in RATES.items()}
    correct_BR = np.stack([p == truth_B for p in found], axis=1)
    figures = rate_figures(place, truth_B, correct_BR.astype(float), classes, seed, std)
    return figures, Outcomes("hits", pack(correct_BR.sum(1)), len(found))


def rates(truth_B: np.ndarray, correct_BR: np.ndarray) -> dict[str, float]:
    """Accuracy and UAR of several predictions of the same clips, each the mean over them (1: right, 0: wrong)."""
    share_B = correct_BR.mean(1)
    _, class_B = np.unique(truth_B, return_inverse=True)
    recall_K = np.bincount(class_B, share_B) / np.bincount(class_B)
    return {"accuracy": float(share_B.mean()), "uar": float(recall_K.mean())}


def rate_figures(
    place: Place,
    truth_B: np.ndarray,
    correct_BR: np.ndarray,
    classes: int,
    seed: int,
    std: dict[str, float] | None = None,
) -> list[Figure]:
    """`rates`, each with its 95 % bootstrap interval over clips."""
    share_B1, out = correct_BR.mean(1, keepdims=True), []
    for name, value in rates(truth_B, correct_BR).items():
        interval = metrics.bootstrap_interval(lambda t, c, name=name: rates(t, c)[name], truth_B, share_B1, seed=seed)
        out.append(place.figure(name, value, interval=interval, chance=1 / classes, std=(std or {}).get(name)))
    return out
