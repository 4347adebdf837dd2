"""Dasheng (Dinkel et al. 2024, arXiv 2406.06992), the audio encoder of GLAP: a ViT whose patches hold every band of
four frames. Longer audio is read in chunks of ten seconds that do not see each other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from clara.errors import ClaraError
from clara.layers import masked_mean
from clara.towers.base import AUDIO_TOWERS, AudioTower, mask_frames
from clara.towers.remap import Drop, Rename, Rule


@dataclass(frozen=True)
class DashengConfig:
    """Dasheng (Dinkel et al. 2024)."""

    bins: int = 64
    """F: the front-end's."""
    patch: int = 4
    """Frames per patch."""
    chunk: int = 1008
    """Frames per chunk, a multiple of `patch`."""
    width: int = 768
    """Of the transformer."""
    layers: int = 12
    """Number of transformer layers."""
    heads: int = 12
    """Attention heads; divides `width`."""
    mlp_ratio: float = 4.0
    """Width of the MLP over `width`."""


@AUDIO_TOWERS.register("dasheng", DashengConfig)
class DashengTower(AudioTower):
    """x_BNF -> a_BW: the mean over patches, N' = N // 4.

    A clip longer than one chunk is filled to whole chunks (its features, once normalised, with zeros), each is encoded
    by itself, and the mean goes over all patches, the filling's too: GLAP's reading of long audio.
    """

    def __init__(self, config: DashengConfig) -> None:
        from timm.models.vision_transformer import Block  # here: who wants the rules alone does not wait for timm

        super().__init__()
        c = self.config = config
        if c.chunk % c.patch or c.width % c.heads:
            raise ClaraError(
                f"dasheng tower: chunk {c.chunk} must be a multiple of patch {c.patch}, "
                f"width {c.width} of heads {c.heads}."
            )
        self.width, self.per_chunk = c.width, c.chunk // c.patch
        self.bin_norm = nn.BatchNorm1d(c.bins, momentum=0.01)
        self.embed = nn.Linear(c.bins * c.patch, c.width)
        self.positions = nn.Parameter(0.02 * torch.randn(self.per_chunk, c.width))
        self.row = nn.Parameter(0.02 * torch.randn(c.width))  # the place of the one row of patches
        norm = partial(nn.LayerNorm, eps=1e-6)
        blocks = (Block(c.width, c.heads, c.mlp_ratio, qkv_bias=True, norm_layer=norm) for _ in range(c.layers))
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm(c.width)

    def forward(self, x_BNF: Tensor, mask_BN: Tensor, pool: bool = True) -> Tensor:
        """a_BW, or a_BPW per patch with `pool=False`. ClaraError for other bins."""
        c = self.config
        if x_BNF.shape[2] != c.bins:
            raise ClaraError(f"{x_BNF.shape[2]} bins, the dasheng tower was built for {c.bins}.")
        x_BNF = mask_frames(x_BNF, mask_BN)  # before the norm, whose statistics while training would else hold rubbish
        x_BNF = mask_frames(self.bin_norm(x_BNF.transpose(1, 2)).transpose(1, 2), mask_BN)
        real_BP = self.frame_mask(mask_BN)
        frames = real_BP.shape[1] * c.patch
        x_BNF = nn.functional.pad(x_BNF, (0, 0, 0, max(0, frames - x_BNF.shape[1])))[:, :frames]
        # a patch's kernel runs over bands first, then frames
        patches_BPE = x_BNF.unflatten(1, (-1, c.patch)).transpose(2, 3).flatten(2)
        chunks = -(-real_BP.shape[1] // self.per_chunk)
        size = real_BP.shape[1] // chunks
        real_CP = real_BP.reshape(-1, size)
        live_C = real_CP.any(1)  # chunks beyond a shorter clip's end are not computed
        x_CPW = self.embed(patches_BPE.reshape(-1, size, c.bins * c.patch)[live_C])
        x_CPW = x_CPW + self.positions[:size] + self.row
        blocked = torch.zeros(x_CPW.shape[:2], dtype=x_CPW.dtype, device=x_CPW.device)
        blocked = blocked.masked_fill(~real_CP[live_C], -torch.inf)[:, None, None]
        for block in self.blocks:
            x_CPW = block(x_CPW, attn_mask=blocked)
        x_CPW = self.norm(x_CPW)
        x_BPW = (
            x_CPW.new_zeros(len(real_CP), size, c.width).index_put((live_C,), x_CPW).reshape(*real_BP.shape, c.width)
        )
        return self.pooled(x_BPW, real_BP) if pool else x_BPW

    def pooled(self, frames_BNW: Tensor, mask_BN: Tensor) -> Tensor:
        return masked_mean(frames_BNW, mask_BN)

    def frame_mask(self, mask_BN: Tensor) -> Tensor:
        """(B, N'): patches of real frames only; at least one; all of every begun chunk where a clip has two or more."""
        c, len_B = self.config, mask_BN.sum(1)
        whole_B = -(-len_B // c.chunk) * self.per_chunk
        count_B = torch.where(len_B > c.chunk, whole_B, (len_B // c.patch).clamp_min(1))
        longest = mask_BN.shape[1]
        size = -(-longest // c.chunk) * self.per_chunk if longest > c.chunk else max(1, longest // c.patch)
        return torch.arange(size, device=mask_BN.device) < count_B[:, None]


# the keys of the `dasheng` package under this tower's; embed.weight, positions and row change their shape too
DASHENG_RULES: tuple[Rule, ...] = (
    Rename(r"init_bn\.1\.(weight|bias|running_mean|running_var|num_batches_tracked)", r"bin_norm.\1"),
    Rename(r"patch_embed\.proj\.(weight|bias)", r"embed.\1"),
    Rename(r"time_pos_embed", r"positions"),
    Rename(r"freq_pos_embed", r"row"),
    Rename(r"blocks\.(\d+\.(?:norm[12]|attn\.qkv|attn\.proj|mlp\.fc[12])\.(?:weight|bias))", r"blocks.\1"),
    Rename(r"norm\.(weight|bias)", r"norm.\1"),
    Drop(r"front_end\.0\.(?:spectrogram\.window|mel_scale\.fb)", "computed from the front-end's config"),
)
