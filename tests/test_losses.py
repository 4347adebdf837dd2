"""Losses against plain-Python arithmetic, and against each other where they must agree."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from clara.config import Spec
from clara.heads import HEADS
from clara.losses import FactVectors, info_nce, multi_positive, same_fact, sigmoid, within_tasks


def pairs(b: int = 4, u: int = 4, d: int = 8) -> tuple[Tensor, Tensor]:
    """Unit rows a_BD and t_UD in float64 that want gradients."""
    a_BD, t_UD = (normalize(torch.randn(n, d, dtype=torch.float64), dim=1).requires_grad_() for n in (b, u))
    return a_BD, t_UD


def by_hand(a_BD: Tensor, t_UD: Tensor, positive_BU: Tensor, scale: float, ignore_BU: Tensor) -> float:
    """The definition of the symmetric multi-positive loss, one row at a time."""
    s = [[scale * float(a @ t) for t in t_UD.detach()] for a in a_BD.detach()]

    def rows(logits: list[list[float]], positive: list[list[bool]], ignore: list[list[bool]]) -> float:
        losses = []
        for row, yes, skip in zip(logits, positive, ignore):
            total = sum(math.exp(x) for x, p, i in zip(row, yes, skip) if p or not i)
            terms = [math.log(total) - x for x, p in zip(row, yes) if p]
            if terms:
                losses.append(sum(terms) / len(terms))
        return sum(losses) / len(losses)

    flip = lambda m: [list(c) for c in zip(*m)]  # noqa: E731
    p, i = positive_BU.tolist(), ignore_BU.tolist()
    return (rows(s, p, i) + rows(flip(s), flip(p), flip(i))) / 2


def test_info_nce_by_hand() -> None:
    a_BD, t_BD = pairs()
    expected = by_hand(a_BD, t_BD, torch.eye(4, dtype=torch.bool), 5.0, torch.zeros(4, 4, dtype=torch.bool))
    assert float(info_nce(a_BD, t_BD, 5.0)) == pytest.approx(expected, abs=1e-9)


def test_info_nce_at_its_ends() -> None:
    a_BD, _ = pairs()
    assert float(info_nce(a_BD, a_BD, 1000.0)) < 1e-6
    assert float(info_nce(a_BD, a_BD, 0.0)) == pytest.approx(math.log(4))


def test_multi_positive_with_one_positive_each_is_info_nce() -> None:
    a_BD, t_BD = pairs()
    loss = multi_positive(a_BD, t_BD, torch.eye(4, dtype=torch.bool), 7.0)
    assert float(loss) == pytest.approx(float(info_nce(a_BD, t_BD, 7.0)), abs=1e-12)


def test_multi_positive_by_hand() -> None:
    a_BD, t_UD = pairs(5, 3)
    positive = torch.tensor([[1, 0, 0], [1, 0, 0], [0, 1, 1], [0, 1, 0], [0, 0, 0]], dtype=torch.bool)
    ignore = torch.tensor([[0, 1, 0], [0, 0, 0], [0, 0, 1], [1, 0, 0], [0, 0, 0]], dtype=torch.bool)
    none = torch.zeros_like(ignore)
    assert float(multi_positive(a_BD, t_UD, positive, 3.0)) == pytest.approx(by_hand(a_BD, t_UD, positive, 3.0, none))
    got = multi_positive(a_BD, t_UD, positive, 3.0, ignore)
    assert float(got) == pytest.approx(by_hand(a_BD, t_UD, positive, 3.0, ignore))


def test_a_shared_caption_is_no_negative() -> None:
    """Two clips of one caption: told so, the loss can reach its floor; as plain pairs it cannot."""
    t_UD = torch.eye(2, dtype=torch.float64)
    a_BD = t_UD[[0, 0, 1]]
    positive = torch.tensor([[1, 0], [1, 0], [0, 1]], dtype=torch.bool)
    told = multi_positive(a_BD, t_UD, positive, 100.0)
    assert float(told) == pytest.approx(math.log(2) / 4, abs=1e-6)  # texts → clips: one of two texts has two clips
    assert float(info_nce(a_BD, t_UD[[0, 0, 1]], 100.0)) > 0.4


def test_ignored_pairs_get_no_gradient() -> None:
    for loss in (
        lambda a, t, p, i: multi_positive(a, t, p, 3.0, i),
        lambda a, t, p, i: sigmoid(a, t, p, 3.0, -1.0, i),
    ):
        a_BD, t_UD = pairs(2, 3)
        positive = torch.tensor([[1, 0, 0], [0, 1, 0]], dtype=torch.bool)
        ignore = torch.tensor([[0, 0, 1], [0, 0, 1]], dtype=torch.bool)
        loss(a_BD, t_UD, positive, ignore).backward()
        assert t_UD.grad[2].abs().max() == 0
        assert t_UD.grad[:2].abs().max() > 0
        assert a_BD.grad.isfinite().all()
        assert t_UD.grad.isfinite().all()


def test_no_positive_at_all_is_zero_and_differentiable() -> None:
    a_BD, t_UD = pairs(2, 3)
    loss = multi_positive(a_BD, t_UD, torch.zeros(2, 3, dtype=torch.bool), 3.0)
    loss.backward()
    assert float(loss) == 0.0


def test_sigmoid_by_hand() -> None:
    a_BD, t_UD = pairs(3, 2)
    positive = torch.tensor([[1, 0], [0, 1], [1, 1]], dtype=torch.bool)
    expected = 0.0
    for b in range(3):
        for u in range(2):
            z = 4.0 * float((a_BD[b] @ t_UD[u]).detach()) - 2.0
            expected += math.log1p(math.exp(-z if positive[b, u] else z))
    assert float(sigmoid(a_BD, t_UD, positive, 4.0, -2.0)) == pytest.approx(expected / 3)
    ignored = sigmoid(a_BD, t_UD, positive, 4.0, -2.0, ~positive)
    assert float(ignored) < expected / 3


@pytest.mark.parametrize("name", ["info_nce", "multi_positive", "sigmoid"])
def test_gradients(name: str) -> None:
    a_BD, t_BD = pairs(3, 3, 4)
    eye = torch.eye(3, dtype=torch.bool)
    call = {
        "info_nce": lambda a, t: info_nce(a, t, 3.0),
        "multi_positive": lambda a, t: multi_positive(a, t, eye, 3.0),
        "sigmoid": lambda a, t: sigmoid(a, t, eye, 3.0, -1.0),
    }[name]
    assert torch.autograd.gradcheck(call, (a_BD, t_BD))
    half = call(a_BD.detach().bfloat16(), t_BD.detach().bfloat16())
    assert half.isfinite()


def test_within_tasks_is_the_cross_entropy_among_a_tasks_facts() -> None:
    a_BD, fact_FD = torch.randn(3, 8), torch.randn(6, 8)
    task_F = torch.tensor([0, 0, 0, 1, 1, -1])
    positive_BF = torch.zeros(3, 6, dtype=torch.bool)
    positive_BF[0, 1] = positive_BF[1, 4] = positive_BF[2, 5] = True
    logits_BF, facts, none_BF = (
        5.0 * a_BD @ fact_FD.T,
        FactVectors(fact_FD, task_F, {0: 1.0, 1: 0.5}),
        positive_BF & False,
    )
    first = cross_entropy(logits_BF[0, :3], torch.tensor(1))
    second = cross_entropy(logits_BF[1, 3:5], torch.tensor(1))
    torch.testing.assert_close(within_tasks(a_BD, facts, positive_BF, none_BF, 5.0), (first + 0.5 * second) / 3)
    ignore_BF = torch.zeros_like(positive_BF)
    ignore_BF[0, 0] = ignore_BF[0, 2] = True  # nothing is left to tell the first clip's fact from
    torch.testing.assert_close(within_tasks(a_BD, facts, positive_BF, ignore_BF, 5.0), 0.5 * second / 3)
    alone = FactVectors(fact_FD, task_F, {0: 1.0})
    smooth = within_tasks(a_BD, alone, positive_BF, none_BF, 5.0, smoothing=0.3)
    torch.testing.assert_close(smooth, cross_entropy(logits_BF[0, :3], torch.tensor(1), label_smoothing=0.3) / 3)
    assert within_tasks(a_BD, FactVectors(fact_FD, task_F, {}), positive_BF, none_BF, 5.0) == 0.0


def test_two_facts_of_one_task_share_the_target() -> None:
    a_BD, fact_FD, task_F = torch.randn(1, 8), torch.randn(3, 8), torch.zeros(3, dtype=torch.long)
    log_p = (2.0 * a_BD @ fact_FD.T).log_softmax(1)[0]
    positive_BF = torch.tensor([[True, False, True]])
    found = within_tasks(a_BD, FactVectors(fact_FD, task_F, {0: 1.0}), positive_BF, positive_BF & False, 2.0)
    torch.testing.assert_close(found, -(log_p[0] + log_p[2]) / 2)


def texts_of_facts(spread: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Unit vectors: 2 texts for each of 4 facts in 2 tasks, and 2 captions; `spread` from their facts' directions."""
    torch.manual_seed(0)
    fact_U = torch.arange(5).repeat_interleave(2)
    task_U = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, -1, -1])
    t_UD = normalize(torch.eye(5, 8)[fact_U] + spread * torch.randn(10, 8), dim=1)
    return t_UD, fact_U, task_U


