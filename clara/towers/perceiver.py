"""The first CLARA (arXiv 2310.11830): a Perceiver IO over log-mel frames and a post-norm text transformer.

**The pooling quirk.** A Perceiver's output is one vector a latent. The original takes the mean and the maximum over
each latent's *features*, not over the latents, and adds them: one number a latent. That is why there must be as many
latents as features. It is a pure function of the clip, and is reproduced.

The original masks nothing, so that its embeddings change with the padding of their batch. Here every clip and text is
embedded as the original embeds it alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, leaky_relu, scaled_dot_product_attention

from clara.errors import ClaraError
from clara.layers import masked_mean
from clara.towers.base import AUDIO_TOWERS, TEXT_TOWERS, AudioTower, TextTower, mask_frames, strided_mask
from clara.towers.remap import Drop, Rename, Rule


@dataclass(frozen=True)
class PerceiverConfig:
    """The Perceiver IO audio tower of the first CLARA."""

    bins: int = 80
    """F: the front-end's."""
    token_width: int = 512
    """Width of the frames after two convolutions."""
    positions: int = 4096
    """Most such frames; they are half the front-end's."""
    latents: int = 512
    """Number of latents."""
    layers: int = 5
    """Self-attention layers."""
    cross_heads: int = 1
    """Heads of the cross-attention."""
    heads: int = 8
    """Heads of the self-attention."""
    head_width: int = 64
    """Width of each head."""
    width: int = 512
    """Width of the latents."""
    token_dropout: float = 0.0
    """Share of frames that the latents do not see in training (the original: 0.5)."""


