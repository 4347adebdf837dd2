"""CNN14 of PANNs (Kong et al. 2020, sec. II-A and table I): twelve 3×3 convolutions over log-mel frames, the mean over
frequency, then the maximum and the mean over time added. The audio side of Microsoft's CLAP of 2022 and of WavCaps.

Padding is masked before every convolution, so that a clip alone and a clip beside longer ones agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clara.errors import ClaraError
from clara.towers.base import AUDIO_TOWERS, AudioTower, mask_frames
from clara.towers.remap import Drop, Rename, Rule


@dataclass(frozen=True)
class CNN14Config:
    """CNN14 (PANNs, Kong et al. 2020)."""

    bins: int = 64
    """F: the front-end's."""
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)
    """Channels of each block."""
    pools: tuple[int, ...] = (2, 2, 2, 2, 2, 1)
    """Factor by which time and frequency are averaged down after each block (PANNs' last: 1, WavCaps': 2)."""
    embedding: int | None = 2048
    """Width of the layer on the pooled vector; null leaves it out, as WavCaps does."""
    dropout: float = 0.2
    """After each block, 0 to 1."""
    embedding_dropout: float = 0.5
    """Before and after the embedding layer, 0 to 1."""


class Block(nn.Module):
    """Two 3×3 convolutions with batch norm, then an average over `pool` × `pool` cells."""

    def __init__(self, c_in: int, c_out: int, pool: int, dropout: float) -> None:
        super().__init__()
        self.pool = pool
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.drop = nn.Dropout(dropout)

    def forward(self, x_BCNF: Tensor, len_B: Tensor) -> tuple[Tensor, Tensor]:
        """x_BCNF, silent beyond len_B frames -> the same, coarser. A last cell that is not whole is dropped."""
        y = _silence(self.bn1(self.conv1(x_BCNF)).relu(), len_B)
        y = self.bn2(self.conv2(y)).relu()
        y = nn.functional.avg_pool2d(y, self.pool) if self.pool > 1 else y
        len_B = len_B // self.pool
        return self.drop(_silence(y, len_B)), len_B


@AUDIO_TOWERS.register("cnn14", CNN14Config)
class CNN14Tower(AudioTower):
    """x_BNF -> a_BW, W = `embedding`, or without it the last of `widths`."""

    def __init__(self, config: CNN14Config) -> None:
        super().__init__()
        if len(config.widths) != len(config.pools):
            raise ClaraError("cnn14 tower: widths and pools must be equally long.")
        self.config, self.shortest = config, math.prod(config.pools)
        if config.bins < self.shortest:
            raise ClaraError(f"cnn14 tower: {config.bins} bins, and pools divide them by {self.shortest}.")
        self.bn0 = nn.BatchNorm1d(config.bins)
        channels = [1, *config.widths]
        self.blocks = nn.ModuleList(
            Block(a, b, pool, config.dropout) for a, b, pool in zip(channels, config.widths, config.pools)
        )
        self.drop = nn.Dropout(config.embedding_dropout)
        self.fc1 = None if config.embedding is None else nn.Linear(channels[-1], config.embedding)
        self.width = config.embedding or channels[-1]

    def forward(self, x_BNF: Tensor, mask_BN: Tensor, pool: bool = True) -> Tensor:
        """a_BW. With `pool=False` a_BNW, one vector a coarse frame: what a clip of that frame alone would give."""
        if x_BNF.shape[2] != self.config.bins:
            raise ClaraError(f"{x_BNF.shape[2]} bins, the cnn14 tower was built for {self.config.bins}.")
        x_BFN = self.bn0(mask_frames(x_BNF, mask_BN).transpose(1, 2))
        x = mask_frames(x_BFN.transpose(1, 2), mask_BN)
        x = nn.functional.pad(x, (0, 0, 0, max(0, self.shortest - x.shape[1])))[:, None]
        len_B = self._frames(mask_BN)
        for block in self.blocks:
            x, len_B = block(x, len_B)
        frames_BNC = x.mean(3).transpose(1, 2)
        if not pool:
            return self._embed(2 * frames_BNC)
        # after a ReLU nothing is below 0, the padding's value: it never is the maximum
        return self._embed(frames_BNC.amax(1) + frames_BNC.sum(1) / len_B[:, None])

    def _embed(self, x: Tensor) -> Tensor:
        return x if self.fc1 is None else self.drop(self.fc1(self.drop(x)).relu())

    def frame_mask(self, mask_BN: Tensor) -> Tensor:
        frames = max(mask_BN.shape[1], self.shortest) // self.shortest
        return torch.arange(frames, device=mask_BN.device) < (self._frames(mask_BN) // self.shortest)[:, None]

    def _frames(self, mask_BN: Tensor) -> Tensor:
        """Real frames, at least what one coarse frame takes."""
        return mask_BN.sum(1).clamp_min(self.shortest)


def _silence(x_BCNF: Tensor, len_B: Tensor) -> Tensor:
    keep_BN = torch.arange(x_BCNF.shape[2], device=len_B.device) < len_B[:, None]
    return x_BCNF * keep_BN[:, None, :, None].to(x_BCNF.dtype)


_NORM = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
# PANNs' Cnn14 and its descendants -> `CNN14Tower`
PANNS_RULES: tuple[Rule, ...] = (
    Rename(rf"bn0\.{_NORM}", r"bn0.\1"),
    *(Rename(rf"conv_block{i + 1}\.(conv[12])\.weight", rf"blocks.{i}.\1.weight") for i in range(6)),
    *(Rename(rf"conv_block{i + 1}\.(bn[12])\.{_NORM}", rf"blocks.{i}.\1.\2") for i in range(6)),
    Rename(r"fc1\.(weight|bias)", r"fc1.\1"),
    Drop(r"fc_audioset\.(weight|bias)", "classes of AudioSet; an embedding does not pass it"),
    Drop(r"spectrogram_extractor\.stft\.conv_(real|imag)\.weight", "the front-end's Fourier transform"),
    Drop(r"logmel_extractor\.melW", "the front-end's filter bank"),
)
