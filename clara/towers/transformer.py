"""Our multilingual text tower: open_clip's `Transformer` blocks without a causal mask, padding masked, mean-pooled."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clara.deferred import defer
from clara.errors import ClaraError
from clara.layers import masked_mean
from clara.towers.base import TEXT_TOWERS, TextTower

defer("open_clip")
from open_clip.transformer import Transformer  # noqa: E402  (after `defer`)


@dataclass(frozen=True)
class TransformerConfig:
    """Our multilingual text tower."""

    vocab_size: int
    """The tokenizer's."""
    context_length: int = 64
    """Most tokens; at least the tokenizer's context."""
    width: int = 256
    """Of the tokens and the pooled vector."""
    layers: int = 4
    """Number of transformer blocks."""
    heads: int = 4
    """Attention heads; divides `width`."""
    mlp_ratio: float = 4.0
    """Width of the MLP over `width`."""
    dropout: float = 0.0
    """Of the embedded tokens, 0 to 1."""


@TEXT_TOWERS.register("transformer", TransformerConfig)
class TransformerText(TextTower):
    """ids_BL, mask_BL -> t_BW: mean of the final states of the real tokens."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        if config.width % config.heads:
            raise ClaraError(f"text width {config.width} is not a multiple of heads {config.heads}.")
        self.width, self.heads, self.context_length = config.width, config.heads, config.context_length
        self.tokens = nn.Embedding(config.vocab_size, config.width)
        self.positions = nn.Parameter(torch.empty(config.context_length, config.width))
        self.drop = nn.Dropout(config.dropout)
        self.blocks = Transformer(config.width, config.layers, config.heads, mlp_ratio=config.mlp_ratio)
        self.norm = nn.LayerNorm(config.width)
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.01)
        scale = config.width**-0.5
        for block in self.blocks.resblocks:  # open_clip's text initialisation (transformer.py, init_parameters)
            nn.init.normal_(block.attn.in_proj_weight, std=scale)
            nn.init.normal_(block.attn.out_proj.weight, std=scale * (2 * config.layers) ** -0.5)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * config.width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=scale * (2 * config.layers) ** -0.5)

    def forward(self, ids_BL: Tensor, mask_BL: Tensor, pool: bool = True) -> Tensor:
        """t_BW, or t_BLW with `pool=False`. ClaraError when L exceeds the positions."""
        if ids_BL.shape[1] > self.context_length:
            raise ClaraError(f"{ids_BL.shape[1]} tokens, the text tower holds {self.context_length}: truncate them.")
        x_BLW = self.drop(self.tokens(ids_BL) + self.positions[: ids_BL.shape[1]])
        blocked_BLL = torch.zeros(mask_BL.shape, device=x_BLW.device).masked_fill(~mask_BL, -torch.inf)
        blocked = blocked_BLL[:, None, None].expand(-1, self.heads, ids_BL.shape[1], -1).flatten(0, 1)
        x_BLW = self.norm(self.blocks(x_BLW, attn_mask=blocked))
        return masked_mean(x_BLW, mask_BL) if pool else x_BLW
