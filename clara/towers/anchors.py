"""A text side with one free vector per fact: what an audio tower learns from before it meets the words of 50 languages.

The embeddings of a young text tower are crowded (dog and rain at a cosine of 0.6) and hold the audio back; free vectors
start orthogonal and move. `clara train` with `anchors` trains audio against them, `clara align` draws texts onto them.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from clara.errors import ClaraError
from clara.layers import masked_mean
from clara.towers.base import TEXT_TOWERS, TextTower


@dataclass(frozen=True)
class AnchorsConfig:
    """One learned vector per fact."""

    vocab_size: int
    """Number of facts: the 'facts' tokenizer's."""
    width: int = 256
    """Of the vectors: the model's `embed_dim`."""
    context_length: int = 64
    """Most facts of a text."""


@TEXT_TOWERS.register("anchors", AnchorsConfig)
class Anchors(TextTower):
    """ids_BL (facts), mask_BL -> t_BW: the mean of their unit vectors, so that two sounds lie between both."""

    def __init__(self, config: AnchorsConfig) -> None:
        super().__init__()
        self.width, self.context_length = config.width, config.context_length
        self.vectors = nn.Embedding(config.vocab_size, config.width)

    def forward(self, ids_BL: Tensor, mask_BL: Tensor, pool: bool = True) -> Tensor:
        """t_BW, or t_BLW with `pool=False`. ClaraError when L exceeds `context_length`."""
        if ids_BL.shape[1] > self.context_length:
            raise ClaraError(f"{ids_BL.shape[1]} tokens, that is facts in one text; expected {self.context_length}.")
        t_BLW = nn.functional.normalize(self.vectors(ids_BL).float(), dim=-1)
        return masked_mean(t_BLW, mask_BL) if pool else t_BLW
