"""Zero-shot tagging: clips with several classes (FSD50K, AudioSet), every class scored by its prompts; macro mAP."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clara import metrics
from clara.errors import ClaraError
from clara.eval.clips import Context, DataSpec
from clara.eval.scores import Place
from clara.results import Result
from clara.text.prompts import load_language, own_prompts

SAMPLES = 100  # resamples of the interval; each takes as long as the figure


@dataclass(frozen=True)
class TaggingConfig:
    """Multi-label tagging of clips whose `original.labels` hold the corpus' own English words."""

    data: DataSpec
    """Clips that are scored."""
    templates: tuple[str, ...] = ()
    """Prompts with {} for the class; empty = those of our English sounds; '{}' alone is the bare word."""


def tagging(config: TaggingConfig, context: Context) -> Result:
    """Score every class on every clip: macro mAP, the mean over the classes that occur, and the average precision of
    each class, at its name.

    Raises:
        ClaraError: no clip has classes.
    """
    rows = [row for row in context.rows(config.data) if row.original.get("labels")]
    if not rows:
        raise ClaraError(f"No clip of {config.data.corpus} has classes in original.labels: this kind needs them.")
    labels = sorted({label for row in rows for label in row.original["labels"]})
    templates = list(config.templates or load_language("en").templates["sound"])
    index = {label: i for i, label in enumerate(labels)}
    relevant_BK = np.zeros((len(rows), len(labels)), bool)
    for i, row in enumerate(rows):
        relevant_BK[i, [index[label] for label in row.original["labels"]]] = True
    score_BK = (context.audio(rows) @ context.labels(own_prompts(labels, templates)).T).double().numpy()
    whole = Place("", "macro_map").figure(
        "macro_map",
        metrics.macro_map(score_BK, relevant_BK),
        interval=metrics.bootstrap_interval(
            metrics.macro_map, score_BK, relevant_BK, seed=context.seed, samples=SAMPLES
        ),
    )
    each = [
        Place(label).figure("average_precision", metrics.average_precision(s, r))
        for label, s, r in zip(labels, score_BK.T, relevant_BK.T)
    ]
    counts = dict(zip(labels, relevant_BK.sum(0).tolist()))
    return Result(len(rows), (whole, *each), counts, notes={"templates": templates})
