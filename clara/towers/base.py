"""What every tower is: one tensor and its mask in, one vector per item out. Tests run over every registered member."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clara.config import Registry


class AudioTower(nn.Module):
    """x_BNF (frames, bins) and mask_BN (True = real frame) -> a_BW; `pool=False` -> a_BNW with `frame_mask(mask_BN)`."""

    width: int

    def forward(self, x_BNF: Tensor, mask_BN: Tensor, pool: bool = True) -> Tensor:
        raise NotImplementedError

    def frame_mask(self, mask_BN: Tensor) -> Tensor:
        """Which of the vectors that `pool=False` gives are of real frames: (B, N'), bool."""
        raise NotImplementedError


class TextTower(nn.Module):
    """ids_BL and mask_BL (True = real token) -> t_BW; `pool=False` -> t_BLW, one vector a token."""

    width: int

    def forward(self, ids_BL: Tensor, mask_BL: Tensor, pool: bool = True) -> Tensor:
        raise NotImplementedError


AUDIO_TOWERS: Registry[AudioTower] = Registry("audio tower")
TEXT_TOWERS: Registry[TextTower] = Registry("text tower")


def strided_mask(mask_BN: Tensor, stride: int) -> Tensor:
    """The mask after a time stride: a coarse frame is real when its first fine frame is. (B, ceil(N / stride))."""
    return mask_BN[:, ::stride]


def mask_frames(x_BNF: Tensor, mask_BN: Tensor) -> Tensor:
    """Zero the padding, so that what it held can reach nothing."""
    return torch.where(mask_BN[..., None], x_BNF, x_BNF.new_zeros(()))
