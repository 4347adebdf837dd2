"""Clips by what is said: a sentence finds the clips in which it is spoken, and a clip finds its sentence.

The caption protocol (`clara.eval.retrieval`) on transcripts. Several speakers and emotions may say one sentence, so
each distinct sentence is one query, for which every clip with it is right; a clip queries all distinct sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from clara import metrics
from clara.data.corpora import told
from clara.data.manifest import read_table
from clara.errors import ClaraError
from clara.eval.clips import Context, DataSpec
from clara.eval.duplicates import TIES
from clara.eval.retrieval import examples, rank_figures
from clara.eval.scores import Place
from clara.results import Outcomes, Result, pack


@dataclass(frozen=True)
class TranscriptConfig:
    """Retrieval of speech by its transcript or a translation."""

    data: DataSpec
    """Clips that are searched."""
    clips: int | None = 500
    """Most clips, drawn by the seed; null = all."""
    field: str = "transcript"
    """Field of a row, or of its `original`, that holds the sentence."""
    translations: str | None = None
    """CSV with columns transcript and translation, beside the recipe or in the working directory; or null."""
    chunk: int = 1024
    """Queries compared at a time."""


def transcripts(config: TranscriptConfig, context: Context) -> Result:
    """T2A and A2T figures of clips and their sentences, at "t2a" and "a2t"; `notes["without"]` counts the clips that
    have no sentence.

    Raises:
        ClaraError: no clip with a sentence, fewer than two sentences, or a table of translations that is not there.
    """
    rows = context.rows(config.data)
    pairs = [(row, text) for row in rows if (text := told(row, config.field))]
    if config.translations:
        table = _translations(config.translations, context.near)
        pairs = [(row, table[text]) for row, text in pairs if text in table]
    without = len(rows) - len(pairs)
    if config.clips is not None and config.clips < len(pairs):
        chosen = np.random.default_rng(context.seed).choice(len(pairs), config.clips, replace=False)
        pairs = [pairs[i] for i in sorted(chosen)]
    said = [text for _, text in pairs]
    sentences = list(dict.fromkeys(said))
    if len(sentences) < 2:
        raise ClaraError(
            f"{len(sentences)} sentences in the field {config.field!r} of {len(rows)} clips of {config.data.corpus}: "
            "expected at least two to choose from. Name the field that holds the transcript."
        )
    place = {text: i for i, text in enumerate(sentences)}
    of_A = np.array([place[text] for text in said])
    audio_AD, text_TD = context.audio([row for row, _ in pairs]), context.text(sentences)
    found = sentence_figures(audio_AD, text_TD, of_A, context.seed, config.chunk)
    shown = _examples(audio_AD, text_TD, said, of_A, config.chunk)
    return replace(found, examples=tuple(shown), notes=found.notes | {"without": without})


def sentence_figures(audio_AD: Tensor, text_TD: Tensor, of_A: np.ndarray, seed: int = 0, chunk: int = 1024) -> Result:
    """Retrieval figures both ways. `of_A`: index of each clip's sentence among the T; each needs a clip. The 95 %
    interval of R@1 is over sentences for T2A, over clips for A2T; its chance is that of a random ranking."""
    count_T = np.bincount(of_A, minlength=len(text_TD))
    t2a = metrics.gallery_ranks(text_TD, audio_AD, [np.flatnonzero(of_A == t) for t in range(len(text_TD))], chunk)
    a2t = metrics.gallery_ranks(audio_AD, text_TD, of_A[:, None], chunk)
    first = {"t2a": np.array([r[0] for r in t2a]), "a2t": np.array([r[0] for r in a2t])}
    found = metrics.retrieval_figures(first["t2a"], a2t)
    found["t2a"]["mAP@10"] = metrics.map_at_10(t2a)  # of all clips with the sentence, not of the first alone
    chance = {"t2a": float(count_T.mean() / len(of_A)), "a2t": 1 / len(text_TD)}
    intervals = {
        way: metrics.bootstrap_interval(lambda h: float(h.mean()), (ranks <= 1).astype(float), seed=seed)
        for way, ranks in first.items()
    }
    outcomes = {way: Outcomes("ranks", pack(ranks)) for way, ranks in first.items()}
    notes = {"sentences": len(text_TD), "ties": TIES}
    return Result(
        len(of_A), tuple(rank_figures(found, chance, intervals, Place("", "R@1"))), outcomes=outcomes, notes=notes
    )


def _examples(
    audio_AD: Tensor, text_TD: Tensor, said: Sequence[str], of_A: np.ndarray, chunk: int
) -> list[dict[str, Any]]:
    """As of `retrieval`: each clip with its sentence, and the rank of the best clip with it."""
    own = [np.flatnonzero(of_A == t) for t in range(len(text_TD))]
    best_T = np.array([r[0] for r in metrics.gallery_ranks(text_TD, audio_AD, own, chunk)])
    return examples(audio_AD, text_TD[of_A], [[text] for text in said], best_T[of_A])


def _translations(name: str, near: Path | str | None) -> dict[str, str]:
    beside = Path(near).parent / name if near else Path(name)
    path = beside if beside.is_file() else Path(name)
    if not path.is_file():
        raise ClaraError(f"translations={name!r}: no such file beside the recipe or in the working directory.")
    table = read_table(path, ("transcript", "translation"))
    return {r["transcript"].strip(): r["translation"].strip() for r in table if r["translation"].strip()}
