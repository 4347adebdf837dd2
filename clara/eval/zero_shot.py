"""Zero-shot classification: each clip gets the label whose prompts lie nearest. Nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from clara import metrics
from clara.calibration import offsets
from clara.data.manifest import FIELDS, Row
from clara.errors import ClaraError, unknown
from clara.eval.clips import Context, DataSpec, labelled, language_codes
from clara.eval.languages import far_languages, over_languages
from clara.eval.outcomes import pack_classes
from clara.eval.prompt_sets import prompt_set
from clara.eval.tables import BY_TASK
from clara.eval.wordings import KINDS, against_first, one_text, worded
from clara.text.prompts import load_language, own_prompts, prompts, task_labels
from clara.zoo.catalog import CHECKPOINTS

FIGURES = {"accuracy": metrics.accuracy, "uar": metrics.uar, "macro_f1": metrics.macro_f1}


@dataclass(frozen=True)
class ZeroShotConfig:
    """`labels` (empty: those that occur among the clips) are keys of `task`; `languages` are those of the prompts, or
    [all]; `templates` replace each language's own. Clips without a label for the task are left out and counted.

    `prompts`: how labels are worded, one or several of templates, labels (bare) and paraphrases (of the folder
    `phrases`, named relative to the recipe file): the first kind gives the figures, the others stand beside it.
    `prompt_sets`: published ones to score beside our own (emotions). `merge`: published word -> key. `only`: clips with
    another label than those of `labels` are left out. `own_names`: labels are no keys, but the corpus' own English
    words. `per`: figures for each value of a field of the rows too, such as speaker, which holds the fold where there
    are folds.
    """

    data: DataSpec
    task: str
    labels: tuple[str, ...] = ()
    languages: tuple[str, ...] = ("en",)
    templates: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ("templates",)
    phrases: str = "phrases"
    prompt_sets: tuple[str, ...] = ()
    merge: dict[str, str] = field(default_factory=dict)
    only: bool = False
    own_names: bool = False
    per: str | None = None
    far: str | None = None


def zero_shot(config: ZeroShotConfig, context: Context) -> dict[str, Any]:
    """Evaluate one set of clips in one or several prompt languages.

    Returns:
        {"clips", "unlabelled", "labels": {key: clips}, "languages": {code: {"prompts", "plain", "calibrated"}}} and,
        with several languages, what `over_languages` says of them; with prompt sets,
        "prompt_sets": {name: {"source", "added", "prompts", "plain", "calibrated"}}. "plain" is the figure;
        "calibrated" has each label's mean score over these clips, unlabelled, subtracted first (`clara.calibration`:
        the method for balanced labels, as those of corpora are), and is another figure. With other prompts than
        templates, each language has "one_text" too, the figures of single texts; with several kinds "wordings" has
        what `against_first` says of them.
    """
    sets = {name: prompt_set(name) for name in config.prompt_sets}
    _check_prompts(config)
    if sets and config.task != "emotion":
        raise ClaraError(f"prompt_sets={list(sets)}: they are of emotions, the task is {config.task!r}.")
    far = far_languages(config.far, context.near) if config.far and _may_be_ours(context.zoo.name) else ()
    rows = context.rows(config.data)
    kept, names = labelled(rows, config.task, config.merge)
    if config.only:
        pairs = [(row, name) for row, name in zip(kept, names) if name in config.labels]
        kept, names = [row for row, _ in pairs], [name for _, name in pairs]
    labels = _labels(config, names)
    truth_B = np.array([labels.index(name) for name in names])
    audio_BD = context.audio(kept)
    named: dict[str, np.ndarray] = {}

    def score(texts: list[list[str]], code: str = "") -> dict[str, Any]:
        score_BK = audio_BD @ context.labels(texts).T
        named[code] = score_BK.argmax(1).numpy()
        out = {
            "prompts": dict(zip(labels, texts)),
            "plain": figures(score_BK, truth_B, labels, context.seed),
            "calibrated": figures(score_BK - offsets(score_BK, "mean"), truth_B, labels, context.seed),
        }
        return out | (_per(config.per, kept, named[code], truth_B) if config.per else {})

    codes, by_kind = language_codes(config.languages), {}
    for kind in reversed(config.prompts):  # `named` keeps what the first kind says
        by_kind[kind] = {}
        for code in codes:
            texts = _prompts(config, labels, code, kind, context)
            by_kind[kind][code] = score(texts, code)
            if config.prompts != ("templates",):
                single = one_text(texts, lambda flat: audio_BD @ context.text(flat).T, truth_B, context.seed)
                by_kind[kind][code]["one_text"] = single
    results = by_kind[config.prompts[0]]
    spread = over_languages(named, truth_B, BY_TASK.get(config.task, "accuracy"), far, context.seed)
    counts = dict(zip(labels, np.bincount(truth_B, minlength=len(labels)).tolist()))
    out = {"clips": len(kept), "unlabelled": len(rows) - len(kept), "labels": counts, "languages": results}
    if len(config.prompts) > 1:
        out["wordings"] = against_first({kind: by_kind[kind] for kind in config.prompts})
    for name, published in sets.items():
        texts, added = published.prompts(labels, kept[0].corpus)
        found = {"source": published.source, "added": added, **score(texts)}
        out.setdefault("prompt_sets", {})[name] = found
    return out | spread


def _may_be_ours(name: str) -> bool:
    return not name.startswith("hf:") and (name not in CHECKPOINTS or CHECKPOINTS[name].source == "package")


def _labels(config: ZeroShotConfig, names: Sequence[str]) -> list[str]:
    """The labels offered, in the order of the config or the language files."""
    if not names:
        raise ClaraError(f"only: no clip has one of the labels {list(config.labels)}.")
    known = sorted(set(names)) if config.own_names else [k for k in task_labels(config.task) if k in set(names)]
    labels = list(config.labels) or known
    missing = sorted(set(names) - set(labels))
    if missing:
        raise ClaraError(
            f"{len(missing)} labels of the clips are not among those offered, {missing[:5]}: add them to labels, or "
            f"to the task {config.task!r} of the language files."
        )
    return labels


def _check_prompts(config: ZeroShotConfig) -> None:
    if not config.prompts or len(set(config.prompts)) < len(config.prompts):
        raise ClaraError(f"prompts={list(config.prompts)}: expected one or several of {', '.join(KINDS)}, each once.")
    for kind in config.prompts:
        if kind not in KINDS:
            raise unknown("kind of prompts", kind, KINDS)
    if config.prompts != ("templates",) and (config.own_names or config.templates):
        raise ClaraError(f"prompts={list(config.prompts)}: own_names and templates go with prompts=[templates] only.")


def _prompts(config: ZeroShotConfig, labels: Sequence[str], code: str, kind: str, context: Context) -> list[list[str]]:
    if config.prompts != ("templates",):
        return worded(kind, config.task, labels, code, Path(context.near or ".").parent / config.phrases)
    if not config.own_names:
        return prompts(config.task, labels, code, config.templates or None)
    if code != "en":
        raise ClaraError(f"own_names: the corpus' words are English, languages={list(config.languages)}.")
    return own_prompts(labels, config.templates or load_language("en").templates[config.task])


def _per(name: str, rows: Sequence[Row], predicted_B: np.ndarray, truth_B: np.ndarray) -> dict[str, Any]:
    """Accuracy and UAR by the values of a field, with the mean and standard deviation over them."""
    if name not in FIELDS:
        raise unknown("field of a row", name, FIELDS)
    values = np.array([str(getattr(row, name)) for row in rows])
    groups = {}
    for value in np.unique(values):
        mine = values == value
        rates = {k: FIGURES[k](truth_B[mine], predicted_B[mine]) for k in ("accuracy", "uar")}
        groups[str(value)] = {"clips": int(mine.sum()), **rates}
    found: dict[str, Any] = {"field": name, "groups": groups}
    for k in ("accuracy", "uar"):
        over = [group[k] for group in groups.values()]
        found[k], found[f"{k}_std"] = float(np.mean(over)), float(np.std(over, ddof=1)) if len(over) > 1 else 0.0
    return {"per": found}


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
