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

from clara.data.states import StateBatches, StoredPlan, name_of
from clara.errors import ClaraError, unknown
from clara.heads import ReadoutHead
from clara.layers import masked_stats
from clara.model import DualEncoder
from clara.text.prompts import TASKS, languages, prompts

TOGETHER = 128  # clips whose states are pooled at once
SAMPLE = 8  # of so many batches one tells how widely the base head spreads a task
ITERATIONS = 80  # of L-BFGS
GATE_DECAY = 1e-3
EVERY = 4  # languages: of all 53 the maps are no better, and cost four times as much
LEAST_SPREAD = 1e-5


@dataclass(frozen=True)
class ReadoutConfig:
    """The readout of one task."""

    share: float
    """How much of the task's subspace it decides, 0 to 1; the rest stays with the base head."""
    decay: float
    """Weight of the map's squared norm beside the mean cross-entropy."""
    least_clips: int = 8
    """Classes with fewer recordings are left out: they lie where their texts do."""
    exclude_corpora: tuple[str, ...] = ()
    """Corpora that it is not fitted to: mixtures, of which not all that is heard is labelled."""


@dataclass(frozen=True)
class Clips:
    """What a fit is made of: statistics (N, S), the base head's embeddings (N, D) of those clips for which they were
    computed, facts that hold or are undecided (N, F), and of each clip its corpus and the tasks that are none of its
    kind: emotions, of a dog."""

    statistics_NS: Tensor
    base_ND: Tensor
    has_base_N: Tensor
    positive_NF: Tensor
    ignore_NF: Tensor
    corpus_N: np.ndarray
    foreign_N: list[frozenset[str]]


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
        ClaraError: another head, or a task with fewer than two classes or more than its rank allows.
    """
    head = model.audio_head
    if not isinstance(head, ReadoutHead) or len(head.ranks) != len(tasks):
        ranks = list(head.ranks) if isinstance(head, ReadoutHead) else None
        raise ClaraError(
            f"readout: {len(tasks)} tasks, and the model's audio head has ranks {ranks}: expected an audio_head of "
            "kind 'readout' with a rank for each task."
        )
    facts = batches.fact_targets.facts
    if strange := sorted(set(tasks) - {t for t, _ in facts}):
        raise unknown("task of readout", strange[0], sorted({t for t, _ in facts}))
    model.eval()
    clips = _clips(model, head, batches)
    _standardize(head, clips.statistics_NS)
    first = 0
    for number, ((task, config), rank) in enumerate(zip(tasks.items(), head.ranks)):
        columns = [i for i, fact in enumerate(facts) if fact[0] == task]
        fitted_N = ~np.isin(clips.corpus_N, config.exclude_corpora)
        positive_NC = clips.positive_NF[:, columns] & torch.from_numpy(fitted_N)[:, None]
        columns = [c for c, count in zip(columns, positive_NC.sum(0)) if count >= config.least_clips]
        if not 2 <= len(columns) <= rank + 1:
            raise ClaraError(
                f"readout.{task}: {len(columns)} classes have {config.least_clips} recordings or more, and its rank is "
                f"{rank}: expected 2 to {rank + 1} classes. Change the head's ranks or least_clips."
            )
        texts_LCD = class_texts(encode, task, [facts[c][1] for c in columns])
        right = _fit_task(head, clips, columns, texts_LCD, config, task, (number, first))
        yield f"readout of {task}: {len(columns)} classes, {right:.3f} of the training clips right"
        first += rank


@torch.no_grad()
def class_texts(encode: Callable[[list[str]], Tensor], task: str, labels: Sequence[str]) -> Tensor:
    """Each class as zero-shot classification says it in some languages: the mean of its prompts, (L, C, D), unit."""
    out = []
    for language in ("en", *languages()[::EVERY]):
        said = prompts(task, labels, language)
        each_UD = encode([text for texts in said for text in texts]).float().cpu()
        out.append(torch.stack([part.mean(0) for part in each_UD.split([len(texts) for texts in said])]))
    return normalize(torch.stack(out), dim=-1)


@torch.no_grad()
def _clips(model: DualEncoder, head: ReadoutHead, batches: StateBatches) -> Clips:
    """Every usable take of every clip, in the order of its file."""
    plans = []
    for entry, takes in zip(batches.entries, batches.usable):
        for number in takes:
            take = batches.store.takes[name_of(entry), number]
            partner = None if take.partner is None else batches.by_name[take.partner]
            plans.append(StoredPlan(entry, partner, take.compose, take.named, take.snr, take))
    plans.sort(key=lambda p: (p.take.file, p.take.start))
    device = head.mean.device
    statistics_NS, base_ND = torch.empty(len(plans), head.statistics), torch.zeros(len(plans), head.basis.shape[1])
    has_base_N = torch.zeros(len(plans), dtype=torch.bool)
    for i in range(0, len(plans), TOGETHER):
        rows = slice(i, i + TOGETHER)
        states_BNKW, len_B = batches._audio(plans[rows], 0, ())
        mask_BN = (torch.arange(states_BNKW.shape[1]) < len_B[:, None]).to(device)
        states_BNKW = states_BNKW.to(device).float()
        statistics_NS[rows] = masked_stats(states_BNKW.flatten(2), mask_BN).cpu()  # what `summary` gives the head
        if i // TOGETHER % SAMPLE == 0:
            a_BW = model.audio.from_states(states_BNKW, mask_BN)
            base_ND[rows] = normalize(head.base(a_BW[:, : -head.statistics]), dim=-1).cpu()
            has_base_N[rows] = True
    positive_NF, ignore_NF = batches.fact_targets(plans)
    corpus_N = np.array([str(p.entry.meta.get("corpus")) for p in plans])
    foreign_N = [frozenset(TASKS) - {t for t, _ in p.facts} - p.open_tasks for p in plans]
    return Clips(statistics_NS, base_ND, has_base_N, positive_NF, ignore_NF, corpus_N, foreign_N)


def _standardize(head: ReadoutHead, statistics_NS: Tensor) -> None:
    """Set the head's mean and deviation, and standardise in place."""
    mean_S, deviation_S = statistics_NS.mean(0), statistics_NS.std(0).clamp_min(LEAST_SPREAD)
    head.mean.copy_(mean_S)
    head.deviation.copy_(deviation_S)
    statistics_NS.sub_(mean_S).div_(deviation_S)


