"""Batches of texts alone: what is said of a fact, in any language, beside what is said of others.

A pretrained sentence encoder does not put "a hound woofs" and its translations at one point, and an audio tower that
is drawn to all of them hears a blur. So the text side learns first, without any audio: texts of one fact become
neighbours, facts of one task keep apart, and captions that name the same sounds or describe the same clip stay
together.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from clara.data.entries import Entry, scan
from clara.data.loader import DataConfig
from clara.data.manifest import read_table
from clara.errors import ClaraError
from clara.parsing import parse_json
from clara.text.captions import Captioner, Fact, known
from clara.text.prompts import TASKS, task_labels
from clara.text.tokenizer import Tokenizer

CHUNK = 512  # texts embedded at once
WORD_TEXTS = 6
CAPTIONS = tuple(f"caption_{i}" for i in range(1, 6))  # columns of Clotho's tables


@dataclass(frozen=True)
class FactTextsConfig:
    """The texts of a batch when the text side is trained alone."""

    counts: dict[str, int] = field(default_factory=dict)
    """Texts per fact and batch, by task, at least 2; tasks that are not named get none."""
    words: int = 60
    """Spoken words per batch, drawn from the labels of the shards."""
    events: str | None = None
    """File written by recipes/captions_match.py: captions of the same sounds are positives of each other; or null."""
    pairs: tuple[str, ...] = ()
    """Tables in Clotho's layout, several captions per clip: these are positives of each other."""
    captions: int = 64
    """Sets of captions of either kind per batch, two texts each."""
    scale: float = 16.0
    """Inverse temperature of the losses."""
    apart: float = 20.0
    """Weight of the mean squared cosine between facts of one task: close in meaning need not sound alike."""

    def __post_init__(self) -> None:
        strange = sorted(set(self.counts) - set(TASKS))
        if strange or any(n < 2 for n in self.counts.values()):
            raise ClaraError(
                f"texts.counts={self.counts}: expected tasks of {', '.join(TASKS)}, each with at least 2 texts."
            )


@dataclass
class TextBatch:
    """`fact_U` numbers what each text means; `task_U` the task of a single fact, -1 for captions."""

    ids_UL: Tensor
    mask_UL: Tensor
    fact_U: Tensor
    task_U: Tensor
    texts: list[str]
    broken: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """What an error shows."""
        return self.texts


class FactTexts(Dataset):
    """Item k is batch k, a function of (seed, k)."""

    def __init__(self, config: FactTextsConfig, data: DataConfig, tokenizer: Tokenizer, seed: int) -> None:
        self.texts, self.config, self.tokenizer, self.seed = config, data, tokenizer, seed
        self.captioner = Captioner(data.captions, {})
        facts: list[Fact] = [(t, key) for t in TASKS if t != "word" and t in config.counts for key in task_labels(t)]
        self.facts = facts
        self.words: list[Fact] = []
        if config.counts.get("word") and config.words:
            self.words = sorted({f for e in scan(data) for f in e.facts if f[0] == "word" and known(f)})
        self.entries: list[Entry] = []  # no recording is heard
        self.sets = [s for s in (_events(config.events), *map(_pairs, config.pairs)) if s]
        if not facts and not self.words:
            raise ClaraError("texts.counts names no task: give the texts that each fact of a task gets, {sound: 6}.")

    def __getitem__(self, step: int) -> TextBatch:
        rng, counts = np.random.default_rng([self.seed, step]), self.texts.counts
        chosen = [self.words[i] for i in rng.permutation(len(self.words))[: self.texts.words]]
        texts: list[str] = []
        fact: list[int] = []
        task: list[int] = []
        for number, (name, key) in enumerate([*self.facts, *chosen]):
            texts += [self.captioner.say((name, key), rng).text for _ in range(counts[name])]
            fact += [number] * counts[name]
            task += [TASKS.index(name)] * counts[name]
        number = len(self.facts) + len(chosen)
        for sets in self.sets:
            for i in rng.permutation(len(sets))[: self.texts.captions]:
                two = rng.permutation(len(sets[i]))[:2]
                texts += [sets[i][j] for j in two]
                fact, task, number = fact + [number] * 2, task + [-1] * 2, number + 1
        ids_UL, mask_UL = self.tokenizer(texts)
        return TextBatch(ids_UL, mask_UL, torch.tensor(fact), torch.tensor(task), texts)


def _events(path: str | None) -> list[list[str]]:
    """Captions by the sounds and voices that they name, where at least two name the same."""
    if path is None:
        return []
    found: dict[str, list[str]] = defaultdict(list)
    try:
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            row = parse_json(line)
            found[json.dumps(sorted(e[:2] for e in row["events"]))].append(row["text"])
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ClaraError(f"texts.events={path!r} cannot be read ({e}): expected what captions_match.py writes.") from e
    return [texts for texts in found.values() if len(set(texts)) > 1]


def _pairs(path: str) -> list[list[str]]:
    """The captions of each clip of a table in Clotho's layout."""
    found = [[row[c].strip() for c in CAPTIONS if row[c].strip()] for row in read_table(path, CAPTIONS)]
    return [texts for texts in found if len(texts) > 1]


@torch.no_grad()
def fact_vectors(
    encode: Callable[[Tensor, Tensor], Tensor],
    tokenizer: Tokenizer,
    captioner: Captioner,
    facts: Sequence[Fact],
    count: int,
    device: torch.device,
) -> Tensor:
    """The mean direction of what is said of each fact: (F, D), unit vectors.

    Args:
        encode: token ids and mask -> unit embeddings (U, D).
        tokenizer: of the texts.
        captioner: draws `count` texts per fact, in its languages; a spoken word, which most languages say alike, gets
            WORD_TEXTS.
        facts: what to say.
        device: where `encode` works.
    """
    rng = np.random.default_rng(0)
    texts = [
        [captioner.say(f, rng).text for _ in range(min(count, WORD_TEXTS) if f[0] == "word" else count)] for f in facts
    ]
    flat, owner = [t for each in texts for t in each], [n for n, each in enumerate(texts) for _ in each]
    order = sorted(range(len(flat)), key=lambda i: len(flat[i]))
    sums = torch.zeros(0)
    for rows in tqdm([order[i : i + CHUNK] for i in range(0, len(order), CHUNK)], desc="targets", disable=None):
        ids_UL, mask_UL = tokenizer([flat[i] for i in rows])
        text_UD = encode(ids_UL.to(device), mask_UL.to(device)).float()
        sums = sums if len(sums) else text_UD.new_zeros(len(facts), text_UD.shape[1])
        sums.index_add_(0, torch.tensor([owner[i] for i in rows], device=device), text_UD)
    return torch.nn.functional.normalize(sums, dim=1)
