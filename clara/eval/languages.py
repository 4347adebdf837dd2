"""Prompts in many languages on one set of clips: the mean, the worst, and those far from audio.

A language is far from audio where its captions were never paired with sounds: a text stage (`clara align`) lists these
in its recipe under `far_languages`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from clara import metrics
from clara.config import load_yaml
from clara.errors import ClaraError
from clara.eval.scores import RATES, Place, rate_figures, rates
from clara.results import Figure
from clara.text.prompts import languages


def far_languages(recipe: str, near: Path | str | None) -> list[str]:
    """The `far_languages` of a text stage; its file is named relative to the recipe file `near`.

    Raises:
        ClaraError: no such file, or one that lists none.
    """
    path = Path(near or ".").parent / recipe
    if not path.is_file():
        raise ClaraError(f"far={recipe!r}: no such file beside {near}. Expected the recipe of a text stage.")
    codes = load_yaml(path).get("far_languages")
    if not codes or not set(codes) <= set(languages()):
        raise ClaraError(f"{path}: far_languages is {codes!r}, expected codes of languages.")
    return list(codes)


def over_languages(
    predicted: Mapping[str, np.ndarray],
    truth_B: np.ndarray,
    metric: str,
    far: Sequence[str] = (),
    classes: int = 2,
    seed: int = 0,
) -> tuple[list[Figure], dict[str, tuple[str, ...]]]:
    """What a set of prompt languages comes to, on the same clips.

    Args:
        predicted: code -> class of each clip.
        metric: the primary rate, 'accuracy' or 'uar', by which a language is the worst.
        far: languages whose captions were never paired with audio.
        classes: how many there are to choose from.

    Returns:
        The figures and, by place, the languages they are a mean over: "other_languages", all but English; with three of
        these or more "worst_language"; and "far_languages" where some are `far`. Where English is among `predicted`,
        "accuracy of English" and "uar of English" are shares of English's. Empty for one language.
    """
    codes = [code for code in predicted if code != "en"]
    if not codes or len(predicted) < 2:
        return [], {}
    correct = {code: (p == truth_B).astype(float) for code, p in predicted.items()}
    groups, words = (
        {"other_languages": codes},
        {"other_languages": f"mean of {len(codes)} other languages" if len(codes) > 1 else "other language"},
    )
    if len(codes) > 2:
        single = {code: rates(truth_B, correct[code][:, None])[metric] for code in codes}
        worst = min(codes, key=lambda code: single[code])
        groups["worst_language"], words["worst_language"] = [worst], f"worst language, {worst}"
    if mine := [code for code in codes if code in far]:
        groups["far_languages"], words["far_languages"] = mine, f"mean of {len(mine)} languages far from audio"
    figures = []
    for name, members in groups.items():
        correct_BR = np.stack([correct[code] for code in members], 1)
        place = Place(name, metric, words[name])
        figures += rate_figures(place, truth_B, correct_BR, classes, seed)
        if "en" in correct:
            figures += _shares(place, truth_B, correct_BR.mean(1), correct["en"], seed)
    return figures, {name: tuple(members) for name, members in groups.items()}


def _shares(
    place: Place, truth_B: np.ndarray, share_B: np.ndarray, english_B: np.ndarray, seed: int
) -> Iterator[Figure]:
    """Accuracy and UAR as a share of English's on the same clips, with intervals; none where English gets nothing.
    Resamples of the clips of which English gets nothing have no share: they are left out of the interval."""
    for name in RATES:

        def share(t: np.ndarray, other: np.ndarray, english: np.ndarray, name: str = name) -> float | None:
            below = rates(t, english[:, None])[name]
            return rates(t, other[:, None])[name] / below if below else None

        value = share(truth_B, share_B, english_B)
        if value is not None:
            interval = metrics.bootstrap_interval(share, truth_B, share_B, english_B, seed=seed)
            yield place.figure(f"{name} of English", value, interval=interval)
