"""Chunked steps give the gradients of whole ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from clara.losses import info_nce
from clara.train.grad_cache import cached_step, plain_step


class Pair(nn.Module):
    """Two small encoders with a temperature."""

    def __init__(self, dropout: float = 0.0, norm: type = nn.LayerNorm) -> None:
        super().__init__()
        self.audio = nn.Sequential(nn.Linear(6, 16), norm(16), nn.GELU(), nn.Dropout(dropout), nn.Linear(16, 5))
        self.text = nn.Sequential(nn.Linear(4, 16), nn.Dropout(dropout), nn.GELU(), nn.Linear(16, 5))
        self.scale = nn.Parameter(torch.tensor(2.0))

    def encoders(self) -> list:
        return [self.audio, self.text]

    def loss(self, audio_BD: Tensor, text_BD: Tensor) -> Tensor:
        normalize = nn.functional.normalize
        return info_nce(normalize(audio_BD, dim=-1), normalize(text_BD, dim=-1), self.scale.exp())

    def chunked_loss(self, inputs: list, chunk: int) -> Tensor:
        """The loss of chunk-wise encoding with all graphs kept: what the cache must agree with."""
        pairs = zip(self.encoders(), inputs)
        return self.loss(*(torch.cat([encode(p) for p in x.split(chunk)]) for encode, (x,) in pairs))

    def take_gradients(self) -> dict[str, Tensor]:
        out = {n: p.grad.clone() for n, p in self.named_parameters()}
        self.zero_grad()
        return out


def inputs(items: int = 10) -> list[tuple[Tensor]]:
    return [(torch.randn(items, 6),), (torch.randn(items, 4),)]


def assert_close(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, gradient in expected.items():
        assert torch.allclose(got[name], gradient, atol=1e-6), name


@pytest.mark.parametrize("chunk", [1, 3, 10, 64])
def test_equal_to_the_plain_step(chunk: int) -> None:
    model, x = Pair(), inputs()
    plain = plain_step(model.encoders(), x, model.loss)
    expected = model.take_gradients()
    cached = cached_step(model.encoders(), x, model.loss, chunk, model)
    assert torch.allclose(cached, plain, atol=1e-6)
    assert_close(model.take_gradients(), expected)


def test_dropout_is_drawn_alike_in_both_passes_and_the_generator_goes_on() -> None:
    model, x = Pair(dropout=0.5), inputs()
    torch.manual_seed(3)
    model.chunked_loss(x, 4).backward()
    expected, after = model.take_gradients(), torch.rand(1)
    torch.manual_seed(3)
    cached_step(model.encoders(), x, model.loss, 4, model)
    assert torch.equal(torch.rand(1), after)
    assert_close(model.take_gradients(), expected)


def test_running_statistics_move_once_a_step() -> None:
    model, x = Pair(norm=nn.BatchNorm1d), inputs()
    other = Pair(norm=nn.BatchNorm1d)
    other.load_state_dict(model.state_dict())
    other.chunked_loss(x, 5).backward()
    cached_step(model.encoders(), x, model.loss, 5, model)
    assert_close(model.take_gradients(), other.take_gradients())
    for name, buffer in other.named_buffers():
        assert torch.allclose(dict(model.named_buffers())[name], buffer), name
    assert model.audio[1].num_batches_tracked == 2


def test_a_frozen_encoder_gets_no_gradient() -> None:
    model, x = Pair(), inputs()
    model.text.requires_grad_(False)
    cached_step(model.encoders(), x, model.loss, 3, model)
    assert all(p.grad is None for p in model.text.parameters())
    assert all(p.grad is not None for p in model.audio.parameters())
