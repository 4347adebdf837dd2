"""The linear readouts of a `readout` head, solved for when the rest of the model has been trained.

A logistic regression on the mean and deviation of a frozen encoder's layers knows the emotions of strangers better than
heads trained by many steps on few corpora, and sounds as well (LOG.md, 2026-11-29). Here it is fitted over the stored
states of all training clips, against the text embeddings of each class in many languages, so that what it says is said
in the space of the texts: paraphrases and classes without a recording are answered by it as well. Against the mean over
languages alone it would rely on what no language says quite so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize

from clara.data.states import StateBatches, StoredPlan, padded
from clara.errors import ClaraError, unknown
from clara.heads import ReadoutHead
from clara.layers import masked_stats, mean_directions
from clara.losses import minimise
from clara.model import DualEncoder
from clara.text.prompts import languages, prompts

TOGETHER = 128  # clips whose states are pooled at once
SAMPLE = 8  # of so many batches one tells how widely the base head spreads a task
ITERATIONS = 80  # of L-BFGS
GATE_DECAY = 1e-3
OPEN = 20.0  # logit of a gate without another kind of clips
EVERY = 4  # languages: of all 53 the maps are no better, and cost four times as much
LEAST_SPREAD = 1e-5


@dataclass(frozen=True)
class ReadoutConfig:
    """The readout of one task."""

    share: float
    """How much of the task's subspace it decides, 0 to 1; the rest stays with the base head."""
    decay: float
    """Weight of the map's squared norm beside the mean cross-entropy."""
    least_takes: int = 8
    """Classes with fewer stored takes are left out: they lie where their texts do."""
    exclude_corpora: tuple[str, ...] = ()
    """Corpora that it is not fitted to: mixtures, of which not all that is heard is labelled."""


@dataclass(frozen=True)
class Takes:
    """Every usable stored take, in the order of its file: how it was mixed, its corpus, and which facts hold for it or
    are undecided (N, F)."""

    plans: list[StoredPlan]
    corpus_N: np.ndarray
    positive_NF: Tensor
    ignore_NF: Tensor

    @classmethod
    def of(cls, batches: StateBatches) -> Takes:
        """Those of a run."""
        plans = [batches.stored_plan(i, number) for i, numbers in enumerate(batches.usable) for number in numbers]
        plans.sort(key=lambda p: (p.take.file, p.take.start))
        corpus_N = np.array([str(p.entry.meta.get("corpus")) for p in plans])
        return cls(plans, corpus_N, *batches.fact_targets(plans))

    def fitted_N(self, config: ReadoutConfig) -> Tensor:
        """Which of them a readout may be fitted to."""
        return torch.from_numpy(~np.isin(self.corpus_N, config.exclude_corpora))

    def of_kind_N(self, task: str) -> tuple[Tensor, Tensor]:
        """Which have a fact of the task, and which are of another kind: a dog has no emotion. Others may have one."""
        own = torch.tensor([any(t == task for t, _ in p.facts) for p in self.plans])
        return own, ~own & torch.tensor([task not in p.open_tasks for p in self.plans])


def classes_of(
    model: DualEncoder, batches: StateBatches, tasks: Mapping[str, ReadoutConfig], takes: Takes
) -> list[list[int]]:
    """The columns of `takes.positive_NF` that each readout tells apart.

    Raises:
        ClaraError: an audio head of another kind, an unknown task, or one with fewer than two classes or more than its
            rank allows.
    """
    head, facts, found = model.audio_head, batches.fact_targets.facts, []
    if not isinstance(head, ReadoutHead) or len(head.ranks) != len(tasks):
        ranks = list(head.ranks) if isinstance(head, ReadoutHead) else None
        raise ClaraError(
            f"readout: {len(tasks)} tasks, and the model's audio head has ranks {ranks}: expected an audio_head of "
            "kind 'readout' with a rank for each task."
        )
    if strange := sorted(set(tasks) - {t for t, _ in facts}):
        raise unknown("task of readout", strange[0], sorted({t for t, _ in facts}))
    for (task, config), rank in zip(tasks.items(), head.ranks):
        count_F = takes.positive_NF[takes.fitted_N(config)].sum(0)
        columns = [i for i, fact in enumerate(facts) if fact[0] == task and count_F[i] >= config.least_takes]
        if not 2 <= len(columns) <= rank + 1:
            raise ClaraError(
                f"readout.{task}: {len(columns)} classes have {config.least_takes} stored takes or more, and its rank "
                f"is {rank}: expected 2 to {rank + 1} classes. Change the head's ranks or least_takes."
            )
        found.append(columns)
    return found