class Attention(nn.Module):
    """Multi-head attention of x_BQW over context_BNC, masked by mask_BN where one is given."""

    def __init__(self, width: int, context_width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, heads * head_width, bias=False)
        self.key_value = nn.Linear(context_width, 2 * heads * head_width, bias=False)
        self.out = nn.Linear(heads * head_width, width)

    def forward(self, x_BQW: Tensor, context_BNC: Tensor, mask_BN: Tensor | None = None) -> Tensor:
        parts = (self.query(x_BQW), *self.key_value(context_BNC).chunk(2, -1))
        query, key, value = (p.unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in parts)
        mask = None if mask_BN is None else mask_BN[:, None, None]
        return self.out(scaled_dot_product_attention(query, key, value, mask).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Pre-norm attention, over frames `context_width` wide or over the latents themselves, then a gated layer."""

    def __init__(self, width: int, heads: int, head_width: int, context_width: int | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.context_norm = None if context_width is None else nn.LayerNorm(context_width)
        self.attention = Attention(width, context_width or width, heads, head_width)
        self.mlp_norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 8 * width), nn.Linear(4 * width, width)

    def forward(self, x_BQW: Tensor, context_BNC: Tensor | None = None, mask_BN: Tensor | None = None) -> Tensor:
        y = self.norm(x_BQW)
        x_BQW = x_BQW + self.attention(y, y if self.context_norm is None else self.context_norm(context_BNC), mask_BN)
        value, gate = self.up(self.mlp_norm(x_BQW)).chunk(2, -1)
        return x_BQW + self.down(value * gelu(gate))


@AUDIO_TOWERS.register("perceiver", PerceiverConfig)
class PerceiverTower(AudioTower):
    """x_BNF -> a_BW. Latents have no place in time, so `pool=False` gives the frames that they read."""

    def __init__(self, config: PerceiverConfig) -> None:
        super().__init__()
        c = self.config = config
        self.width = c.width
        self.conv1 = nn.Conv1d(c.bins, c.token_width, 3, padding=1)
        self.conv2 = nn.Conv1d(c.token_width, c.token_width, 3, stride=2, padding=1)
        self.positions = nn.Embedding(c.positions, c.token_width)
        self.latents = nn.Parameter(torch.randn(c.latents, c.latents))
        self.cross = Block(c.latents, c.cross_heads, c.head_width, c.token_width)
        self.layers = nn.ModuleList(Block(c.latents, c.heads, c.head_width) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.latents)
        self.out = nn.Linear(c.latents, c.width)

    def forward(self, x_BNF: Tensor, mask_BN: Tensor, pool: bool = True) -> Tensor:
        """a_BW, or a_BNC per coarse frame with `pool=False`. ClaraError for other bins or too many frames."""
        if x_BNF.shape[2] != self.config.bins:
            raise ClaraError(f"{x_BNF.shape[2]} bins, the perceiver tower was built for {self.config.bins}.")
        if x_BNF.shape[1] > 2 * self.config.positions:
            raise ClaraError(
                f"{x_BNF.shape[1]} frames, the perceiver tower holds {2 * self.config.positions}: cut the audio into "
                "shorter windows (front_end.window_seconds)."
            )
        frames_BNC, mask_BN = self._frames(x_BNF, mask_BN)
        if not pool:
            return frames_BNC
        if self.training and self.config.token_dropout:
            mask_BN = self._thin(mask_BN)
        x_BQW = self.cross(self.latents.expand(len(x_BNF), -1, -1), frames_BNC, mask_BN)
        for layer in self.layers:
            x_BQW = layer(x_BQW)
        x_BQW = self.norm(x_BQW)
        return leaky_relu(self.out(x_BQW.mean(2) + x_BQW.amax(2)))  # the quirk: over features

    def _frames(self, x_BNF: Tensor, mask_BN: Tensor) -> tuple[Tensor, Tensor]:
        # beyond a clip's end each convolution sees the zeros it would see there were the clip alone
        x_BNC = gelu(self.conv1(mask_frames(x_BNF, mask_BN).transpose(1, 2))).transpose(1, 2)
        x_BNC = gelu(self.conv2(mask_frames(x_BNC, mask_BN).transpose(1, 2))).transpose(1, 2)
        return x_BNC + self.positions.weight[: x_BNC.shape[1]], strided_mask(mask_BN, 2)

    def _thin(self, mask_BN: Tensor) -> Tensor:
        """Leave frames out at random (Perceiver AR, Hawthorne et al. 2022, sec. 3.2), never all of a clip's."""
        kept_BN = mask_BN & (torch.rand(mask_BN.shape, device=mask_BN.device) >= self.config.token_dropout)
        return torch.where(kept_BN.any(1, keepdim=True), kept_BN, mask_BN)

    def frame_mask(self, mask_BN: Tensor) -> Tensor:
        return strided_mask(mask_BN, 2)


@dataclass(frozen=True)
class PostNormTextConfig:
    """The post-norm text tower of the first CLARA."""

    vocab_size: int = 50373
    """The tokenizer's."""
    context_length: int = 4096
    """Most tokens; at least the tokenizer's context."""
    token_width: int = 512
    """Width of the transformer's layers."""
    layers: int = 5
    """Number of transformer layers."""
    heads: int = 4
    """Attention heads."""
    hidden: int = 1024
    """Width of the MLPs."""
    state_width: int = 512
    """Width of what is pooled."""
    width: int = 512
    """Width of the vector."""
    dropout: float = 0.5
    """0 to 1."""


@TEXT_TOWERS.register("postnorm_text", PostNormTextConfig)
class PostNormText(TextTower):
    """ids_BL, mask_BL -> t_BW: mean and maximum over the real tokens, added."""

    def __init__(self, config: PostNormTextConfig) -> None:
        super().__init__()
        c = config
        if c.token_width % c.heads:
            raise ClaraError(f"text width {c.token_width} is not a multiple of heads {c.heads}.")
        self.width, self.context_length = c.width, c.context_length
        self.tokens = nn.Embedding(c.vocab_size, c.token_width)
        self.positions = nn.Embedding(c.context_length, c.token_width)
        layer = nn.TransformerEncoderLayer(c.token_width, c.heads, c.hidden, c.dropout, batch_first=True)
        norm = nn.LayerNorm(c.token_width)
        self.encoder = nn.TransformerEncoder(layer, c.layers, norm, enable_nested_tensor=False)
        self.project = nn.Linear(c.token_width, c.state_width)
        self.norm1, self.norm2 = nn.LayerNorm(c.state_width), nn.LayerNorm(c.state_width)
        self.out = nn.Linear(c.state_width, c.width)

    def forward(self, ids_BL: Tensor, mask_BL: Tensor, pool: bool = True) -> Tensor:
        """t_BW. With `pool=False` t_BLW: what a text of that token's state alone would give. ClaraError when L exceeds
        the positions."""
        if ids_BL.shape[1] > self.context_length:
            raise ClaraError(f"{ids_BL.shape[1]} tokens, the text tower holds {self.context_length}: truncate them.")
        x_BLC = self.tokens(ids_BL) + self.positions.weight[: ids_BL.shape[1]]
        x_BLC = self.encoder(x_BLC, src_key_padding_mask=~mask_BL)
        x_BLC = self.norm2(self.norm1(self.project(x_BLC)))
        if not pool:
            return leaky_relu(self.out(2 * x_BLC))
        most_BC = x_BLC.masked_fill(~mask_BL[..., None], -torch.inf).amax(1)
        return leaky_relu(self.out(masked_mean(x_BLC, mask_BL) + most_BC))


def _block_rules(attention: str, mlp: str, target: str) -> tuple[Rule, ...]:
    """Of a pair of the original's pre-norm layers; `target` may use the groups of both patterns."""
    names = {
        rf"{attention}\.fn\.to_q": "attention.query",
        rf"{attention}\.fn\.to_kv": "attention.key_value",
        rf"{attention}\.fn\.to_out": "attention.out",
        rf"{attention}\.norm": "norm",
        rf"{attention}\.norm_context": "context_norm",
        rf"{mlp}\.norm": "mlp_norm",
        rf"{mlp}\.fn\.net\.0": "up",
        rf"{mlp}\.fn\.net\.2": "down",
    }
    return tuple(Rename(rf"{a}\.(?P<end>\w+)", rf"{target}.{b}.\g<end>") for a, b in names.items())


def _plain_rules(names: dict[str, str]) -> tuple[Rule, ...]:
    return tuple(Rename(rf"{a}\.(?P<end>\w+)", rf"{b}.\g<end>") for a, b in names.items())


# knoriy/CLARA, clara/clara.py at faec8a5: the class CLARA, without the `model.` that its Lightning module puts before
CLARA_RULES: tuple[Rule, ...] = (
    *_plain_rules(
        {
            "conv1": "audio.conv1",
            "conv2": "audio.conv2",
            "audio_positional_embedding": "audio.positions",
            "audio_layer_norm": "audio.norm",
            "audio_fc1": "audio.out",
            r"audio_transform\.sequential\.0": "audio_head",
            "text_embedding": "text.tokens",
            "text_positional_embedding": "text.positions",
            r"text_encoder\.transformer_encoder\.project": "text.project",
            r"text_encoder\.ln": "text.norm1",
            "text_layer_norm": "text.norm2",
            "text_fc1": "text.out",
            r"text_transform\.sequential\.0": "text_head",
        }
    ),
    Rename(r"audio_encoder\.latents", "audio.latents"),
    *_block_rules(r"audio_encoder\.cross_attend_blocks\.0", r"audio_encoder\.cross_attend_blocks\.1", "audio.cross"),
    *_block_rules(
        r"audio_encoder\.layers\.(?P<i>\d+)\.0", r"audio_encoder\.layers\.(?P<i>\d+)\.1", r"audio.layers.\g<i>"
    ),
    # torch's own TransformerEncoder there and here
    Rename(r"text_encoder\.transformer_encoder\.transformer_encoder\.(.+)", r"text.encoder.\1"),
    Rename("audio_tempeture", "log_scale"),
    Drop("text_tempeture", "one temperature is kept, of audio against texts; cosines know none"),
)
