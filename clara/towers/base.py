"""What every tower is: one tensor and its mask in, one vector per item out. Tests run over every registered member."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from clara.config import Registry, Spec
from clara.errors import ClaraError
from clara.towers import AUDIO, TEXT


class AudioTower(nn.Module):
    """x_BNF (frames, bins) and mask_BN (True = real frame) -> a_BW; `pool=False` -> a_BNW, masked by `frame_mask`."""

    width: int

    def forward(self, x_BNF: Tensor, mask_BN: Tensor, pool: bool = True) -> Tensor:
        raise NotImplementedError

    def frame_mask(self, mask_BN: Tensor) -> Tensor:
        """Which of the vectors that `pool=False` gives are of real frames: (B, N'), bool."""
        raise NotImplementedError

    def pooled(self, frames_BNW: Tensor, mask_BN: Tensor) -> Tensor:
        """The rest of `forward` after `pool=False`: a_BW of those frames that the mask leaves, so that one pass over a
        recording can be pooled over any part of it. ClaraError for a tower that makes its vector of other things."""
        raise ClaraError(f"{type(self).__name__} does not make its vector of frames alone: use windows (frames=False).")

    def states(self, x_BNF: Tensor, mask_BN: Tensor) -> tuple[Tensor, Tensor]:
        """The part of `forward` that can be computed once and stored while only what follows it is trained: states_BNKW
        of K layers and their mask (B, N'). ClaraError for a tower that has no such part."""
        raise ClaraError(f"{type(self).__name__} cannot be trained from stored states: use an hf_audio tower that can.")

    def from_states(self, states_BNKW: Tensor, mask_BN: Tensor, pool: bool = True) -> Tensor:
        """The other part: `from_states(*states(x, mask), pool)` is `forward(x, mask, pool)`. ClaraError as `states`."""
        raise ClaraError(f"{type(self).__name__} cannot be trained from stored states: use an hf_audio tower that can.")

    def resolved(self, spec: Spec) -> Spec:
        """`spec`, which built this tower, in the form that builds it again from nothing but itself: no foreign file or
        hub is read for what a checkpoint's own weights replace. A tower started from foreign weights overrides it."""
        return spec


class TextTower(nn.Module):
    """ids_BL and mask_BL (True = real token) -> t_BW; `pool=False` -> t_BLW, one vector per token."""

    width: int

    def forward(self, ids_BL: Tensor, mask_BL: Tensor, pool: bool = True) -> Tensor:
        raise NotImplementedError

    def resolved(self, spec: Spec) -> Spec:
        """As `AudioTower.resolved`."""
        return spec


AUDIO_TOWERS: Registry[AudioTower] = Registry("audio tower", AUDIO)
TEXT_TOWERS: Registry[TextTower] = Registry("text tower", TEXT)


_WEIGHTLESS: ContextVar[bool] = ContextVar("weightless", default=False)  # of this thread alone


def _without_memory(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
    if parameter is None or parameter.is_meta or not _WEIGHTLESS.get():
        return None
    return nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)


# once and for all: torch keeps one table for all threads, and one that builds a model meanwhile is walking through it
register_module_parameter_registration_hook(_without_memory)


@contextmanager
def weightless(active: bool = True) -> Iterator[None]:
    """Parameters of modules built within take no memory and draw no random numbers: they wait, on the meta device, for
    the tensors of a file. Buffers are computed as always. `weightless(False)` inside exempts what must compute with its
    parameters while it is built."""
    before = _WEIGHTLESS.set(active)
    try:
        yield
    finally:
        _WEIGHTLESS.reset(before)


def strided_mask(mask_BN: Tensor, stride: int) -> Tensor:
    """The mask after a time stride: a coarse frame is real when its first fine frame is. (B, ceil(N / stride))."""
    return mask_BN[:, ::stride]


def mask_frames(x_BNF: Tensor, mask_BN: Tensor) -> Tensor:
    """Zero the padding, so that what it held can reach nothing."""
    return torch.where(mask_BN[..., None], x_BNF, x_BNF.new_zeros(()))


def smaller(a: int, b: int) -> int:
    """min(a, b); where a graph is traced, an operation of the graph: lengths are not the example's there."""
    if not torch.jit.is_tracing():
        return min(a, b)
    return torch.minimum(torch.as_tensor(a), torch.as_tensor(b))  # type: ignore[return-value]  # a traced length


def fit_window(x_BNF: Tensor, mask_BN: Tensor, window: int, fill: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
    """Exactly `window` frames, padding replaced by `fill` (a number, or (B, 1, 1)): for towers that cannot mask, so
    that a clip's result never depends on its neighbours. One frame too many is cut (a centred STFT gives T // hop + 1).

    Raises:
        ClaraError: more frames than that.
    """
    extra = x_BNF.shape[1] - window
    if extra > 1:
        raise ClaraError(
            f"{x_BNF.shape[1]} frames, the tower's window is {window}: cut the audio into shorter windows "
            "(front_end.window_seconds) or widen the tower's."
        )
    x_BNF, mask_BN = x_BNF[:, :window], mask_BN[:, :window]
    if torch.jit.is_tracing():
        extra = smaller(0, extra)
    if torch.jit.is_tracing() or extra < 0:
        x_BNF, mask_BN = nn.functional.pad(x_BNF, (0, 0, 0, -extra)), nn.functional.pad(mask_BN, (0, -extra))
    return torch.where(
        mask_BN[..., None], x_BNF, torch.as_tensor(fill, dtype=x_BNF.dtype, device=x_BNF.device)
    ), mask_BN
