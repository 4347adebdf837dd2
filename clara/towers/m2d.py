"""M2D-CLAP's audio encoder (Niizumi et al. 2024, arXiv 2406.02032; 2025, arXiv 2503.22104): a vision transformer over
patches of log-mel frames.

A clip longer than the picture it was trained on is encoded piece by piece, each piece's positions from the first on,
and the patches of all pieces are pooled together. Only patches that begin within the clip count.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clara.errors import ClaraError
from clara.layers import masked_mean
from clara.towers.base import AUDIO_TOWERS, AudioTower, mask_frames
from clara.towers.remap import Drop, Rename, Rule, prefixed


@dataclass(frozen=True)
class M2DConfig:
    """M2D (Niizumi et al.)."""

    bins: int = 80
    """F: the front-end's."""
    window_frames: int = 608
    """Frames of one piece."""
    patch: tuple[int, int] = (16, 16)
    """Bins and frames of a patch."""
    width: int = 768
    """Of the transformer."""
    layers: int = 12
    """Number of transformer layers."""
    heads: int = 12
    """Attention heads; divides `width`."""
    hidden: int = 3072
    """Width of the MLPs."""
    semantic_layers: int = 0
    """Layers of the second transformer, whose token reads the patches (2025); 0 = their mean (2024)."""
    semantic_heads: int = 1
    """Its attention heads."""
    semantic_hidden: int = 768
    """Width of its MLPs."""


def _transformer(width: int, layers: int, heads: int, hidden: int, eps: float) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        width, heads, hidden, 0.0, "gelu", layer_norm_eps=eps, batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, layers, nn.LayerNorm(width, eps), enable_nested_tensor=False)


