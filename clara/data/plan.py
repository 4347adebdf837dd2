"""Which samples a batch holds: a pure function of (seed, step), balanced over corpora, languages and classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from clara.errors import ClaraError
from clara.text.captions import SOUND_TASKS

if TYPE_CHECKING:
    from clara.data.entries import Entry
    from clara.data.loader import DataConfig


class Plan:
    """Which samples batch k holds: balanced draws, buckets of similar length."""

    def __init__(self, entries: Sequence[Entry], config: DataConfig, seed: int) -> None:
        self.config, self.seed, self.entries = config, seed, entries
        groups: dict[str, dict[str, dict[str, list[int]]]] = {}
        for i, e in enumerate(entries):
            corpus, language = str(e.meta.get("corpus")), str(e.meta.get("language") or "")
            label = str(e.meta.get("emotion") or e.meta.get("label") or "")
            groups.setdefault(corpus, {}).setdefault(language, {}).setdefault(label, []).append(i)
        self.groups = groups
        weights = config.sampling.corpora
        unknown_names = set(weights) - set(groups)
        if unknown_names:
            raise ClaraError(f"sampling.corpora names {sorted(unknown_names)}; the shards hold {sorted(groups)}.")
        sizes = {c: sum(len(v) for langs in g.values() for v in langs.values()) for c, g in groups.items()}
        self.corpora = [c for c in sorted(groups) if weights.get(c, 0) > 0] if weights else sorted(groups)
        p = [weights[c] if weights else sizes[c] ** config.sampling.corpus_power for c in self.corpora]
        self.p_corpus = np.array(p) / np.sum(p)
        self.sounds = [i for i, e in enumerate(entries) if any(t in SOUND_TASKS for t, _ in e.facts)]

    def draw(self, rng: np.random.Generator) -> int:
        """The index of one sample."""
        languages = self.groups[self.corpora[rng.choice(len(self.corpora), p=self.p_corpus)]]
        classes = languages[sorted(languages)[rng.integers(len(languages))]]
        names = sorted(classes)
        p = np.array([len(classes[n]) for n in names], float) ** self.config.sampling.class_power
        members = classes[names[rng.choice(len(names), p=p / p.sum())]]
        return members[rng.integers(len(members))]

    def sound(self, rng: np.random.Generator) -> Entry:
        """Any labelled sound, to be mixed with another clip."""
        return self.entries[self.sounds[rng.integers(len(self.sounds))]]

    def batch(self, step: int) -> list[int]:
        """The samples of batch `step`, in order."""
        group, part = divmod(step, self.config.bucket)
        rng = np.random.default_rng([self.seed, group, 1])
        drawn = np.array([self.draw(rng) for _ in range(self.config.batch_size * self.config.bucket)])
        if self.config.bucket > 1:
            jitter = rng.uniform(0.8, 1.25, len(drawn))  # soft edges, so that buckets are not the same corpora for ever
            length = [min(_seconds(self.entries[i]), self.config.crop_seconds) for i in drawn]
            drawn = drawn[np.argsort(length * jitter, kind="stable")]
            part = rng.permutation(self.config.bucket)[part]
        return [int(i) for i in drawn[part * self.config.batch_size : (part + 1) * self.config.batch_size]]


def _seconds(entry: Entry) -> float:
    return float(entry.meta.get("seconds") or 10.0)
