"""A compact residual CNN over log-mel frames with attentive-statistics pooling; fast on a CPU in bf16.

Every stage masks the padding before it convolves, so that a clip alone and a clip beside longer ones agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clara.errors import ClaraError
from clara.layers import AttentiveStats, masked_mean
from clara.towers.base import AUDIO_TOWERS, AudioTower, mask_frames, strided_mask


@dataclass(frozen=True)
class ConvConfig:
    """A residual CNN with one entry per stage."""

    bins: int = 64
    """F: the front-end's."""
    contrast: bool = False
    """Add each band less its mean over the clip as a second channel: what moves, whatever the recording's response."""
    stem: int = 32
    """Channels of the stem."""
    stem_stride: tuple[int, int] = (2, 2)
    """Stride of the stem in (time, frequency)."""
    widths: tuple[int, ...] = (48, 96, 192, 320)
    """Channels of each stage."""
    depths: tuple[int, ...] = (1, 2, 2, 2)
    """Residual blocks of each stage."""
    time_strides: tuple[int, ...] = (1, 2, 2, 1)
    """Stride in time of each stage's first block."""
    bin_strides: tuple[int, ...] = (1, 2, 2, 2)
    """Stride in frequency of each stage's first block."""
    dropout: float = 0.1
    """Of the pooled vector, 0 to 1."""


class Block(nn.Module):
    """Two 3×3 convolutions with batch norm and a skip (He et al. 2016), squeeze-free."""

    def __init__(self, c_in: int, c_out: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(c_out)
        same = c_in == c_out and stride == (1, 1)
        self.skip = nn.Identity() if same else nn.Sequential(
            nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
        )  # fmt: skip

    def forward(self, x_BCNF: Tensor, mask_BN: Tensor) -> tuple[Tensor, Tensor]:
        mask_BN = strided_mask(mask_BN, self.stride[0])
        keep = mask_BN[:, None, :, None].to(x_BCNF.dtype)
        y = self.norm1(self.conv1(x_BCNF)).relu() * keep
        y = self.norm2(self.conv2(y)) + self.skip(x_BCNF)
        return y.relu() * keep, mask_BN


@AUDIO_TOWERS.register("conv", ConvConfig)
class ConvTower(AudioTower):
    """x_BNF -> a_BW with W = 2 × (last width): attention-weighted mean and deviation over time."""

    def __init__(self, config: ConvConfig) -> None:
        super().__init__()
        stages = {len(config.widths), len(config.depths), len(config.time_strides), len(config.bin_strides)}
        if len(stages) != 1:
            raise ClaraError("conv tower: widths, depths, time_strides and bin_strides must be equally long.")
        if min(config.stem, *config.widths) < 16:
            # below, oneDNN's backward of a strided 1×1 convolution in channels_last writes past its memory (torch 2.11)
            raise ClaraError("conv tower: stem and widths must be at least 16 channels.")
        self.config = config
        self.bin_norm = nn.BatchNorm1d(config.bins)
        self.stem = nn.Conv2d(1 + config.contrast, config.stem, 3, config.stem_stride, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(config.stem)
        blocks, c_in = [], config.stem
        for width, depth, t, f in zip(config.widths, config.depths, config.time_strides, config.bin_strides):
            for i in range(depth):
                blocks.append(Block(c_in, width, (t, f) if i == 0 else (1, 1)))
                c_in = width
        self.blocks = nn.ModuleList(blocks)
        self.pool = AttentiveStats(c_in)
        # pooled ReLU features share one large mean: unless it is removed, all clips start out as the same direction
        self.pool_norm = nn.BatchNorm1d(2 * c_in)
        self.drop = nn.Dropout(config.dropout)
        self.width = 2 * c_in

    def forward(self, x_BNF: Tensor, mask_BN: Tensor, pool: bool = True) -> Tensor:
        """a_BW, or a_BNC per coarse frame with `pool=False`."""
        x = self.bin_norm(x_BNF.transpose(1, 2)).transpose(1, 2)
        x = mask_frames(x, mask_BN)
        planes = [x, mask_frames(x - masked_mean(x, mask_BN)[:, None], mask_BN)] if self.config.contrast else [x]
        x = torch.stack(planes, 1).contiguous(memory_format=torch.channels_last)
        mask_BN = strided_mask(mask_BN, self.config.stem_stride[0])
        x = self.stem_norm(self.stem(x)).relu() * mask_BN[:, None, :, None]
        for block in self.blocks:
            x, mask_BN = block(x, mask_BN)
        frames = (x.mean(3) + x.amax(3)).transpose(1, 2)
        return self.pooled(frames, mask_BN) if pool else frames

    def pooled(self, frames_BNW: Tensor, mask_BN: Tensor) -> Tensor:
        return self.drop(self.pool_norm(self.pool(frames_BNW, mask_BN).to(self.pool_norm.weight.dtype)))

    def frame_mask(self, mask_BN: Tensor) -> Tensor:
        mask_BN = strided_mask(mask_BN, self.config.stem_stride[0])
        for block in self.blocks:
            mask_BN = strided_mask(mask_BN, block.stride[0])
        return mask_BN
