"""DualEncoder: front-end, two towers, two heads, a temperature. One page.

    wave_BT, len_B -> front_end -> x_BNF, mask_BN -> audio tower -> a_BW -> audio_head -> L2 -> audio_BD
    ids_BL, mask_BL                               -> text tower  -> t_BW -> text_head  -> L2 -> text_BD

B batch, T samples, N frames, F bins, L tokens, W tower width, D shared dimension.
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

import clara.audio.clap_mel  # noqa: F401  (registers its front-end)
from clara.audio.features import FRONT_ENDS
from clara.config import ModelConfig
from clara.errors import ClaraError
from clara.heads import HEADS
from clara.towers.base import AUDIO_TOWERS, TEXT_TOWERS


class DualEncoder(nn.Module):
    """CLIP-style audio–text dual encoder (Radford et al. 2021; for audio Wu et al. 2023, CLARA 2023)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.front_end = FRONT_ENDS.create(config.front_end)
        self.audio = AUDIO_TOWERS.create(config.audio)
        self.text = TEXT_TOWERS.create(config.text)
        # what a checkpoint stores: foreign configs written out, so that loading it reads nothing else
        audio, text = self.audio.resolved(config.audio), self.text.resolved(config.text)
        self.config = dataclasses.replace(config, audio=audio, text=text)
        self.audio_head = HEADS.create(config.audio_head, self.audio.width, config.embed_dim)
        self.text_head = HEADS.create(config.text_head, self.text.width, config.embed_dim)
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.init_scale)))
        self.bias = None if config.init_bias is None else nn.Parameter(torch.tensor(config.init_bias))

    def encode_audio(self, wave_BT: Tensor, len_B: Tensor | None = None, normalized: bool = True) -> Tensor:
        """Embed mono waves at `front_end.sample_rate`, float in [-1, 1], of `len_B` samples each -> (B, D) float32.
        ClaraError for a wave without its batch axis."""
        return self._audio_embedding(self.audio(*self._features(wave_BT, len_B)), normalized)

    def encode_frames(self, wave_BT: Tensor, len_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The audio tower's frames before pooling, (B, N, W), and which of them are real, (B, N): `pool_frames` makes
        embeddings of them, of all or of a part. ClaraError as `encode_audio`."""
        x_BNF, mask_BN = self._features(wave_BT, len_B)
        return self.audio(x_BNF, mask_BN, pool=False), self.audio.frame_mask(mask_BN)

    def pool_frames(self, frames_BNW: Tensor, mask_BN: Tensor, normalized: bool = True) -> Tensor:
        """Embed the frames that the mask leaves -> (B, D) float32; of all real ones, what `encode_audio` gives.
        ClaraError for a tower that makes its vector of more than frames (`AudioTower.pooled`)."""
        return self._audio_embedding(self.audio.pooled(frames_BNW, mask_BN), normalized)

    def _features(self, wave_BT: Tensor, len_B: Tensor | None) -> tuple[Tensor, Tensor]:
        if wave_BT.ndim != 2:
            raise ClaraError(f"Waves of shape {tuple(wave_BT.shape)}: expected (B, T); of one clip, wave_T[None].")
        if len_B is None:
            len_B = torch.full((wave_BT.shape[0],), wave_BT.shape[1], device=wave_BT.device)
        x_BNF, mask_BN = self.front_end(wave_BT, len_B)  # in float32; a model made .half() goes on in its own type
        return x_BNF.to(self.log_scale.dtype), mask_BN

    def encode_states(self, states_BNKW: Tensor, mask_BN: Tensor, normalized: bool = True) -> Tensor:
        """Embed what `audio.states` gave, as `encode_audio` would the clips -> (B, D) float32. ClaraError for an audio
        tower without stored states."""
        a_BW = self.audio.from_states(states_BNKW.to(self.log_scale.dtype), mask_BN)
        return self._audio_embedding(a_BW, normalized)

    def _audio_embedding(self, a_BW: Tensor, normalized: bool) -> Tensor:
        embedding_BD = self.audio_head(a_BW).float()
        return normalize(embedding_BD, dim=-1) if normalized else embedding_BD

    def encode_text(self, ids_BL: Tensor, mask_BL: Tensor, normalized: bool = True) -> Tensor:
        """Embed token ids (True in the mask = real token) as the tokenizer gives them -> (B, D) float32."""
        embedding_BD = self.text_head(self.text(ids_BL, mask_BL)).float()
        return normalize(embedding_BD, dim=-1) if normalized else embedding_BD

    @property
    def scale(self) -> Tensor:
        """The inverse temperature: similarities are multiplied by it; kept at or below 100 as in CLIP."""
        return self.log_scale.clamp(max=math.log(100.0)).exp()
