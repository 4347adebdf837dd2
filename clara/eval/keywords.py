"""Keyword spotting per language: the words spoken, zero-shot by their text and from a few clips per word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from clara.calibration import offsets
from clara.data.manifest import Row
from clara.errors import ClaraError, unknown
from clara.eval.clips import Context, DataSpec
from clara.eval.probe import draw_shots, prototypes
from clara.eval.scores import Place, draw_figures, shown
from clara.results import Result
from clara.text.prompts import languages as known_languages
from clara.text.prompts import load_language, own_prompts, prompts


@dataclass(frozen=True)
class KeywordConfig:
    """Spoken words: zero-shot by text, and few-shot by prototypes."""

    train: DataSpec
    """Clips for the prototypes."""
    test: DataSpec
    """Clips that are scored."""
    words: int = 50
    """Words per language: those with the most training clips, ties alphabetical."""
    shots: tuple[int, ...] = (1, 5, 10)
    """Clips per word for the prototypes."""
    seeds: int = 10
    """Number of draws of those clips."""
    languages: tuple[str, ...] = ()
    """Spoken languages to score; empty = all."""
    per_word: int | None = 50
    """Most test clips per word, the first by name; null = all."""
    keys: bool = False
    """Whether labels are keys of the task 'word' ('stop'), put into the spoken language; else words as spoken."""


def keywords(config: KeywordConfig, context: Context) -> Result:
    """Evaluate each language by itself: figures at "CODE/text/plain", "CODE/text/calibrated" and "CODE/N-shot", and the
    mean over languages at "mean/text" and "mean/N-shot". A language without a file has its words alone for prompts."""
    taught, judged = context.taught(config.train, config.test, max(config.shots, default=1))
    train, test = _spoken(taught), _spoken(judged)
    for code in config.languages:
        if code not in test and context.limit is None:
            raise unknown(f"spoken language of {config.test.corpus}", code, test)
    out: dict[str, Result] = {}
    codes = [c for c in config.languages or sorted(test) if c in test]
    for code in codes:
        words = choose_words(train.get(code, ()), test[code], config)
        if len(words) > 1:
            primary = "accuracy" if shown(code, codes) else None
            out[code] = _language(code, words, (train[code], test[code]), config, context, primary)
    if not out:
        raise ClaraError(f"No language has two words with {max(config.shots, default=0)} training clips each.")
    figures = [f for one in out.values() for f in one.figures]
    for what, end in (("by text", "text/plain"), *((f"{n}-shot", f"{n}-shot") for n in config.shots)):
        mean = Place(f"mean/{end.removesuffix('/plain')}", "accuracy", f"mean of {len(out)} languages, {what}")
        figures.append(mean.figure("accuracy", np.mean([v.value(f"{c}/{end}", "accuracy") for c, v in out.items()])))
    return Result(
        sum(one.clips for one in out.values()),
        tuple(figures),
        languages=tuple(out),
        outcomes={where: o for one in out.values() for where, o in one.outcomes.items()},
        prompts={code: one.prompts[code] for code, one in out.items()},
        notes={"spoken": {code: {"clips": one.clips, **one.notes} for code, one in out.items()}},
    )


def _spoken(rows: Sequence[Row]) -> dict[str, list[Row]]:
    out: dict[str, list[Row]] = {}
    for row in rows:
        if row.language and row.label and row.task == "word":
            out.setdefault(row.language, []).append(row)
    return out


def choose_words(train: Sequence[Row], test: Sequence[Row], config: KeywordConfig) -> list[str]:
    """The words of one language that are scored, sorted; see KeywordConfig."""
    tested, count = {row.label for row in test}, Counter(row.label for row in train)
    enough = [w for w, n in count.items() if w in tested and n >= max(config.shots, default=1)]
    return sorted(sorted(enough, key=lambda w: (-count[w], w))[: config.words])


def _language(
    code: str,
    words: list[str],
    rows: tuple[Sequence[Row], Sequence[Row]],
    config: KeywordConfig,
    context: Context,
    primary: str | None,
) -> Result:
    (train, test), rank, kept = rows, Counter(), []
    for row in sorted(test, key=lambda row: row.audio):
        rank[row.label] += 1
        if row.label in words and (config.per_word is None or rank[row.label] <= config.per_word):
            kept.append(row)
    truth_B, test_BD = np.array([words.index(row.label) for row in kept]), context.audio(kept)
    if config.keys:
        texts = prompts("word", words, code)
    else:
        texts = own_prompts(words, load_language(code).templates["word"] if code in known_languages() else ("{}",))
    score_BK = test_BD @ context.labels(texts).T
    runs = {"text/plain": [score_BK], "text/calibrated": [score_BK - offsets(score_BK, "mean")]}
    pool = [row for row in train if row.label in words]
    y_N = np.array([words.index(row.label) for row in pool])
    for n in config.shots:
        runs[f"{n}-shot"] = []
        for pick in [draw_shots(y_N, n, words, context.seed + i) for i in range(config.seeds)]:
            x_ND = context.audio([pool[i] for i in pick])
            near_BK = (test_BD - x_ND.mean(0)) @ prototypes(x_ND, torch.from_numpy(y_N[pick]), len(words)).T
            runs[f"{n}-shot"].append(near_BK)
    figures, outcomes = [], {}
    for end, scores in runs.items():
        place = Place(f"{code}/{end}", primary)
        named = [s_BK.argmax(1).numpy() for s_BK in scores]
        found, outcomes[place.where] = draw_figures(place, named, truth_B, len(words), context.seed)
        figures += found
    every = {row.label for row in test}
    notes: dict[str, Any] = {"words": len(words)}
    if len(every) <= config.words:
        notes["words_left_out"] = sorted(every - set(words))
    prompted = {code: dict(zip(words, texts))}
    return Result(len(kept), tuple(figures), outcomes=outcomes, prompts=prompted, notes=notes)
