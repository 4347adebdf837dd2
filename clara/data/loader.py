"""webdataset shards -> Batch. Batch k is a pure function of (seed, k), so training resumes where it stopped.

Shards are scanned once for where each member lies; samples are then read by offset, which is what lets sampling be
balanced over corpora × languages × classes whatever the order on disk. Every process plans the whole global batch
(labels only) and decodes its own slice of it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from clara.audio.augment import WaveAugmentConfig, augment_wave, crop, mix
from clara.audio.features import pad_waves
from clara.data.entries import BrokenClip, Entry, own_texts, read_entry, scan
from clara.data.manifest import TEXTS
from clara.data.parallel import end_with_parent
from clara.data.plan import Plan
from clara.errors import ClaraError
from clara.text.captions import (
    EXCLUDES,
    SOUND_TASKS,
    SPEECH_TASKS,
    Caption,
    CaptionConfig,
    Captioner,
    Fact,
    judge,
    known,
    open_tasks,
    spoken_word,
)
from clara.text.tokenizer import Tokenizer

# texts and tokens of a batch are padded to multiples of this: oneDNN compiles and keeps kernels for every new shape
ROUND = 8
MOST_DRAWS = 10  # for a place in a batch, before it is the corpus that is broken
LEAST_SECONDS = 2.0  # of a longer sound that a shorter one is laid into


@dataclass(frozen=True)
class SamplingConfig:
    """How often corpora and classes are drawn."""

    corpora: dict[str, float] = field(default_factory=dict)
    """Weight of each corpus; empty = its number of clips ** `corpus_power`."""
    corpus_power: float = 0.5
    """Exponent for corpora without weights, 0 (uniform) to 1 (proportional)."""
    class_power: float = 0.0
    """Classes within a corpus and language are drawn with clips ** this; 0 = uniformly."""


@dataclass(frozen=True)
class MixConfig:
    """Mixing of two clips. Probabilities are per clip; SNR is of the first clip over the second."""

    compose: float = 0.4
    """Probability that a sound is mixed with another sound, both captioned."""
    compose_snr_db: tuple[float, float] = (-6.0, 6.0)
    """Range of their SNR, dB."""
    background: float = 0.25
    """Probability that an uncaptioned sound is laid under speech."""
    background_snr_db: tuple[float, float] = (3.0, 25.0)
    """Range of their SNR, dB."""
    over: float = 0.0
    """Probability that a captioned sound is laid under speech."""
    over_snr_db: tuple[float, float] = (0.0, 15.0)
    """Range of their SNR, dB."""
    over_named_db: float = 10.0
    """Above this SNR, dB, the sound is barely audible and stays uncaptioned."""


@dataclass(frozen=True)
class DataConfig:
    """Which clips are read and how they are batched."""

    shards: tuple[str, ...]
    """Tars, folders of tars, or globs."""
    batch_size: int
    """Clips per step over all processes together."""
    splits: tuple[str, ...] = ("train",)
    """Splits to use: 'train', or 'esc50:train' for one corpus alone; empty = all."""
    exclude_corpora: tuple[str, ...] = ()
    """Corpora to leave out, by name."""
    crop_seconds: float = 4.0
    """Longest crop of a clip, seconds."""
    bucket: int = 1
    """Batches drawn together and sorted by length; 1 = off, which towers with batch norm want."""
    workers: int = 1
    """Loader processes per training process."""
    sampling: SamplingConfig = SamplingConfig()
    """How often corpora and classes are drawn."""
    captions: CaptionConfig = CaptionConfig()
    """Which text of a clip is trained on."""
    augment: WaveAugmentConfig | None = WaveAugmentConfig()
    """Augmentation of waveforms; null = none."""
    mix: MixConfig = MixConfig()
    """Mixing of clips."""
    broken_most: int = 0
    """Unreadable clips that are reported and replaced before the run stops; 0 = stop at the first. Stored states leave
    them out."""


@dataclass
class Batch:
    """One process's slice of a global batch; `positive_BU`, `ignore_BU` and `target_BD` are of the whole (rank 0's rows
    first)."""

    x: Tensor  # waves (B, T), or stored states (B, N, K, W)
    len_B: Tensor  # how many samples, or frames, of each are real
    ids_UL: Tensor
    mask_UL: Tensor
    positive_BU: Tensor
    ignore_BU: Tensor
    text_index_B: Tensor
    fact_BF: Tensor  # which of the labelled facts (`FactTargets`) hold for which clip
    fact_ignore_BF: Tensor  # which of them neither hold nor fail
    keys: list[str]
    texts: list[str]
    target_BD: Tensor | None = None  # of a teacher
    broken: list[str] = field(default_factory=list)  # what is wrong with clips that others stand in for

    @property
    def names(self) -> list[str]:
        """What an error shows."""
        return self.keys


@dataclass(frozen=True)
class ClipPlan:
    """How a clip is to sound, decided before any samples are read. `partner`: a second clip, mixed in at `snr` dB below
    the first; `compose`: both are sounds of equal standing, else the partner is the background of the first; `named`:
    captions may mention the partner."""

    entry: Entry
    partner: Entry | None = None
    compose: bool = False
    named: bool = False
    snr: float = 0.0

    @property
    def facts(self) -> frozenset[Fact]:
        """What the clip is labelled with, and the sounds of a partner that may be named."""
        if not (self.partner and self.named):
            return self.entry.facts
        return self.entry.facts | {f for f in self.partner.facts if f[0] in SOUND_TASKS}

    @property
    def open_tasks(self) -> frozenset[str]:
        """The tasks for which it may be anything: it is not labelled, and of a kind that has them."""
        unnamed = SOUND_TASKS if self.partner and not self.named else frozenset()
        return (open_tasks(self.facts) | unnamed) - {t for t, _ in self.facts}


@dataclass(frozen=True)
class ClipText:
    """What may be said of a clip: `facts` that hold for it and `own`, the caption drawn for it alone, if any."""

    facts: frozenset[Fact]
    own: Caption | None


class FactTargets:
    """Which of the facts that the shards are labelled with hold for a clip, fail, or are undecided."""

    def __init__(self, inventory: Mapping[str, frozenset[Fact]]) -> None:
        self.facts = sorted({f for facts in inventory.values() for f in facts if known(f)})
        self.column = {fact: i for i, fact in enumerate(self.facts)}
        emotions = [f for f in self.facts if f[0] == "emotion"]
        self.lacking = {c: [self.column[f] for f in emotions if f not in facts] for c, facts in inventory.items()}
        alike: dict[str, list[int]] = {}
        for fact in self.facts:
            if fact[0] == "word":
                alike.setdefault(spoken_word(fact[1]).casefold(), []).append(self.column[fact])
        self.undecided = {f: self._undecided(f, alike) for f in self.facts}
        self.columns: dict[str, list[int]] = {}
        for fact, column in self.column.items():
            self.columns.setdefault(fact[0], []).append(column)

    def _undecided(self, fact: Fact, alike: Mapping[str, list[int]]) -> list[int]:
        """Facts of the same task that this one leaves open: a low voice may be fast, many languages say "taxi"."""
        task, key = fact
        if task == "word":
            return alike[spoken_word(key).casefold()]
        if task not in EXCLUDES:
            return []
        rivals = {k for group in EXCLUDES[task] if key in group for k in group}
        return [c for (t, k), c in self.column.items() if t == task and k not in rivals]

    def __call__(self, plans: Sequence[ClipPlan]) -> tuple[Tensor, Tensor]:
        """positive and ignore, both (B, F)."""
        positive = torch.zeros(len(plans), len(self.facts), dtype=torch.bool)
        ignore = torch.zeros_like(positive)
        for b, plan in enumerate(plans):
            ignore[b, self.lacking[str(plan.entry.meta.get("corpus"))]] = True
            for task in plan.open_tasks:
                ignore[b, self.columns.get(task, [])] = True
            for fact in plan.facts & self.column.keys():
                positive[b, self.column[fact]] = True
                ignore[b, self.undecided[fact]] = True
        return positive, ignore & ~positive


class TrainBatches(Dataset):
    """Item k is batch k of this process."""

    def __init__(
        self, config: DataConfig, tokenizer: Tokenizer, sample_rate: int, seed: int, ranks: tuple[int, int]
    ) -> None:
        self.config, self.tokenizer, self.rate, self.seed = config, tokenizer, sample_rate, seed
        self.rank, self.world = ranks
        self.filler = "-"  # fills up the texts to the same number in every process; nobody's caption
        if config.batch_size % self.world:
            raise ClaraError(f"batch_size {config.batch_size} is not a multiple of the {self.world} processes.")
        self.entries = self._known(scan(config))
        inventory: dict[str, frozenset[Fact]] = {}
        for e in self.entries:
            corpus = str(e.meta.get("corpus"))
            inventory[corpus] = inventory.get(corpus, frozenset()) | e.facts
        self.plan, self.captioner = Plan(self.entries, config, seed), Captioner(config.captions, inventory)
        self.fact_targets = FactTargets(inventory)

    def _known(self, entries: list[Entry]) -> list[Entry]:
        """Those of the shards' entries that may be drawn."""
        return entries

    def __getitem__(self, step: int) -> Batch:
        replaced: Counter[int] = Counter()
        told: list[str] = []
        while True:
            try:
                return dataclasses.replace(self._batch(step, replaced), broken=told)
            except BrokenClip as e:
                replaced[e.place] += 1
                told = list(dict.fromkeys([*told, str(e)]))
                if len(told) > self.config.broken_most or replaced[e.place] > MOST_DRAWS:
                    raise ClaraError(f"{e} (data.broken_most=N replaces up to N such clips by others.)") from e

    def _batch(self, step: int, replaced: Mapping[int, int]) -> Batch:
        """Batch `step`, its clips at some places drawn anew so many times."""
        chosen, again = self.plan.batch(step), {n: [times] for n, times in replaced.items()}
        for n, times in again.items():
            chosen[n] = self.plan.draw(np.random.default_rng([self.seed, step, 5, n, *times]))
        rngs = [np.random.default_rng([self.seed, step, 3, n, *again.get(n, ())]) for n in range(len(chosen))]
        plans = [self._plan(i, rng) for i, rng in zip(chosen, rngs)]
        texts = [self._text(plan, rng) for plan, rng in zip(plans, rngs)]
        captions = self._captions(plans, texts, np.random.default_rng([self.seed, step, 2]))
        share, size = ROUND * max(1, -(-len(captions) // (ROUND * self.world))), len(chosen) // self.world
        positive_BU, ignore_BU, text_index_B = self._targets(plans, texts, captions, share * self.world)
        mine = range(self.rank * size, (self.rank + 1) * size)
        said = [c.text for c in captions] + [self.filler] * (share * self.world - len(captions))
        local = said[self.rank * share : (self.rank + 1) * share]
        if self.config.broken_most and self.world > 1:
            self._audio(plans, step, range(len(plans)))
        x, len_B = self._audio([plans[n] for n in mine], step, list(mine))
        ids_UL, mask_UL = self._tokens(local)
        keys = [plans[n].entry.key for n in mine]
        target_BD = self._target(plans)
        verdicts = (positive_BU, ignore_BU, text_index_B, *self.fact_targets(plans))
        return Batch(x, len_B, ids_UL, mask_UL, *verdicts, keys, local, target_BD)

    def _target(self, plans: Sequence[ClipPlan]) -> Tensor | None:
        """Embeddings of a teacher, where there is one."""
        return None

    def _tokens(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Token ids and mask, their length rounded up as far as the context allows."""
        ids_UL, mask_UL = self.tokenizer(texts)
        more = min(-ids_UL.shape[1] % ROUND, self.tokenizer.context_length - ids_UL.shape[1])
        return nn.functional.pad(ids_UL, (0, more), value=self.tokenizer.pad_id), nn.functional.pad(mask_UL, (0, more))

    def _plan(self, index: int, rng: np.random.Generator) -> ClipPlan:
        """Whether a clip is mixed with another, and how."""
        return plan_clip(self.entries[index], self.plan, self.config.mix, rng)

    def _text(self, plan: ClipPlan, rng: np.random.Generator) -> ClipText:
        """The facts of this step and the clip's own caption."""
        meta, c = plan.entry.meta, self.config.captions
        facts = self.captioner.heard(plan.entry.facts, rng)
        if plan.named:
            facts = facts | {f for f in plan.partner.facts if f[0] in SOUND_TASKS}
        own = self.captioner.own({} if plan.compose else meta, facts, rng)
        if own is None and not plan.entry.facts:  # nothing else could be said of this clip
            texts = own_texts(meta, c)
            text = texts[rng.integers(len(texts))]
            own = Caption(text, frozenset({("text", text)}))
        texts = frozenset(("text", t) for name in TEXTS for t in meta[name])
        if max(c.said, c.transcript) > 0 and meta["transcript"]:
            texts |= {("text", meta["transcript"].strip())}
        if own is not None:  # a quotation names the speaker even where `heard` dropped that
            facts = facts | own.facts
        return ClipText(facts if plan.compose else facts | texts, own)

    def _captions(
        self, plans: Sequence[ClipPlan], texts: Sequence[ClipText], rng: np.random.Generator
    ) -> list[Caption]:
        corpora = {str(p.entry.meta.get("corpus")) for p in plans}
        shared = self.captioner.batch([t.facts for t in texts], corpora, rng)
        return list(dict.fromkeys([t.own for t in texts if t.own] + shared))

    def _targets(
        self, plans: Sequence[ClipPlan], texts: Sequence[ClipText], captions: list[Caption], width: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """positive and ignore (B, width) and the column of each clip's own (else first true) caption."""
        verdict = np.zeros((len(plans), width), np.int8)
        for b, (plan, said) in enumerate(zip(plans, texts)):
            inventory = self.captioner.inventory[str(plan.entry.meta.get("corpus"))]
            unnamed = plan.partner and not plan.named
            may = open_tasks(said.facts | plan.entry.facts) | (SOUND_TASKS if unnamed else frozenset())
            cache: dict[frozenset[Fact], int] = {}
            for u, caption in enumerate(captions):
                if caption.facts not in cache:
                    cache[caption.facts] = judge(caption.facts, said.facts, inventory, may)
                verdict[b, u] = cache[caption.facts]
        positive = torch.from_numpy(verdict == 1)
        columns = {c: u for u, c in reversed(list(enumerate(captions)))}
        own = [columns[t.own] if t.own else int(positive[b].int().argmax()) for b, t in enumerate(texts)]
        return positive, torch.from_numpy(verdict == 0), torch.tensor(own)

    def _audio(self, plans: Sequence[ClipPlan], step: int, places: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Waves (B, T) and their lengths in samples; each clip is cropped and augmented by its place in the batch."""
        rngs = [np.random.default_rng([self.seed, step, 4, n]) for n in places]
        waves = []
        for plan, rng, place in zip(plans, rngs, places):
            try:
                waves.append(self._wave(plan, rng))
            except BrokenClip as e:
                e.place = place
                raise
        return pad_waves([torch.from_numpy(w) for w in waves])

    def _wave(self, plan: ClipPlan, rng: np.random.Generator) -> np.ndarray:
        """The samples of one clip: float32 (T,)."""
        return render(plan, self.rate, self.config, rng)


def plan_clip(entry: Entry, plan: Plan, mix: MixConfig, rng: np.random.Generator) -> ClipPlan:
    """Draw whether `entry` is mixed with a sound of `plan`, at which level, and whether captions name it."""
    is_sound = any(t in SOUND_TASKS for t, _ in entry.facts)
    is_speech = not is_sound and any(t in SPEECH_TASKS for t, _ in entry.facts)
    if mix.over > 0 and plan.sounds and is_speech and rng.random() < mix.over:
        partner, snr = plan.sound(rng), rng.uniform(*mix.over_snr_db)
        return ClipPlan(entry, partner, compose=False, named=snr <= mix.over_named_db, snr=snr)
    if plan.sounds and rng.random() < (mix.compose if is_sound else mix.background):
        partner = plan.sound(rng)
        snr = rng.uniform(*(mix.compose_snr_db if is_sound else mix.background_snr_db))
        return ClipPlan(entry, partner, compose=is_sound, named=is_sound, snr=snr)
    return ClipPlan(entry)


def render(plan: ClipPlan, rate: int, config: DataConfig, rng: np.random.Generator) -> np.ndarray:
    """Read, crop, mix and augment one clip: float32 (T,) at `rate`, at most `crop_seconds` long."""
    size = int(config.crop_seconds * rate)
    margin = size
    if config.augment and not (plan.named and not plan.compose):
        # speeding up eats samples, but a background that is named must not be cut off
        margin = int(config.augment.fastest * size)
    wave = crop(read_entry(plan.entry, rate), margin, rng)
    if plan.partner is not None:
        wave = _overlay(wave, read_entry(plan.partner, rate), plan.compose, plan.snr, rate, rng)
    if config.augment:
        wave = augment_wave(wave, rate, config.augment, rng)
    return np.ascontiguousarray(crop(wave, size, rng, tries=1))


def _overlay(
    wave: np.ndarray, other: np.ndarray, compose: bool, snr: float, rate: int, rng: np.random.Generator
) -> np.ndarray:
    """Two sounds that are both captioned must both be heard whole enough: the longer is the base, the other inside it.
    A background may only fill the length that the speech has."""
    if compose and len(other) > len(wave):
        other = crop(other, max(len(wave), int(LEAST_SECONDS * rate)), rng)
        if len(other) > len(wave):
            wave, other, snr = other, wave, -snr
    other = crop(other, len(wave), rng)
    return mix(wave, other, snr, int(rng.integers(0, len(wave) - len(other) + 1)))


def make_loader(batches: Any, *, steps: range) -> DataLoader:
    """The batches of `steps` (resuming is range(done, last)), made by `batches.config.workers` background processes."""
    # forkserver: forking a process that has run torch threads can deadlock the child
    context: Mapping[str, Any] = {
        "multiprocessing_context": "forkserver",
        "prefetch_factor": 4,
        "worker_init_fn": end_with_parent,
    }
    workers = batches.config.workers
    return DataLoader(batches, batch_size=None, sampler=steps, num_workers=workers, **(context if workers else {}))
