"""GradCache (Gao et al. 2021): the gradient of a large contrastive batch in the memory of a small chunk.

First the embeddings of all chunks without a graph, then the loss and its gradient with respect to the embeddings, then
each chunk once more with its graph, continued from the cached gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Encode = Callable[..., Tensor]


def plain_step(encoders: Sequence[Encode], inputs: Sequence[tuple[Tensor, ...]], loss: Callable[..., Tensor]) -> Tensor:
    """Encode everything at once, `loss(*embeddings).backward()`; returns the detached loss."""
    value = loss(*(encode(*x) for encode, x in zip(encoders, inputs)))
    value.backward()
    return value.detach()


def cached_step(
    encoders: Sequence[Encode],
    inputs: Sequence[tuple[Tensor, ...]],
    loss: Callable[..., Tensor],
    chunk: int,
    model: nn.Module,
) -> Tensor:
    """As `plain_step`, with the graph of at most `chunk` items in memory at a time, and equal gradients. Dropout is
    drawn, and batch norm takes its statistics, chunk by chunk.

    Args:
        encoders: one function an input: its tensors, whose first dimension is cut, -> embeddings (n, D).
        inputs: for each encoder its tensors.
        loss: all embeddings in order -> scalar.
        chunk: items per chunk.
        model: its buffers (running statistics) are restored after the first pass, so that they move once per step.
    """
    buffers = [(b, b.clone()) for b in model.buffers()]
    leaves, states = [], []
    for encode, tensors in zip(encoders, inputs):
        parts = []
        for piece in _chunks(tensors, chunk):
            states.append(_random_state(tensors[0].device))
            with torch.no_grad():
                parts.append(encode(*piece))
        leaves.append(torch.cat(parts).requires_grad_())
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
    value = loss(*leaves)
    value.backward()
    replay = iter(states)
    for encode, tensors, leaf in zip(encoders, inputs, leaves):
        for piece, gradient in zip(_chunks(tensors, chunk), leaf.grad.split(chunk)):
            with _replayed(next(replay), tensors[0].device):
                embedding = encode(*piece)
            if embedding.requires_grad:  # a frozen tower has nothing to learn
                embedding.backward(gradient)
    return value.detach()


def _chunks(tensors: tuple[Tensor, ...], size: int) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(t.split(size) for t in tensors))


def _random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


@contextmanager
def _replayed(state: tuple[Tensor, Tensor | None], device: torch.device) -> Iterator[None]:
    """Draw the same random numbers as in the first pass, then go on where the generator was."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.set_rng_state(state[0])
        if state[1] is not None:
            torch.cuda.set_rng_state(state[1], device)
        yield
