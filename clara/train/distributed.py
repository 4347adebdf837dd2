"""Several processes as one: torchrun's environment -> World. One process needs none of it and takes every short cut.

Each process computes the loss of the whole batch from gathered embeddings. The gather's backward sums over the
processes, so that averaging the parameters' gradients afterwards gives the gradient of one process with that batch.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from open_clip.loss import gather_features
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from clara.errors import ClaraError


@dataclass(frozen=True)
class World:
    """This process among `size`; `rank` 0 writes the files."""

    rank: int
    size: int
    device: torch.device

    @property
    def main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def gather(self, audio_BD: Tensor, text_UD: Tensor) -> tuple[Tensor, Tensor]:
        """The embeddings of all processes in order of rank, differentiable; every process must have equally many."""
        if self.size == 1:
            return audio_BD, text_UD
        return gather_features(audio_BD, text_UD, gather_with_grad=True, rank=self.rank, world_size=self.size)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the processes, in one message."""
        self._average([p.grad for p in parameters if p.grad is not None])

    def average_batch_norm(self, model: nn.Module) -> None:
        """Make the running statistics of plain batch norms, which each process took of its own slice, the same."""
        norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and not isinstance(m, nn.SyncBatchNorm)]
        self._average([b for m in norms for b in m.buffers() if b.is_floating_point()])

    def _average(self, tensors: list[Tensor]) -> None:
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([t.reshape(-1) for t in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors])):
            tensor.copy_(part.view(tensor.shape))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process: they must stop at the same step or wait for each other for ever."""
        if self.size == 1:
            return flag
        count = torch.tensor(int(flag), device=self.device)
        dist.all_reduce(count)
        return bool(count.item())

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def processes(device: str = "auto") -> Iterator[World]:
    """Join the processes that torchrun started (gloo on CPU, nccl on CUDA), or be alone without it.

    Raises:
        ClaraError: `device` is none of 'auto', 'cpu', 'cuda', or CUDA was asked for and there is none.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ClaraError(f"device={device!r}: expected 'auto', 'cpu' or 'cuda'.")
    if device == "cuda" and not torch.cuda.is_available():
        raise ClaraError("device='cuda', but PyTorch sees no CUDA device: set device to 'auto' or 'cpu'.")
    cuda = device != "cpu" and torch.cuda.is_available()
    local = int(os.environ.get("LOCAL_RANK", 0))
    where = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(where)
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        yield World(0, 1, where)
        return
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield World(dist.get_rank(), size, where)
    finally:
        dist.destroy_process_group()


def seed_all(seed: int, step: int, rank: int) -> None:
    """Seed every generator that a tower may draw from (transformers masks with numpy's) for one step."""
    value = int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)
