"""Text encoders of transformers by way of open_clip's HFTextEncoder: XLM-R, multilingual e5, LaBSE, mT5 …"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Any

from open_clip.hf_configs import arch_dict
from open_clip.hf_model import HFTextEncoder
from torch import Tensor

from clara.config import Spec
from clara.errors import ClaraError, unknown
from clara.towers.base import TEXT_TOWERS, TextTower
from clara.towers.hf_audio import inline, load_config, load_weights

POOLERS = {"mean": "mean_pooler", "cls": "cls_last_hidden_state_pooler", "pooler": "cls_pooler"}


@dataclass(frozen=True)
class HFTextConfig:
    """Exactly one of `name`, a hub id or local folder whose weights are the start, and `config`, the fields of a
    transformers config with its `model_type`, for random weights. `pooling`: 'mean' (e5), 'cls' (first token) or
    'pooler' (first token through the model's own dense layer: LaBSE). The tokenizer must be the model's own ('hf')."""

    name: str | None = None
    config: dict[str, Any] | None = None
    pooling: str = "mean"


@TEXT_TOWERS.register("hf_text", HFTextConfig)
class HFTextTower(TextTower):
    """ids_BL, mask_BL -> t_BW, W the encoder's own width."""

    def __init__(self, config: HFTextConfig) -> None:
        super().__init__()
        if config.pooling not in POOLERS:
            raise unknown("pooling", config.pooling, POOLERS)
        self.hf_config, self.pooling = load_config(config.name, config.config, "hf_text"), config.pooling
        if self.hf_config.model_type not in arch_dict:
            raise unknown("text encoder family", self.hf_config.model_type, arch_dict)
        self.width = getattr(self.hf_config, arch_dict[self.hf_config.model_type]["config_names"]["width"])
        with tempfile.TemporaryDirectory() as folder:  # HFTextEncoder leaves the unused pooler out only by this way
            self.hf_config.save_pretrained(folder)
            self.encoder = HFTextEncoder(folder, self.width, pooler_type=POOLERS[config.pooling], pretrained=False)
        if config.name is not None:
            self._start_from(config.name)

    def _start_from(self, name: str) -> None:
        if self.hf_config.is_encoder_decoder:
            model = load_weights(name, self.hf_config).get_encoder()
        else:
            model = load_weights(name, self.hf_config, add_pooling_layer=self.pooling == "pooler")
        self.encoder.transformer = model

    def forward(self, ids_BL: Tensor, mask_BL: Tensor, pool: bool = True) -> Tensor:
        """t_BW, or t_BLW with `pool=False`. ClaraError when L exceeds the positions."""
        longest = self.encoder.context_length
        if longest and ids_BL.shape[1] > longest:
            raise ClaraError(f"{ids_BL.shape[1]} tokens, the text tower holds {longest}: truncate them.")
        attend_BL = mask_BL.long()
        out = self.encoder.transformer(input_ids=ids_BL, attention_mask=attend_BL)
        return self.encoder.pooler(out, attend_BL) if pool else out.last_hidden_state

    def resolved(self, spec: Spec) -> Spec:
        return Spec(spec.kind, {"config": inline(self.hf_config), "pooling": self.pooling})
