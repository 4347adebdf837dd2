"""Zero-shot classification: each clip gets the label whose prompts lie nearest. Nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from clara import metrics
from clara.errors import ClaraError
from clara.eval.clips import Context, DataSpec, labelled, language_codes
from clara.eval.outcomes import pack_classes
from clara.text.prompts import prompts, task_labels

FIGURES = {"accuracy": metrics.accuracy, "uar": metrics.uar, "macro_f1": metrics.macro_f1}


@dataclass(frozen=True)
class ZeroShotConfig:
    """`labels` (empty: those that occur among the clips) are keys of `task`; `languages` are those of the prompts, or
    [all]; `templates` replace each language's own. Clips without a label for the task are left out and counted."""

    data: DataSpec
    task: str
    labels: tuple[str, ...] = ()
    languages: tuple[str, ...] = ("en",)
    templates: tuple[str, ...] = ()


def zero_shot(config: ZeroShotConfig, context: Context) -> dict[str, Any]:
    """Evaluate one set of clips in one or several prompt languages.

    Returns:
        {"clips", "unlabelled", "labels": {key: clips}, "languages": {code: {"prompts", "plain", "calibrated"}}} and,
        with several languages, "other_languages": mean accuracy and UAR over those but English. "plain" is the figure;
        "calibrated" has each label's mean score over these clips, unlabelled, subtracted first, and is another figure.
    """
    rows = context.rows(config.data)
    kept, names = labelled(rows, config.task)
    labels = list(config.labels) or [key for key in task_labels(config.task) if key in set(names)]
    missing = sorted(set(names) - set(labels))
    if missing:
        raise ClaraError(
            f"{len(missing)} labels of the clips are not among those offered, {missing[:5]}: add them to labels, or "
            f"to the task {config.task!r} of the language files."
        )
    truth_B = np.array([labels.index(name) for name in names])
    audio_BD, results = context.audio(kept), {}
    for code in language_codes(config.languages):
        texts = prompts(config.task, labels, code, config.templates or None)
        score_BK = audio_BD @ context.labels(texts).T
        results[code] = {
            "prompts": dict(zip(labels, texts)),
            "plain": figures(score_BK, truth_B, labels, context.seed),
            "calibrated": figures(score_BK - score_BK.mean(0), truth_B, labels, context.seed),
        }
    counts = dict(zip(labels, np.bincount(truth_B, minlength=len(labels)).tolist()))
    out = {"clips": len(kept), "unlabelled": len(rows) - len(kept), "labels": counts, "languages": results}
    return out | _others(results)


def figures(score_BK: Tensor, truth_B: np.ndarray, labels: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """Accuracy, UAR and macro-F1, each with its 95 % bootstrap interval over clips; per-class recall; confusion."""
    return figures_of(score_BK.argmax(1).numpy(), truth_B, labels, seed)


def figures_of(predicted_B: np.ndarray, truth_B: np.ndarray, labels: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """`figures` of predictions that exist already."""
    out: dict[str, Any] = {}
    for name, figure in FIGURES.items():
        out[name] = figure(truth_B, predicted_B)
        out[f"{name}_95"] = metrics.bootstrap_interval(figure, truth_B, predicted_B, seed=seed)
    recall = metrics.per_class_recall(truth_B, predicted_B, len(labels))
    out["per_class_recall"] = {k: None if np.isnan(r) else float(r) for k, r in zip(labels, recall)}
    out["confusion"] = metrics.confusion(truth_B, predicted_B, len(labels)).tolist()
    out["outcomes"] = pack_classes(truth_B, predicted_B)
    return out


def _others(results: dict[str, Any]) -> dict[str, Any]:
    """Mean figures over the prompt languages but English, where there are several languages."""
    codes = [code for code in results if code != "en"]
    if not codes or len(results) < 2:
        return {}
    means = {name: float(np.mean([results[c]["plain"][name] for c in codes])) for name in ("accuracy", "uar")}
    return {"other_languages": {"languages": codes, **means}}