@AUDIO_TOWERS.register("m2d", M2DConfig)
class M2DTower(AudioTower):
    """x_BNF -> a_BW."""

    def __init__(self, config: M2DConfig) -> None:
        super().__init__()
        c = self.config = config
        if c.bins % c.patch[0] or c.window_frames < c.patch[1]:
            raise ClaraError(
                f"m2d tower: patches of {c.patch} on {c.bins} bins and {c.window_frames} frames do not fit."
            )
        self.width, self.rows, self.columns = c.width, c.bins // c.patch[0], c.window_frames // c.patch[1]
        self.proj = nn.Conv2d(1, c.width, c.patch, stride=c.patch)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, c.width))
        self.positions = nn.Parameter(0.02 * torch.randn(1, 1 + self.rows * self.columns, c.width))
        self.encoder = _transformer(c.width, c.layers, c.heads, c.hidden, 1e-6)
        self.semantic, self.semantic_token = None, None
        if c.semantic_layers:
            self.semantic = _transformer(c.width, c.semantic_layers, c.semantic_heads, c.semantic_hidden, 1e-5)
            self.semantic_token = nn.Parameter(0.02 * torch.randn(1, 1, c.width))

    def forward(self, x_BNF: Tensor, mask_BN: Tensor, pool: bool = True) -> Tensor:
        """a_BW, or a_BNW per column of patches with `pool=False`. ClaraError for other bins."""
        c = self.config
        if x_BNF.shape[2] != c.bins:
            raise ClaraError(f"{x_BNF.shape[2]} bins, the m2d tower was built for {c.bins}.")
        mask_BPC = self._columns(mask_BN)
        (count, pieces, columns), step = mask_BPC.shape, c.patch[1]
        length = c.window_frames if pieces > 1 else columns * step
        missing = max(0, pieces * length - x_BNF.shape[1])
        x_BNF = nn.functional.pad(mask_frames(x_BNF, mask_BN), (0, 0, 0, missing))[:, : pieces * length]
        pictures = x_BNF.reshape(count * pieces, 1, length, c.bins)[:, :, : columns * step].transpose(2, 3)
        patches = self._encode(self.proj(pictures), mask_BPC.flatten(0, 1))  # (B × P), rows, columns, W
        if not pool:
            return patches.mean(1).reshape(count, pieces * columns, c.width)
        x_BKW = patches.reshape(count, -1, c.width)
        mask_BK = mask_BPC[:, :, None].expand(-1, -1, self.rows, -1).reshape(count, -1)
        if self.semantic is None:
            return masked_mean(x_BKW, mask_BK)
        return self._attend(self.semantic, self.semantic_token, x_BKW, mask_BK)[:, 0]

    def _encode(self, patches_BWRC: Tensor, mask_BC: Tensor) -> Tensor:
        """One transformer pass a piece: (B × P), rows, columns, W."""
        rows, columns = patches_BWRC.shape[2:]
        own = self.positions[:, 1:].unflatten(1, (rows, self.columns))[:, :, :columns].flatten(1, 2)
        x_BKW = patches_BWRC.flatten(2).transpose(1, 2) + own
        mask_BK = mask_BC[:, None].expand(-1, rows, -1).flatten(1)
        return self._attend(self.encoder, self.token + self.positions[:, :1], x_BKW, mask_BK)[:, 1:].unflatten(
            1, (rows, columns)
        )

    @staticmethod
    def _attend(transformer: nn.TransformerEncoder, token_11W: Tensor, x_BKW: Tensor, mask_BK: Tensor) -> Tensor:
        """The transformer over the token and what is real of x_BKW: (B, 1 + K, W)."""
        x = torch.cat([token_11W.expand(len(x_BKW), -1, -1), x_BKW], 1)
        return transformer(x, src_key_padding_mask=nn.functional.pad(~mask_BK, (1, 0)))

    def _columns(self, mask_BN: Tensor) -> Tensor:
        """Which columns of patches are real, piece by piece: (B, P, C); a single piece has no more than it needs."""
        c, frames = self.config, mask_BN.shape[1]
        pieces = -(-frames // c.window_frames)
        columns = self.columns if pieces > 1 else min(self.columns, -(-frames // c.patch[1]))
        first_P = torch.arange(pieces, device=mask_BN.device) * c.window_frames
        real_BP = (mask_BN.sum(1)[:, None] - first_P).clamp(0, c.window_frames)
        number = torch.arange(columns, device=mask_BN.device)
        return number < (-(-real_BP // c.patch[1]))[..., None]

    def frame_mask(self, mask_BN: Tensor) -> Tensor:
        return self._columns(mask_BN).flatten(1)


# timm's vision transformer block -> torch's encoder layer
_BLOCK_RULES: tuple[Rule, ...] = (
    Rename(r"(\d+)\.(norm1|norm2)\.(\w+)", r"layers.\1.\2.\3"),
    Rename(r"(\d+)\.attn\.qkv\.(\w+)", r"layers.\1.self_attn.in_proj_\2"),
    Rename(r"(\d+)\.attn\.proj\.(\w+)", r"layers.\1.self_attn.out_proj.\2"),
    Rename(r"(\d+)\.mlp\.fc([12])\.(\w+)", r"layers.\1.linear\2.\3"),
)
# nttcslab/m2d, examples/portable_m2d.py -> `M2DTower`
M2D_RULES: tuple[Rule, ...] = (
    Rename("cls_token", "token"),
    Rename("pos_embed", "positions"),
    Rename(r"patch_embed\.proj\.(\w+)", r"proj.\1"),
    *prefixed(_BLOCK_RULES, r"blocks\.", "encoder."),
    Rename(r"norm\.(\w+)", r"encoder.norm.\1"),
    Rename(r"audio_proj\.sem_token", "semantic_token"),
    *prefixed(_BLOCK_RULES, r"audio_proj\.sem_blocks\.", "semantic."),
    Rename(r"audio_proj\.norm\.(\w+)", r"semantic.norm.\1"),
    Drop(r"mask_token|decoder_.+|target_(blocks|norm)\..+", "reconstructs masked patches in pre-training"),
    Drop("norm_stats", "mean and deviation stand in the front-end's config"),
)
