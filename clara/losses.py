"""Contrastive losses: tensors in, a scalar out. They know nothing of towers or processes.

`positive_BU` says which texts are true of which clip and `ignore_BU` (optional) which pairs are neither true nor false
(the clip was never labelled for what the text says); ignored pairs enter no denominator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid, normalize


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


@dataclass(frozen=True)
class FactVectors:
    """Where facts lie: one unit vector each (F, D), such as the mean of what is said of it; the number of its task
    (F,); and the weight of each task, by its number. A task without a weight does not count."""

    vectors_FD: Tensor
    task_F: Tensor
    weights: Mapping[int, float]


def within_tasks(
    a_BD: Tensor,
    facts: FactVectors,
    positive_BF: Tensor,
    ignore_BF: Tensor,
    scale: Tensor | float,
    smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of each clip's facts among those of the same task alone: an angry voice against other emotions, not
    against the sounds and sentences of the batch, which any embedding tells apart.

    Args:
        a_BD: unit embeddings of clips.
        facts: what they are drawn to.
        positive_BF: which facts hold for which clip; several of one task share its target.
        ignore_BF: pairs that are neither true nor false.
        scale: inverse temperature. A low one asks for more: at 10 a clip has to come closer to its fact than at 20.
        smoothing: share of the target that is spread over all facts of the task.

    Returns:
        Mean over the clips of the weighted sum over the tasks in which a clip has a fact.
    """
    logits_BF = _logits(a_BD, facts.vectors_FD, positive_BF, scale, ignore_BF)
    total = logits_BF.new_zeros(())
    for task, weight in facts.weights.items():
        columns = facts.task_F == task
        rows = positive_BF[:, columns].any(1)
        if columns.sum() < 2 or not rows.any():
            continue
        positive, logits = positive_BF[rows][:, columns].float(), logits_BF[rows][:, columns]
        open_ = torch.isfinite(logits)
        target = positive / positive.sum(1, keepdim=True) * (1 - smoothing)
        target = target + smoothing * open_ / open_.sum(1, keepdim=True)
        log_p = logits.log_softmax(1)
        total = total - weight * (target * torch.where(open_, log_p, 0.0)).sum()
    return total / len(a_BD)


def same_fact(t_UD: Tensor, fact_U: Tensor, task_U: Tensor, scale: float, apart: float = 0.0) -> Tensor:
    """Texts of one fact attract each other: `multi_positive` among all texts, the cross-entropy of each text within its
    task against the mean of the other texts of its fact, and `apart` times the mean squared cosine of two facts' means.

    Args:
        t_UD: unit embeddings of texts.
        fact_U: what each text means: a number, at least twice.
        task_U: the task of each text that says one fact, -1 for captions. A caption and a fact's text are neither
            positives nor negatives: the caption may name the fact.
    """
    same_UU = fact_U[:, None] == fact_U
    itself_UU = torch.eye(len(t_UD), dtype=torch.bool, device=t_UD.device)
    undecided_UU = (task_U[:, None] < 0) != (task_U < 0)
    logits_UU = (scale * t_UD @ t_UD.T).masked_fill(itself_UU | undecided_UU, -torch.inf)
    loss = _soft_rows(logits_UU, same_UU & ~itself_UU)
    single_U = task_U >= 0
    if not single_U.any():
        return loss
    t_UD, task_U = t_UD[single_U], task_U[single_U]
    number_F, fact_U = fact_U[single_U].unique(return_inverse=True)
    sum_FD = t_UD.new_zeros(len(number_F), t_UD.shape[1]).index_add(0, fact_U, t_UD)
    task_F = task_U.new_zeros(len(number_F)).scatter(0, fact_U, task_U)
    mean_FD, rest_UD = normalize(sum_FD, dim=1), normalize(sum_FD[fact_U] - t_UD, dim=1)
    logits_UF = scale * t_UD @ mean_FD.T
    own_U = scale * (t_UD * rest_UD).sum(1)  # without the text itself, which would be its own best hint
    logits_UF = logits_UF.scatter(1, fact_U[:, None], own_U[:, None])
    loss = loss + cross_entropy(logits_UF.masked_fill(task_U[:, None] != task_F, -torch.inf), fact_U)
    if apart:
        pairs_FF = (task_F[:, None] == task_F) & ~torch.eye(len(task_F), dtype=torch.bool, device=task_F.device)
        loss = loss + apart * (mean_FD @ mean_FD.T)[pairs_FF].square().sum() / max(1, int(pairs_FF.sum()))
    return loss


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


def minimise(parameters: Sequence[Tensor], loss: Callable[[], Tensor], iterations: int, **options: Any) -> None:
    """Minimise a convex loss of few parameters in place by L-BFGS with a strong Wolfe line search; `options` as of
    `torch.optim.LBFGS`."""
    optimizer = torch.optim.LBFGS(list(parameters), max_iter=iterations, line_search_fn="strong_wolfe", **options)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(closure)
