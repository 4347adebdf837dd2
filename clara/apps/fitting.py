"""A linear classifier from a few labelled clips: logistic regression over frozen embeddings, pulled towards the vectors
of the labels' texts, how strongly being chosen by held-out clips.

Suffixes: N clips, D dimensions, K labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from clara import metrics
from clara.calibration import temperature
from clara.data.manifest import Row
from clara.errors import ClaraError
from clara.eval.probe import LinearProbe, draw_folds, fit_probe

FOLDS = 5
# (weight decay, share of the text's logits), from what the clips say alone to what the text says
STRENGTHS = ((0.003, 0.0), (0.003, 0.5), (0.03, 0.5), (0.3, 1.0), (3.0, 1.0))
UNJUDGED = STRENGTHS[2]  # where too few clips are there to hold any out


@dataclass(frozen=True)
class HeldOut:
    """How a fitted classifier does on clips it was not fitted on: their count, accuracy with its 95 % interval
    (Wilson), the accuracy of the texts alone on the same clips, the expected calibration error, and how clips were
    held out, in words."""

    clips: int
    accuracy: float
    interval: tuple[float, float]
    text_accuracy: float
    ece: float
    how: str

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"held-out accuracy {self.accuracy:.3f} [{low:.3f}, {high:.3f}] on {self.clips} clips ({self.how}); "
            f"by the labels' texts alone {self.text_accuracy:.3f}; calibration error {self.ece:.3f}"
        )


@dataclass(frozen=True, eq=False)  # tensors have no one truth to compare by
class Fit:
    """A fitted classifier: logits = audio_BD @ weight_KD.T + bias_K, whose softmax is calibrated. `clips` were learned
    from, at (weight decay, share of the text) `strength`; `held_out` is None where too few clips were there."""

    weight_KD: Tensor = field(repr=False)
    bias_K: Tensor = field(repr=False)
    clips: int
    strength: tuple[float, float]
    held_out: HeldOut | None

    def __call__(self, audio_BD: Tensor) -> Tensor:
        return audio_BD @ self.weight_KD.T + self.bias_K


def fit(
    audio_ND: Tensor,
    truth_N: Sequence[int],
    text_KD: Tensor,
    groups: Sequence[str] | None = None,
    held: Sequence[bool] | None = None,
) -> Fit:
    """Fit on embeddings whose labels are known.

    Args:
        audio_ND: unit vectors of the clips.
        truth_N: index of each clip's label.
        text_KD: the labels' text vectors times the model's scale.
        groups: what clips share that must not stand on both sides, such as a speaker; default: nothing.
        held: which clips are only to be judged on; default: each in its turn, by cross-validation in five folds.

    Raises:
        ClaraError: a label without a clip to learn from.
    """
    truth, labels = np.asarray(truth_N), len(text_KD)
    held_N = np.zeros(len(truth), bool) if held is None else np.asarray(held, bool)
    taught = torch.from_numpy(~held_N)
    counts_K = np.bincount(truth[~held_N], minlength=labels)
    if not counts_K.all():
        raise ClaraError(f"Label number {int(counts_K.argmin())} has no clip to learn from: expected at least one.")
    names = np.arange(len(truth)).astype(str) if groups is None else np.asarray(groups)
    x_ND, y_N = audio_ND[taught], torch.from_numpy(truth)[taught]
    fold_N = _folds(y_N.numpy(), names[~held_N]) if counts_K.min() > 1 else None
    logits_SNK = None if fold_N is None else _cross_validated(x_ND, y_N, text_KD, fold_N)
    best = UNJUDGED if logits_SNK is None else STRENGTHS[_best(logits_SNK, y_N)]
    probe = _probe(x_ND, y_N, text_KD, best)
    judged = None
    if held_N.any():
        own = torch.from_numpy(held_N)
        judged = (probe(audio_ND[own]), torch.from_numpy(truth)[own], "those of split 'test' or 'valid'")
    elif logits_SNK is not None and fold_N is not None:
        shared = "no group in two folds" if len(set(names)) < len(names) else "five-fold cross-validation"
        judged = (_chosen_without_itself(logits_SNK, y_N, fold_N), y_N, shared)
    # the temperature comes from clips that were held out: on its own clips a probe is always sure
    source = None if logits_SNK is None else (logits_SNK[_best(logits_SNK, y_N)], y_N)
    cool = temperature(*source) if source is not None else 1.0
    report = None
    if judged is not None:
        x_BD = audio_ND[torch.from_numpy(held_N)] if held_N.any() else x_ND
        report = _report(judged[0] / cool, judged[1], x_BD @ text_KD.T, judged[2])
    weight_KD, bias_K = _plain(probe, cool)
    return Fit(weight_KD, bias_K, len(x_ND), best, report)


def _probe(x_ND: Tensor, y_N: Tensor, text_KD: Tensor, strength: tuple[float, float]) -> LinearProbe:
    decay, share = strength
    return fit_probe(x_ND, y_N, len(text_KD), decay, share * text_KD)


def _folds(truth_N: np.ndarray, groups_N: np.ndarray) -> np.ndarray:
    """Groups are dealt out whole. Without them the clips of every label are dealt out evenly, or a fold could lack the
    only clips of one."""
    if len(np.unique(groups_N)) < len(groups_N) and len(np.unique(groups_N)) >= FOLDS:
        return draw_folds(groups_N, FOLDS, seed=0)
    fold_N = np.zeros(len(truth_N), int)
    rng = np.random.default_rng(0)
    for label in np.unique(truth_N):
        mine = rng.permutation(np.flatnonzero(truth_N == label))
        fold_N[mine] = (np.arange(len(mine)) + rng.integers(FOLDS)) % FOLDS
    return fold_N


def _cross_validated(x_ND: Tensor, y_N: Tensor, text_KD: Tensor, fold_N: np.ndarray) -> Tensor:
    """Logits (S, N, K) of every clip at every strength, from probes that did not see its fold."""
    logits_SNK = torch.zeros(len(STRENGTHS), len(x_ND), len(text_KD), dtype=torch.float64)
    for fold in np.unique(fold_N):
        out = torch.from_numpy(fold_N == fold)
        for s, strength in enumerate(STRENGTHS):
            logits_SNK[s, out] = _probe(x_ND[~out], y_N[~out], text_KD, strength)(x_ND[out])
    return logits_SNK


def _best(logits_SNK: Tensor, y_N: Tensor) -> int:
    """The strength with the highest likelihood, at the temperature that suits it: finer than accuracy on few clips."""
    cooled = [x_NK / temperature(x_NK, y_N) for x_NK in logits_SNK]
    return int(np.argmin([float(cross_entropy(x_NK, y_N)) for x_NK in cooled]))


def _chosen_without_itself(logits_SNK: Tensor, y_N: Tensor, fold_N: np.ndarray) -> Tensor:
    """Logits (N, K) at the strength that the other folds prefer: a clip that is judged has no say in the choice."""
    out_NK = torch.empty_like(logits_SNK[0])
    for fold in np.unique(fold_N):
        own = torch.from_numpy(fold_N == fold)
        out_NK[own] = logits_SNK[_best(logits_SNK[:, ~own], y_N[~own]), own]
    return out_NK


def _report(logits_BK: Tensor, truth_B: Tensor, text_BK: Tensor, how: str) -> HeldOut:
    truth, predicted = truth_B.numpy(), logits_BK.argmax(1).numpy()
    return HeldOut(
        clips=len(truth),
        accuracy=metrics.accuracy(truth, predicted),
        interval=metrics.share_interval(int((truth == predicted).sum()), len(truth)),
        text_accuracy=metrics.accuracy(truth, text_BK.argmax(1).numpy()),
        ece=metrics.calibration_error(logits_BK.softmax(-1).numpy(), truth),
        how=how,
    )


def _plain(probe: LinearProbe, cool: float) -> tuple[Tensor, Tensor]:
    """A probe and its temperature as one linear map of embeddings, float32."""
    weight_KD = probe.weight_KD / probe.std_D / cool
    bias_K = probe.bias_K / cool - weight_KD @ probe.mean_D
    return weight_KD.float(), bias_K.float()


def labels_of_rows(rows: Sequence[Row], where: str) -> tuple[list[str], str | None]:
    """The label of each clip of a table, and the task that all are of (None: the labels are the user's own words).

    Emotions where every row has one, else labels, else texts.

    Raises:
        ClaraError: rows without a label, or with several; labels of several tasks; one label alone.
    """
    task: str | None
    if all(row.emotion for row in rows):
        labels, task = [str(row.emotion) for row in rows], "emotion"
    elif len(tasks := {row.task for row in rows}) == 1 and None not in tasks and all(row.label for row in rows):
        labels, task = [str(row.label) for row in rows], str(tasks.pop())
    else:
        if bad := next((row for row in rows if len(row.text) != 1 or row.task), None):
            raise ClaraError(
                f"{where}: {bad.audio} has {len(bad.text)} texts, label {bad.label!r} and task {bad.task!r}: expected "
                "one label or one text for each clip, and the same task, or none, for all."
            )
        labels, task = [row.text[0] for row in rows], None
    if len(set(labels)) < 2:
        raise ClaraError(f"{where} has one label, {labels[0]!r}, alone: expected clips of at least two.")
    return labels, task