def _fit_task(
    head: ReadoutHead,
    clips: Clips,
    columns: list[int],
    texts_LCD: Tensor,
    config: ReadoutConfig,
    task: str,
    place: tuple[int, int],
) -> float:
    """One task's map, basis, gate and share, written to the head; the share of its training clips that are right.
    `place`: its number and its first row among all ranks."""
    number, first = place
    # of a clip of two sounds the map would learn that they are alike
    rows = clips.positive_NF[:, columns].sum(1) == 1
    rows &= torch.from_numpy(~np.isin(clips.corpus_N, config.exclude_corpora))
    z_NS, label_N = clips.statistics_NS[rows], clips.positive_NF[rows][:, columns].int().argmax(1)
    closed_NC = clips.ignore_NF[rows][:, columns]
    basis_RD = _basis(normalize(texts_LCD.sum(0), dim=-1))
    texts_LRC = basis_RD @ texts_LCD.mT
    weight_N = _weights(label_N.numpy(), clips.corpus_N[rows.numpy()])
    map_SR, bias_R = _logistic(z_NS, label_N, closed_NC, weight_N, texts_LRC, config.decay)
    y_NR, of_base_NR = z_NS @ map_SR + bias_R, clips.base_ND[rows & clips.has_base_N] @ basis_RD.T
    # both verdicts are then of like weight: the map's logits know nothing of the embedding's unit length
    spread = _spread(of_base_NR) / _spread(y_NR).clamp_min(LEAST_SPREAD)
    gate_S, gate_bias = _gate(clips, columns, task)
    where = slice(first, first + len(basis_RD))
    head.map[where], head.bias[where] = map_SR.T * spread, bias_R * spread
    head.basis[where] = basis_RD
    head.gate[number], head.gate_bias[number], head.share[number] = gate_S, gate_bias, config.share
    scores_NC = (y_NR @ texts_LRC.mean(0)).masked_fill(closed_NC, -torch.inf)
    return float((scores_NC.argmax(1) == label_N).float().mean())


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

    _solve([map_SR, bias_R], loss)
    return map_SR.detach(), bias_R.detach()


def _gate(clips: Clips, columns: list[int], task: str) -> tuple[Tensor, Tensor]:
    """A logistic regression of whether a clip is of the task at all, both kinds of equal weight: (S,) and a bias. Clips
    that may be are left out; with none of another kind the gate stays open."""
    rows = clips.positive_NF[:, columns].any(1)
    other = torch.tensor([task in foreign for foreign in clips.foreign_N])
    gate_S = torch.zeros(clips.statistics_NS.shape[1], requires_grad=True)
    bias = torch.full((), 0.0 if other.any() else 20.0, requires_grad=True)
    if other.any():
        z_NS = torch.cat([clips.statistics_NS[rows], clips.statistics_NS[other]])
        count, others = int(rows.sum()), int(other.sum())
        target_N = torch.cat([torch.ones(count), torch.zeros(others)])
        weight_N = torch.where(target_N > 0, 0.5 / count, 0.5 / others)

        def loss() -> Tensor:
            each_N = binary_cross_entropy_with_logits(z_NS @ gate_S + bias, target_N, reduction="none")
            return (weight_N * each_N).sum() + GATE_DECAY * gate_S.square().sum()

        _solve([gate_S, bias], loss)
    return gate_S.detach(), bias.detach()


def _solve(parameters: list[Tensor], loss: Callable[[], Tensor]) -> None:
    """Minimise a convex loss."""
    optimizer = torch.optim.LBFGS(parameters, max_iter=ITERATIONS, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(closure)