def fit(
    model: DualEncoder,
    batches: StateBatches,
    tasks: Mapping[str, ReadoutConfig],
    encode: Callable[[list[str]], Tensor],
) -> Iterator[str]:
    """Solve for the readouts of `model`'s audio head, in place; yields a line about each.

    Args:
        model: with an audio head of kind 'readout', with a rank for each task, in the order of `tasks`.
        batches: the stored takes of the clips that were trained on.
        tasks: by name.
        encode: texts -> unit embeddings (U, D).

    Raises:
        ClaraError: as `classes_of`.
    """
    takes = Takes.of(batches)
    classes, head, first = classes_of(model, batches, tasks, takes), model.audio_head, 0
    assert isinstance(head, ReadoutHead)
    model.eval()
    statistics_NS, base_ND, has_base_N = _heard(model, head, batches, takes)
    _begin(head, statistics_NS)
    for number, ((task, config), columns) in enumerate(zip(tasks.items(), classes)):
        texts_LCD = class_texts(encode, task, [batches.fact_targets.facts[c][1] for c in columns])
        basis_RD = _basis(normalize(texts_LCD.sum(0), dim=-1))
        # of a clip of two sounds the map would learn that they are alike
        rows = (takes.positive_NF[:, columns].sum(1) == 1) & takes.fitted_N(config)
        z_NS, label_N = statistics_NS[rows], takes.positive_NF[rows][:, columns].int().argmax(1)
        closed_NC, texts_LRC = takes.ignore_NF[rows][:, columns], basis_RD @ texts_LCD.mT
        weight_N = _weights(label_N.numpy(), takes.corpus_N[rows.numpy()])
        map_SR, bias_R = _logistic(z_NS, label_N, closed_NC, weight_N, texts_LRC, config.decay)
        y_NR = z_NS @ map_SR + bias_R
        # both verdicts are then of like weight: the map's logits know nothing of the embedding's unit length
        spread = _spread(base_ND[rows & has_base_N] @ basis_RD.T) / _spread(y_NR).clamp_min(LEAST_SPREAD)
        where = slice(first, first + len(basis_RD))
        head.map[where], head.bias[where], head.basis[where] = map_SR.T * spread, bias_R * spread, basis_RD
        head.gate[number], head.gate_bias[number] = _gate(statistics_NS, *takes.of_kind_N(task))
        head.share[number] = config.share
        scores_NC = (y_NR @ texts_LRC.mean(0)).masked_fill(closed_NC, -torch.inf)
        right = float((scores_NC.argmax(1) == label_N).float().mean())
        yield f"readout of {task}: {len(columns)} classes, {right:.3f} of the training clips right"
        first += head.ranks[number]


@torch.no_grad()
def class_texts(encode: Callable[[list[str]], Tensor], task: str, labels: Sequence[str]) -> Tensor:
    """Each class as zero-shot classification says it in some languages: the mean of its prompts, (L, C, D), unit."""
    out = []
    for language in ("en", *languages()[::EVERY]):
        said = prompts(task, labels, language)
        each_UD = encode([text for texts in said for text in texts]).float().cpu()
        out.append(mean_directions(each_UD, [len(texts) for texts in said]))
    return torch.stack(out)


@torch.no_grad()
def _heard(model: DualEncoder, head: ReadoutHead, batches: StateBatches, takes: Takes) -> tuple[Tensor, Tensor, Tensor]:
    """The statistics of every take (N, S), the base head's embeddings (N, D) of some, and of which (N,)."""
    count, device = len(takes.plans), head.mean.device
    statistics_NS, base_ND = torch.empty(count, head.statistics), torch.zeros(count, head.basis.shape[1])
    has_base_N = torch.zeros(count, dtype=torch.bool)
    for i in range(0, count, TOGETHER):
        rows = slice(i, i + TOGETHER)
        states_BNKW, len_B = padded(batches.store, [p.take for p in takes.plans[rows]])
        mask_BN = (torch.arange(states_BNKW.shape[1]) < len_B[:, None]).to(device)
        states_BNKW = states_BNKW.to(device).float()
        statistics_NS[rows] = masked_stats(states_BNKW.flatten(2), mask_BN).cpu()  # what `summary` gives the head
        if i // TOGETHER % SAMPLE == 0:
            a_BW = model.audio.from_states(states_BNKW, mask_BN)
            base_ND[rows] = normalize(head.base(a_BW[:, : -head.statistics]), dim=-1).cpu()
            has_base_N[rows] = True
    return statistics_NS, base_ND, has_base_N


