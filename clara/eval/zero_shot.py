"""Zero-shot classification: each clip gets the label whose prompts lie nearest. Nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from clara.calibration import offsets
from clara.data.manifest import FIELDS, Row
from clara.errors import ClaraError, unknown
from clara.eval.clips import Context, DataSpec, labelled, language_codes
from clara.eval.languages import far_languages, over_languages
from clara.eval.prompt_sets import prompt_set
from clara.eval.scores import RATES, Place, class_figures, primary_metric, shown
from clara.eval.wordings import KINDS, one_text, over_kinds, worded
from clara.metrics import calibration_error, reliability
from clara.results import Figure, Outcomes, Result
from clara.text.prompts import load_language, own_prompts, prompts, task_labels
from clara.zoo.catalog import CHECKPOINTS


@dataclass(frozen=True)
class ZeroShotConfig:
    """Zero-shot classification. Clips without a label for the task are left out and counted."""

    data: DataSpec
    """Clips that are scored."""
    task: str
    """Task whose labels are predicted: emotion, sound, instrument …"""
    labels: tuple[str, ...] = ()
    """Keys of the task; empty = those that occur among the clips."""
    languages: tuple[str, ...] = ("en",)
    """Languages of the prompts; [all] = every language file."""
    templates: tuple[str, ...] = ()
    """Prompts with {} for the label; empty = each language's own."""
    prompts: tuple[str, ...] = ("templates",)
    """Wordings: 'templates', 'labels' (bare), 'paraphrases'; the first gives the primary figures."""
    phrases: str = "phrases"
    """Folder of the paraphrases, relative to the recipe file."""
    prompt_sets: tuple[str, ...] = ()
    """Published prompt sets scored beside our own (emotions)."""
    merge: dict[str, str] = field(default_factory=dict)
    """Published label -> key of the task."""
    only: bool = False
    """Leave out clips whose label is not in `labels`."""
    own_names: bool = False
    """Labels are the corpus' own English words, not keys."""
    per: str | None = None
    """Field of the rows, such as 'speaker', for whose values figures are given too; or null."""
    far: str | None = None
    """Text-stage recipe beside this one whose `far_languages` get figures of their own; null = none."""


def zero_shot(config: ZeroShotConfig, context: Context) -> Result:
    """Evaluate one set of clips in one or several prompt languages.

    Figures stand at "CODE/plain" and "CODE/calibrated"; the latter have each label's mean score over these clips,
    unlabelled, subtracted first (`clara.calibration`: the method for balanced labels, as those of corpora are).
    Both have the expected calibration error of the probabilities that `Classifier` gives, "ece". With
    several languages those of `over_languages` follow. Prompt sets stand at "prompts of NAME/…". With other prompts
    than templates each language has "CODE/one_text" too, single texts as prompts; kinds of prompts after the first
    stand at "KIND/CODE/…", their means at "KIND/mean".
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
    labels, codes = _labels(config, names), language_codes(config.languages)
    truth_B = np.array([labels.index(name) for name in names])
    sheet = _Sheet(config, context, kept, labels, truth_B)
    named = {}
    for kind in config.prompts:
        for code in codes:
            place = code if kind == config.prompts[0] else f"{kind}/{code}"
            predicted_B = sheet.score(place, _prompts(config, labels, code, kind, context), shown(code, codes))
            named.setdefault(code, predicted_B)  # of the first kind
    if len(config.prompts) > 1:
        sheet.figures += over_kinds(sheet.figures, config.prompts, codes, sheet.metric)
    notes: dict[str, Any] = {"unlabelled": len(rows) - len(kept), "reliability": sheet.reliability}
    for name, published in sets.items():
        texts, added = published.prompts(labels, kept[0].corpus)
        sheet.score(f"prompts of {name}", texts)
        notes.setdefault("prompt_sets", {})[name] = {"source": published.source, "added": added}
    spread, members = over_languages(named, truth_B, sheet.metric, far, len(labels), context.seed)
    counts = dict(zip(labels, np.bincount(truth_B, minlength=len(labels)).tolist()))
    figures = (*sheet.figures, *spread)
    return Result(len(kept), figures, counts, tuple(codes), members, sheet.outcomes, sheet.prompts, notes=notes)


@dataclass
class _Sheet:
    """One set of clips, scored by one set of prompts after another."""

    config: ZeroShotConfig
    context: Context
    rows: Sequence[Row]
    labels: Sequence[str]
    truth_B: np.ndarray
    figures: list[Figure] = field(default_factory=list)
    outcomes: dict[str, Outcomes] = field(default_factory=dict)
    prompts: dict[str, dict[str, Any]] = field(default_factory=dict)
    reliability: dict[str, list[list[float]]] = field(default_factory=dict)

    @property
    def metric(self) -> str:
        """The primary metric."""
        return primary_metric(self.config.task)

    def score(self, where: str, texts: list[list[str]], primary: bool = True) -> np.ndarray:
        """Add the figures of these prompts; returns the class of each clip."""
        audio_BD = self.context.audio(self.rows)
        score_BK = audio_BD @ self.context.labels(texts).T
        predicted_B = score_BK.argmax(1).numpy()
        self.prompts[where] = dict(zip(self.labels, texts))
        metric = self.metric if primary else None
        published = where.startswith("prompts of ")
        shifted_BK = score_BK - offsets(score_BK, "mean")
        for kind, named_BK in (("plain", score_BK), ("calibrated", shifted_BK)):
            place = Place(f"{where}/{kind}", None if published and kind == "calibrated" else metric)
            named_B = named_BK.argmax(1).numpy()
            found = class_figures(place, named_B, self.truth_B, len(self.labels), self.context.seed)
            self.figures += found[0]
            self.outcomes[place.where] = found[1]
            if self.context.logit_scale is not None and not published:
                sure_BK = (self.context.logit_scale * named_BK).softmax(-1)
                self.figures.append(place.figure("ece", calibration_error(sure_BK, self.truth_B)))
                if primary:
                    self.reliability[place.where] = reliability(sure_BK, self.truth_B).round(4).tolist()
        if self.config.per and not published:
            place = Place(f"{where}/per", metric)
            self.figures += _per(self.config.per, self.rows, predicted_B, self.truth_B, place)
        if self.config.prompts != ("templates",) and not published:
            place = Place(f"{where}/one_text", metric)
            score = lambda flat: audio_BD @ self.context.text(flat).T  # noqa: E731
            self.figures += one_text(place, texts, score, self.truth_B, self.context.seed)
        return predicted_B


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


def _per(name: str, rows: Sequence[Row], predicted_B: np.ndarray, truth_B: np.ndarray, place: Place) -> list[Figure]:
    """Accuracy and UAR by the values of a field, after their mean and standard deviation over these."""
    if name not in FIELDS:
        raise unknown("field of a row", name, FIELDS)
    values, what = np.array([str(getattr(row, name)) for row in rows]), place.where.replace("/", " ")
    groups = []
    for value in np.unique(values):
        mine = values == value
        group = Place(f"{place.where}/{value}", what=f"{what} {name} {value}, {mine.sum()} clips")
        groups += [group.figure(k, rate(truth_B[mine], predicted_B[mine])) for k, rate in RATES.items()]
    whole, means = Place(place.where, place.primary, f"{what} {name}, mean of {len(groups) // 2}"), []
    for k in RATES:
        over = [f.value for f in groups if f.metric == k]
        means.append(whole.figure(k, np.mean(over), std=float(np.std(over, ddof=1)) if len(over) > 1 else 0.0))
    return means + groups
