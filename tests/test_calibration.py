"""Offsets from unlabelled scores: a shift is found, skewed labels are seen, in any unit of the scores."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from clara.calibration import METHODS, effective, label_shares, offsets, temperature
from clara.errors import ClaraError

SHIFT = torch.tensor([1.5, 0.0, -1.0, 0.0])


def scores(counts: list[int], gap: float = 3.0) -> tuple[Tensor, Tensor]:
    """Noisy scores of clips, shifted as one room would, and the true labels."""
    generator = torch.Generator().manual_seed(0)
    truth_B = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    own_BK = gap * torch.nn.functional.one_hot(truth_B, len(counts)).float()
    return own_BK + torch.randn(own_BK.shape, generator=generator) + SHIFT, truth_B


def right(score_BK: Tensor, truth_B: Tensor, method: str | None) -> float:
    shifted_BK = score_BK if method is None else score_BK - offsets(score_BK, method)
    return float((shifted_BK.argmax(1) == truth_B).float().mean())


def test_balanced_clips_are_set_right_by_their_mean() -> None:
    score_BK, truth_B = scores([50] * 4)
    assert right(score_BK, truth_B, "mean") > right(score_BK, truth_B, None) + 0.05
    torch.testing.assert_close(offsets(score_BK, "mean"), score_BK.mean(0))
    torch.testing.assert_close(offsets(score_BK), score_BK.mean(0))  # auto sees that they are balanced


def test_unbalanced_clips_are_set_right_by_their_shares() -> None:
    score_BK, truth_B = scores([160, 14, 14, 12])
    assert right(score_BK, truth_B, "mean") < right(score_BK, truth_B, None)  # the frequent label loses its clips
    assert right(score_BK, truth_B, "prior") > right(score_BK, truth_B, "mean") + 0.05
    torch.testing.assert_close(offsets(score_BK), offsets(score_BK, "prior"))  # auto sees that they are not


@pytest.mark.parametrize("method", METHODS)
def test_offsets_scale_with_the_scores(method: str) -> None:
    score_BK, _ = scores([120, 20, 20, 20])
    torch.testing.assert_close(offsets(0.01 * score_BK, method), 0.01 * offsets(score_BK, method), atol=1e-5, rtol=1e-3)


def test_shares_sum_to_one_and_lie_between_equal_and_found() -> None:
    shares_K = label_shares(torch.tensor([[20.0, 0.0]] * 9 + [[0.0, 20.0]]))
    torch.testing.assert_close(shares_K, torch.tensor([0.7, 0.3]))  # 0.9 and 0.1, half-way to equal shares
    assert effective(torch.full((4,), 0.25)) == pytest.approx(1.0) and effective(shares_K) < 0.95


@pytest.mark.parametrize("score_BK", [torch.zeros(0, 3), torch.full((3, 3), float("nan")), torch.ones(3)])
def test_what_cannot_be_calibrated_is_refused(score_BK: Tensor) -> None:
    with pytest.raises(ClaraError, match="expected finite ones"):
        offsets(score_BK)


@pytest.mark.parametrize("method", METHODS)
def test_equal_scores_have_finite_offsets(method: str) -> None:
    assert torch.isfinite(offsets(torch.ones(4, 3), method)).all()
    assert torch.isfinite(offsets(torch.ones(1, 1), method)).all()  # a corpus of one class


def test_temperature_makes_confidence_what_accuracy_is() -> None:
    rng = torch.Generator().manual_seed(0)
    true_BK = 2 * torch.randn(4000, 5, generator=rng)
    truth_B = torch.multinomial(true_BK.softmax(-1), 1, generator=rng)[:, 0]
    for sharper in (0.2, 1.0, 6.0):
        assert temperature(sharper * true_BK, truth_B) == pytest.approx(sharper, rel=0.12)


def test_few_right_answers_do_not_make_the_next_one_certain() -> None:
    truth_B = torch.arange(10) % 2
    logits_BK = torch.nn.functional.one_hot(truth_B, 2).double()
    sure = [float((x / temperature(x, truth_B[: len(x)])).softmax(-1).max()) for x in (logits_BK, logits_BK[:4])]
    assert 0.9 < sure[0] < 0.97 and sure[1] < sure[0]
    with pytest.raises(ClaraError, match="a row for each"):
        temperature(logits_BK, truth_B[:3])
