"""Contrastive losses: tensors in, a scalar out. They know nothing of towers or processes.

`positive_BU` says which texts are true of which clip and `ignore_BU` (optional) which pairs are neither true nor false
(the clip was never labelled for what the text says); ignored pairs enter no denominator.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid


def info_nce(a_BD: Tensor, t_BD: Tensor, scale: Tensor | float) -> Tensor:
    """Symmetric InfoNCE over B matching pairs (Radford et al. 2021, fig. 3): mean of the two cross-entropies."""
    logits_BB = scale * a_BD @ t_BD.T
    target_B = torch.arange(len(a_BD), device=a_BD.device)
    return (cross_entropy(logits_BB, target_B) + cross_entropy(logits_BB.T, target_B)) / 2


def multi_positive(
    a_BD: Tensor, t_UD: Tensor, positive_BU: Tensor, scale: Tensor | float, ignore_BU: Tensor | None = None
) -> Tensor:
    """Symmetric InfoNCE with several positives a row (SupCon L_out: Khosla et al. 2020, eq. 2), the mean of both ways.

    A row without a positive does not count. With one positive a row and column this is `info_nce`.
    """
    logits_BU = _logits(a_BD, t_UD, positive_BU, scale, ignore_BU)
    return (_soft_rows(logits_BU, positive_BU) + _soft_rows(logits_BU.T, positive_BU.T)) / 2


def audio_to_text(
    a_BD: Tensor, t_UD: Tensor, positive_BU: Tensor, scale: Tensor | float, ignore_BU: Tensor | None = None
) -> Tensor:
    """The half of `multi_positive` that asks for a clip's texts: a cosine softmax over all U, for a U that is every
    class there is (anchors), where the other way would ask which clips of the batch a class without any has."""
    return _soft_rows(_logits(a_BD, t_UD, positive_BU, scale, ignore_BU), positive_BU)


def within_tasks(
    a_BD: Tensor,
    t_UD: Tensor,
    positive_BU: Tensor,
    task_U: Tensor,
    scale: Tensor | float,
    ignore_BU: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of each clip's texts among the texts of the same task alone: an angry voice against other emotions,
    not against the sounds and sentences of the batch, which any embedding tells apart.

    `task_U` (U,), long: the task that a text belongs to, -1 for none. The mean over all pairs of a clip and a task in
    which it has a text.
    """
    logits_BU = _logits(a_BD, t_UD, positive_BU, scale, ignore_BU)
    total, pairs = logits_BU.new_zeros(()), 0
    for task in task_U.unique():
        columns = task_U == task
        if task < 0 or columns.sum() < 2:
            continue
        rows = positive_BU[:, columns].any(1)
        count = int(rows.sum())
        if count:
            total, pairs = (
                total + count * _soft_rows(logits_BU[rows][:, columns], positive_BU[rows][:, columns]),
                pairs + count,
            )
    return total / max(1, pairs)


def _logits(a_BD: Tensor, t_UD: Tensor, positive_BU: Tensor, scale: Tensor | float, ignore_BU: Tensor | None) -> Tensor:
    logits_BU = scale * a_BD @ t_UD.T
    if ignore_BU is not None:
        logits_BU = logits_BU.masked_fill(ignore_BU & ~positive_BU, -torch.inf)
    return logits_BU


def _soft_rows(logits: Tensor, positive: Tensor) -> Tensor:
    """Mean over rows with a positive of -mean over its positives of log softmax."""
    counts = positive.sum(1)
    rows = counts > 0
    log_p = torch.where(positive, logits.log_softmax(1), logits.new_zeros(()))
    per_row = -log_p.sum(1)[rows] / counts[rows]
    return per_row.mean() if len(per_row) else logits.new_zeros(()).requires_grad_()


def sigmoid(
    a_BD: Tensor,
    t_UD: Tensor,
    positive_BU: Tensor,
    scale: Tensor | float,
    bias: Tensor | float,
    ignore_BU: Tensor | None = None,
) -> Tensor:
    """Pairwise sigmoid loss (Zhai et al. 2023, SigLIP, alg. 1): summed over texts, averaged over clips."""
    logits_BU = scale * a_BD @ t_UD.T + bias
    sign = torch.where(positive_BU, 1.0, -1.0)
    loss_BU = -logsigmoid(sign * logits_BU)
    if ignore_BU is not None:
        loss_BU = loss_BU.masked_fill(ignore_BU & ~positive_BU, 0.0)
    return loss_BU.sum() / len(a_BD)
