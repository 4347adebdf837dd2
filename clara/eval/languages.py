"""Prompts in many languages on one set of clips: the mean over languages, the worst, those far from audio, and a table.

A language is far from audio where its captions were never paired with sounds: a text stage (`clara align`) lists these
in its recipe under `far_languages`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clara import metrics
from clara.config import load_yaml
from clara.errors import ClaraError
from clara.text.prompts import languages, load_language

RATES = ("accuracy", "uar")
MANY = 4  # languages beyond which they are told as a table, not a line each


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


def rates(truth_B: np.ndarray, correct_BR: np.ndarray) -> dict[str, float]:
    """Accuracy and UAR of several predictions of the same clips, each the mean over them (1: right, 0: wrong)."""
    share_B = correct_BR.mean(1)
    _, class_B = np.unique(truth_B, return_inverse=True)
    recall_K = np.bincount(class_B, share_B) / np.bincount(class_B)
    return {"accuracy": float(share_B.mean()), "uar": float(recall_K.mean())}


def rates_with_intervals(truth_B: np.ndarray, correct_BR: np.ndarray, seed: int) -> dict[str, Any]:
    """`rates`, each with its 95 % bootstrap interval over clips."""
    share_B1, out = correct_BR.mean(1, keepdims=True), {}
    for name, value in rates(truth_B, correct_BR).items():
        out[name] = value
        out[f"{name}_95"] = metrics.bootstrap_interval(
            lambda t, c, name=name: rates(t, c)[name], truth_B, share_B1, seed=seed
        )
    return out


def over_languages(
    predicted: Mapping[str, np.ndarray], truth_B: np.ndarray, metric: str, far: Sequence[str] = (), seed: int = 0
) -> dict[str, Any]:
    """What a set of prompt languages comes to, on the same clips.

    Args:
        predicted: code -> class of each clip.
        metric: the rate, 'accuracy' or 'uar', by which a language is the worst.
        far: languages whose captions were never paired with audio.

    Returns:
        {"other_languages": …} of all but English; with three of these or more "worst_language", whose code is
        `language`; and "far_languages" where some are `far`. Each has its `languages`, their mean `accuracy` and `uar`
        with intervals, and, where English is among `predicted`, `of_english`: both as a share of English's. Empty for
        one language.
    """
    codes = [code for code in predicted if code != "en"]
    if not codes or len(predicted) < 2:
        return {}
    correct = {code: (p == truth_B).astype(float) for code, p in predicted.items()}
    groups = {"other_languages": codes}
    if len(codes) > 2:
        single = {code: rates(truth_B, correct[code][:, None])[metric] for code in codes}
        groups["worst_language"] = [min(codes, key=lambda code: single[code])]
    if mine := [code for code in codes if code in far]:
        groups["far_languages"] = mine
    out = {}
    for name, members in groups.items():
        correct_BR = np.stack([correct[code] for code in members], 1)
        found = {"language": members[0]} if name == "worst_language" else {"languages": members}
        found |= rates_with_intervals(truth_B, correct_BR, seed)
        if "en" in correct:
            found["of_english"] = _shares(truth_B, correct_BR.mean(1), correct["en"], seed)
        out[name] = found
    return out


def _shares(truth_B: np.ndarray, share_B: np.ndarray, english_B: np.ndarray, seed: int) -> dict[str, Any]:
    """Accuracy and UAR as a share of English's on the same clips, with intervals; none where English gets nothing.
    Resamples of the clips of which English gets nothing have no share: they are left out, and `NAME_95_left_out` tells
    how many, where there are any."""
    out: dict[str, Any] = {}
    for name in RATES:
        base = rates(truth_B, english_B[:, None])[name]
        if base == 0:
            continue

        left_out = []

        def share(t: np.ndarray, other: np.ndarray, english: np.ndarray, name: str = name) -> float | None:
            below = rates(t, english[:, None])[name]
            if below == 0:
                left_out.append(name)  # noqa: B023 - called in this turn of the loop alone
                return None
            return rates(t, other[:, None])[name] / below

        out[name] = share(truth_B, share_B, english_B)
        out[f"{name}_95"] = metrics.bootstrap_interval(share, truth_B, share_B, english_B, seed=seed)
        if left_out:
            out[f"{name}_95_left_out"] = len(left_out)
    return out


def table(results: Sequence[tuple[str, Mapping[str, Any]]]) -> list[list[str]]:
    """Results with many prompt languages side by side: a head, a line each language (English first), then the mean of
    the others, of those far from audio, and the worst, with their shares of English; intervals in these last lines
    alone, they are alike in all languages. Empty where no result has many.

    Args:
        results: (metric, 'accuracy' or 'uar', by which it is judged; result of `zero_shot`), one a column.
    """
    shown = [(metric, r) for metric, r in results if len(r.get("languages", ())) > MANY]
    if not shown:
        return []
    codes = sorted({code for _, r in shown for code in r["languages"]}, key=lambda c: (c != "en", c))
    far = {code for _, r in shown for code in r.get("far_languages", {}).get("languages", ())}
    names = {"accuracy": "accuracy", "uar": "UAR"}
    lines = [["language", "code", *(f"{r['name']} {names[metric]}" for metric, r in shown)]]
    for code in codes:
        cells = [_cell(r["languages"].get(code, {}).get("plain", {}), metric, spread=False) for metric, r in shown]
        lines.append([load_language(code).english_name + (" (far)" if code in far else ""), code, *cells])
    for name, title in (("other_languages", "mean of all others"), ("far_languages", "mean of those far from audio")):
        nodes = [r.get(name, {}) for _, r in shown]
        if any(nodes):
            count = max(len(n.get("languages", ())) for n in nodes)
            lines += _summary(title, str(count), shown, nodes)
    nodes = [r.get("worst_language", {}) for _, r in shown]
    return lines + (_summary("worst", "one", shown, nodes) if any(nodes) else [])


def _summary(
    title: str, count: str, shown: Sequence[tuple[str, Mapping[str, Any]]], nodes: Sequence[Mapping[str, Any]]
) -> list[list[str]]:
    values = [
        _cell(node, metric) + (f" ({node['language']})" if "language" in node else "")
        for (metric, _), node in zip(shown, nodes)
    ]
    shares = [_cell(node.get("of_english", {}), metric, percent=True) for (metric, _), node in zip(shown, nodes)]
    return [[title, count, *values], [f"{title}, share of English", count, *shares]]


def _cell(found: Mapping[str, Any], metric: str, percent: bool = False, spread: bool = True) -> str:
    """A figure with its interval, where it has one."""
    if metric not in found:
        return "–"
    values = [found[metric], *(found.get(f"{metric}_95", ()) if spread else ())]
    head, *ends = [f"{100 * v:.0f} %" if percent else f"{v:.3f}" for v in values]
    return head + (f" [{', '.join(ends)}]" if ends else "")
