"""Calibration: by unlabelled clips an offset for each label, by labelled ones a temperature. Tensors in, tensors out.

Recording conditions shift the scores of all clips of a folder: everything sounds a little like one label. The mean
score of a label over the folder measures that shift, if the labels are about equally frequent; where they are not, the
mean holds the frequent label's own scores too, and subtracting it takes clips away from it.

Suffixes: B clips, K labels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from clara.errors import ClaraError

METHODS = ("auto", "mean", "prior")
SHRUNK = 0.75  # share of the mean that `prior` subtracts: part of the mean is the frequent labels' own
SHARPNESS = 2.0  # standard deviation of the centred scores that go into the softmax of `prior`
STEPS = 50
TEMPERATURES, WIDEST = 69, 30.0  # tried, a tenth apart, down to 1/30 and up to 30
BALANCED = 0.95  # of the effective number of labels over K: from here on "auto" calls a folder balanced


def offsets(scores_BK: Tensor, method: str = "auto") -> Tensor:
    """What to subtract from each label's score, learned from unlabelled clips.

    "mean": each label's mean score. The best where labels are about equally frequent, harmful where they are not.
    "prior": three quarters of the mean, then the labels' shares by EM (Saerens, Latinne, Decaestecker 2002): frequent
    labels are preferred. For folders in which a label may be much more frequent than others.
    "auto": "prior" where its shares are far from equal, else "mean".

    Args:
        scores_BK: cosines or logits; the result is in their unit, and scales with them.
        method: one of METHODS.

    Returns:
        Offsets (K,).

    Raises:
        ClaraError: an unknown method, no scores, or some that are not finite.
    """
    if method not in METHODS:
        raise ClaraError(f"Calibration method {method!r}: expected one of {', '.join(METHODS)}.")
    if scores_BK.ndim != 2 or not scores_BK.numel() or not torch.isfinite(scores_BK).all():
        raise ClaraError(f"Scores {tuple(scores_BK.shape)}: expected finite ones, a row for each of many clips.")
    mean_K = scores_BK.mean(0)
    if method == "mean":
        return mean_K
    centre_K, unit = SHRUNK * mean_K, _unit(scores_BK - SHRUNK * mean_K)
    shares_K = label_shares((scores_BK - centre_K) / unit)
    if method == "auto" and effective(shares_K) >= BALANCED:
        return mean_K
    return centre_K - unit * (shares_K * len(shares_K)).log()


def temperature(logits_BK: Tensor, truth_B: Tensor) -> float:
    """What to divide logits by so that their softmax is calibrated (Guo et al. 2017): the likeliest of a grid from 1/30
    to 30. Learn it on clips that nothing else was learned from.

    One clip in B + 2 is taken to be named wrong, as by Platt 1999: ten right answers do not make the next one certain.

    Raises:
        ClaraError: no logits, some that are not finite, or as many labels as clips are not there.
    """
    if logits_BK.ndim != 2 or len(logits_BK) != len(truth_B) or not logits_BK.isfinite().all() or not len(truth_B):
        raise ClaraError(
            f"Logits {tuple(logits_BK.shape)} and {len(truth_B)} true labels: expected finite ones, a row for each."
        )
    logits_BK, doubt = logits_BK.double(), 1 / (len(truth_B) + 2)
    grid = torch.logspace(-1, 1, TEMPERATURES, base=WIDEST, dtype=torch.float64).tolist()
    return min(grid, key=lambda t: float(cross_entropy(logits_BK / t, truth_B, label_smoothing=doubt)))


def label_shares(logits_BK: Tensor) -> Tensor:
    """The labels' shares (K,) among clips, from equal ones by EM on the softmax of their logits.

    As many clips are added, in equal shares, as there are: with few or weak scores plain EM runs to one label.
    """
    labels = logits_BK.shape[1]
    likelihood_BK = logits_BK.double().softmax(-1)
    shares_K = torch.full((labels,), 1 / labels, dtype=torch.float64, device=logits_BK.device)
    for _ in range(STEPS):
        joint_BK = likelihood_BK * shares_K
        found_K = (joint_BK / joint_BK.sum(1, keepdim=True)).mean(0)
        shares_K = (found_K + 1 / labels) / 2
    return shares_K.to(logits_BK.dtype)


def effective(shares_K: Tensor) -> float:
    """The effective number of labels, exp of the entropy of their shares, over K: 1 where all are equally frequent."""
    return float(torch.exp(-(shares_K * shares_K.log()).sum()) / len(shares_K))


def _unit(scores_BK: Tensor) -> Tensor:
    """By what scores are divided so that their differences within a clip have the spread SHARPNESS."""
    spread = (scores_BK - scores_BK.mean(1, keepdim=True)).std(correction=0)
    return (spread / SHARPNESS).clamp(min=torch.finfo(scores_BK.dtype).tiny)