def test_same_fact_falls_as_the_texts_of_a_fact_come_together() -> None:
    values = [float(same_fact(*texts_of_facts(spread), 16.0)) for spread in (1.0, 0.3, 0.0)]
    assert values[0] > values[1] > values[2] and values[2] < 0.01


def test_captions_and_facts_do_not_repel_each_other() -> None:
    t_UD, fact_U, task_U = texts_of_facts(0.1)
    t_UD[8:] = t_UD[0]  # the captions say the first fact too
    assert same_fact(t_UD, fact_U, task_U, 16.0) < 0.05
    assert same_fact(t_UD, fact_U, task_U.clamp_min(0), 16.0) > 0.5


def test_apart_counts_the_cosines_of_facts_of_one_task() -> None:
    t_UD, fact_U, task_U = texts_of_facts(0.0)
    t_UD[2:4] = normalize(t_UD[0] + 1.0 * t_UD[2], dim=0)  # the first task's facts at 45 degrees
    more = same_fact(t_UD, fact_U, task_U, 16.0, apart=4.0) - same_fact(t_UD, fact_U, task_U, 16.0)
    torch.testing.assert_close(more, torch.tensor(4.0 * 0.5 * 2 / 4))  # 2 of 4 ordered pairs have cos^2 = 1/2
    assert torch.autograd.gradcheck(
        lambda t: same_fact(t, fact_U, task_U, 3.0, 1.0), t_UD.double().requires_grad_(), raise_exception=True
    )


def test_a_standardized_head_does_not_see_what_all_texts_share() -> None:
    head = HEADS.create(Spec("mlp", {"standardize": True}), 8, 4).train()
    x_UD = torch.randn(32, 8)
    torch.testing.assert_close(head(x_UD + 100.0), head(x_UD), atol=1e-3, rtol=1e-3)