def _begin(head: ReadoutHead, statistics_NS: Tensor) -> None:
    """Clear what an earlier fit left, set the head's mean and deviation, and standardise in place."""
    for buffer in (head.map, head.bias, head.basis, head.gate, head.gate_bias, head.share):
        buffer.zero_()
    head.mean.copy_(statistics_NS.mean(0))
    head.deviation.copy_(statistics_NS.std(0).clamp_min(LEAST_SPREAD))
    statistics_NS.sub_(head.mean.cpu()).div_(head.deviation.cpu())


def _spread(y_NR: Tensor) -> Tensor:
    return y_NR.var(0, unbiased=False).sum().sqrt()


def _basis(vectors_CD: Tensor) -> Tensor:
    """An orthonormal basis of what tells the texts of C classes apart: (C - 1, D)."""
    _, _, right_CD = torch.linalg.svd(vectors_CD - vectors_CD.mean(0), full_matrices=False)
    return right_CD[: len(vectors_CD) - 1].contiguous()


def _weights(label_N: np.ndarray, corpus_N: np.ndarray) -> Tensor:
    """Classes count alike within a corpus, corpora by the root of their size; the sum is 1."""
    of_pair, of_corpus = Counter(zip(corpus_N, label_N)), Counter(corpus_N)
    classes = Counter(corpus for corpus, _ in of_pair)
    weights = [of_corpus[c] ** 0.5 / classes[c] / of_pair[c, k] for c, k in zip(corpus_N, label_N)]
    return torch.tensor(weights, dtype=torch.float32) / sum(weights)


def _logistic(
    z_NS: Tensor, label_N: Tensor, closed_NC: Tensor, weight_N: Tensor, texts_LRC: Tensor, decay: float
) -> tuple[Tensor, Tensor]:
    """The map (S, R) and bias (R,) whose outputs' products with the texts of each language minimise the mean
    cross-entropy."""
    map_SR = torch.zeros(z_NS.shape[1], texts_LRC.shape[1], requires_grad=True)
    bias_R = torch.zeros(texts_LRC.shape[1], requires_grad=True)

    def loss() -> Tensor:
        y_NR, total = z_NS @ map_SR + bias_R, decay * map_SR.square().sum()
        for texts_RC in texts_LRC:
            each_N = cross_entropy((y_NR @ texts_RC).masked_fill(closed_NC, -1e4), label_N, reduction="none")
            total = total + (weight_N * each_N).sum() / len(texts_LRC)
        return total

    minimise([map_SR, bias_R], loss, ITERATIONS, history_size=10)
    return map_SR.detach(), bias_R.detach()


def _gate(statistics_NS: Tensor, own_N: Tensor, other_N: Tensor) -> tuple[Tensor, Tensor]:
    """A logistic regression of whether a clip is of the task at all, both kinds of equal weight: (S,) and a bias. With
    none of another kind the gate stays open."""
    gate_S = torch.zeros(statistics_NS.shape[1], requires_grad=True)
    bias = torch.zeros((), requires_grad=True)
    if not other_N.any():
        return gate_S.detach(), bias.detach() + OPEN
    weight_N = own_N * (0.5 / own_N.sum()) + other_N * (0.5 / other_N.sum())

    def loss() -> Tensor:
        logits_N = statistics_NS @ gate_S + bias
        return binary_cross_entropy_with_logits(logits_N, own_N.float(), weight_N, reduction="sum") + (
            GATE_DECAY * gate_S.square().sum()
        )

    minimise([gate_S, bias], loss, ITERATIONS, history_size=10)
    return gate_S.detach(), bias.detach()
