"""Batches whose texts are every fact by name ('emotion/anger'): what an audio tower is trained on against anchors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from clara.data.entries import Entry, scan
from clara.data.loader import ClipPlan, ClipText, DataConfig, TrainBatches
from clara.errors import ClaraError
from clara.text.captions import Caption, Fact, known
from clara.text.tokenizer import FactsTokenizer


def fact_name(fact: Fact) -> str:
    """('emotion', 'anger') -> 'emotion/anger'."""
    return "/".join(fact)


def named_fact(name: str) -> Fact:
    """The inverse of `fact_name`. ClaraError when there is no slash."""
    task, slash, key = name.partition("/")
    if not slash:
        raise ClaraError(f"{name!r} names no fact: expected task/key, such as emotion/anger.")
    return task, key


def vocabulary(config: DataConfig, least_clips: int) -> list[str]:
    """The names of the facts that at least so many clips of the shards are labelled with, sorted. ClaraError if none"""
    entries: list[Entry] = scan(config)
    counts = Counter(fact for e in entries for fact in e.facts if known(fact))
    names = [fact_name(f) for f in sorted(counts) if counts[f] >= least_clips]
    if not names:
        raise ClaraError(
            f"None of the {len(entries)} clips' facts is on {least_clips} clips: lower anchors.least_clips."
        )
    return names


class FactBatches(TrainBatches):
    """As `TrainBatches`, but U is the whole vocabulary of a 'facts' tokenizer, the same in every batch. A clip that is
    labelled with none of it has no positive and does not count."""

    def __init__(
        self, config: DataConfig, tokenizer: FactsTokenizer, sample_rate: int, seed: int, ranks: tuple[int, int]
    ) -> None:
        super().__init__(config, tokenizer, sample_rate, seed, ranks)
        self.filler = tokenizer.facts[0]
        self.vocabulary = [Caption(name, frozenset({named_fact(name)})) for name in tokenizer.facts]

    def _text(self, plan: ClipPlan, rng: np.random.Generator) -> ClipText:
        return ClipText(super()._text(plan, rng).facts, None)

    def _captions(
        self, plans: Sequence[ClipPlan], texts: Sequence[ClipText], rng: np.random.Generator
    ) -> list[Caption]:
        return self.vocabulary
