"""What follows a pretrained audio encoder: a mix of its layers, trainable blocks, pooling."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from clara.errors import ClaraError, unknown
from clara.layers import AttentiveStats, masked_mean, masked_stats
from clara.towers.base import mask_frames, strided_mask

POOLINGS = ("mean", "stats", "attentive_stats")
HEAD_WIDTH = 64


class PoolConfig(Protocol):
    """The fields of `HFAudioConfig` that are read here."""

    mix: tuple[int, ...] | None
    stride: int
    blocks: int
    block_width: int | None
    pooling: str
    summary: bool
    dropout: float


def coarser(x_BNW: Tensor, mask_BN: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """The masked mean of every `factor` frames, and its mask: N becomes ceil(N / factor)."""
    if factor == 1:
        return x_BNW, mask_BN
    short = -x_BNW.shape[1] % factor
    x_BNW = nn.functional.pad(mask_frames(x_BNW, mask_BN), (0, 0, 0, short)).unflatten(1, (-1, factor))
    count_BN = nn.functional.pad(mask_BN, (0, short)).unflatten(1, (-1, factor)).sum(2).clamp_min(1)
    return x_BNW.sum(2) / count_BN[..., None].to(x_BNW.dtype), strided_mask(mask_BN, factor)


class StatePool(nn.Module):
    """states_BNKW of K layers and mask_BN -> a_BW: a layer norm per layer; their learned convex combination, or with
    `block_width` a linear map of all of them side by side; pre-norm transformer blocks; pooling. With `summary` the
    mean and deviation of every layer, as they came, stand beside what is pooled."""

    def __init__(self, width: int, config: PoolConfig) -> None:
        super().__init__()
        if config.pooling not in POOLINGS:
            raise unknown("pooling of the hf_audio tower", config.pooling, POOLINGS)
        if config.stride < 1 or config.blocks < 0:
            raise ClaraError(
                f"hf_audio tower: stride={config.stride}, blocks={config.blocks}: expected at least 1 and 0."
            )
        count, own_width = len(config.mix or ()), width
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(count))
        self.project, self.weights = None, None
        if config.block_width is not None:
            self.project, width = nn.Linear(max(1, count) * width, config.block_width), config.block_width
        elif count > 1:
            self.weights = nn.Parameter(torch.zeros(count))
        heads = max(1, width // HEAD_WIDTH)
        if config.blocks and width % heads:
            raise ClaraError(f"hf_audio tower: blocks of width {width}: expected a multiple of {HEAD_WIDTH}.")
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, dropout=config.dropout, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(config.blocks)
        )
        self.norm = nn.LayerNorm(width) if config.blocks else None
        self.pooling = config.pooling
        self.attention = AttentiveStats(width) if config.pooling == "attentive_stats" else None
        self.dropout = nn.Dropout(config.dropout)
        self.width = width if config.pooling == "mean" else 2 * width
        # means and deviations differ in scale; a plain pooled encoder is left as it is
        self.out_norm = nn.LayerNorm(self.width) if config.block_width is not None else nn.Identity()
        self.mixed_width, self.summary = width, config.summary
        if self.summary:
            self.width += 2 * max(1, count) * own_width

    def forward(self, states_BNKW: Tensor, mask_BN: Tensor, pool: bool = True) -> Tensor:
        """a_BW, or with `pool=False` a_BNW, before pooling."""
        x_BNW = self._mixed(states_BNKW)
        for block in self.blocks:
            x_BNW = block(x_BNW, src_key_padding_mask=~mask_BN)
        if self.norm is not None:
            x_BNW = self.norm(x_BNW)
        if self.summary:  # what the frames' part of the vector is made of
            x_BNW = torch.cat([x_BNW, states_BNKW.flatten(2).to(x_BNW.dtype)], -1)
        return self.pooled(x_BNW, mask_BN) if pool else x_BNW

    def pooled(self, x_BNW: Tensor, mask_BN: Tensor) -> Tensor:
        """What `forward` gives of the frames that it gives with `pool=False`: (B, W)."""
        states_BNW = x_BNW[..., self.mixed_width :]
        x_BNW = x_BNW[..., : self.mixed_width]
        if self.attention is not None:
            pooled_BW = self.attention(x_BNW, mask_BN).to(x_BNW.dtype)
        else:
            pooled_BW = (masked_stats if self.pooling == "stats" else masked_mean)(x_BNW, mask_BN)
        pooled_BW = self.dropout(self.out_norm(pooled_BW))
        if not self.summary:
            return pooled_BW
        return torch.cat([pooled_BW, masked_stats(states_BNW.float(), mask_BN).to(pooled_BW.dtype)], 1)

    def _mixed(self, states_BNKW: Tensor) -> Tensor:
        if states_BNKW.shape[2] != max(1, len(self.norms)):
            raise ClaraError(f"States of {states_BNKW.shape[2]} layers, the tower mixes {max(1, len(self.norms))}.")
        normed = [norm(states_BNKW[:, :, k]) for k, norm in enumerate(self.norms)]
        if self.project is not None:
            return self.project(torch.cat(normed, -1) if normed else states_BNKW[:, :, 0])
        if self.weights is None:
            return normed[0] if normed else states_BNKW[:, :, 0]
        return sum(w * x_BNW for w, x_BNW in zip(self.weights.softmax(0), normed))
