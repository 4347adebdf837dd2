"""Text encoders of transformers: BERT, RoBERTa, XLM-R, multilingual e5, LaBSE, mT5, M2M-100, GPT-2 …"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import ModelOutput

from clara.config import Spec
from clara.errors import ClaraError, unknown
from clara.layers import masked_mean
from clara.towers.base import TEXT_TOWERS, TextTower
from clara.towers.hf_audio import inline, kept_layers, load_config, load_weights
from clara.towers.remap import Drop, Rename, Rule

WITHOUT_POOLER = ("gpt2", "m2m_100", "mt5")  # their models know no `add_pooling_layer`
FAMILIES = ("roberta", "xlm-roberta", "mt5", "bert", "m2m_100", "gpt2")


def _last(out: ModelOutput, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
    position_B = ((ids_BL != 0) & mask_BL).sum(1).sub(1).clamp_min(0)
    return out.last_hidden_state[torch.arange(len(position_B), device=position_B.device), position_B]


POOLERS = {
    "mean": lambda out, ids_BL, mask_BL: masked_mean(out.last_hidden_state, mask_BL),
    "cls": lambda out, ids_BL, mask_BL: out.last_hidden_state[:, 0],
    "pooler": lambda out, ids_BL, mask_BL: out.pooler_output,
    "last": _last,
}


@dataclass(frozen=True)
class HFTextConfig:
    """A text encoder of transformers, read by its own tokenizer ('hf'). Exactly one of `name` and `config` is given."""

    name: str | None = None
    """Hub id or local folder whose weights are the start."""
    config: dict[str, Any] | None = None
    """Fields of a transformers config with its `model_type`, for random weights."""
    pooling: str = "mean"
    """'mean' (e5), 'cls' (first token), 'pooler' (that through a dense layer) or 'last' (GPT-2 of Microsoft's CLAP)."""
    layers: int | None = None
    """Keep the first n layers; a family's final layer norm stays; null = all."""
    mix: tuple[int, ...] = ()
    """Layers whose means are concatenated, 0 = embeddings: early ones keep the words of little-known languages."""


@TEXT_TOWERS.register("hf_text", HFTextConfig)
class HFTextTower(TextTower):
    """ids_BL, mask_BL -> t_BW, W the encoder's own width, times the layers that are mixed."""

    def __init__(self, config: HFTextConfig) -> None:
        super().__init__()
        if config.pooling not in POOLERS:
            raise unknown("pooling", config.pooling, POOLERS)
        self.hf_config, self.pooling = load_config(config.name, config.config, "hf_text"), config.pooling
        family = self.hf_config.model_type
        if family not in FAMILIES:
            raise unknown("text encoder family", family, FAMILIES)
        if config.pooling == "pooler" and family in WITHOUT_POOLER:
            raise ClaraError(f"{family} has no pooler: pooling 'mean', 'cls' or 'last'.")
        options = {} if family in WITHOUT_POOLER else {"add_pooling_layer": config.pooling == "pooler"}
        self.hf_config.num_hidden_layers = kept_layers(config.layers, self.hf_config, "hf_text")
        model = load_weights(config.name, self.hf_config, **options)
        model = model.get_encoder() if self.hf_config.is_encoder_decoder else model
        self.encoder = nn.ModuleDict({"transformer": model})
        self.mix = self._checked(config.mix)
        self.width = self.hf_config.hidden_size * max(1, len(self.mix))

    def _checked(self, mix: tuple[int, ...]) -> tuple[int, ...]:
        last = self.hf_config.num_hidden_layers
        if mix and self.pooling != "mean":
            raise ClaraError(
                f"hf_text: mix takes the mean of each layer, so pooling must be 'mean', not {self.pooling!r}."
            )
        if any(not 0 <= layer <= last for layer in mix) or sorted(set(mix)) != list(mix):
            raise ClaraError(f"hf_text: mix={list(mix)}: expected rising numbers of layers, 0 to {last}.")
        return mix

    def forward(self, ids_BL: Tensor, mask_BL: Tensor, pool: bool = True) -> Tensor:
        """t_BW, or t_BLW with `pool=False`. ClaraError when L exceeds the positions."""
        longest = getattr(self.hf_config, "max_position_embeddings", 0)
        if longest and ids_BL.shape[1] > longest:
            raise ClaraError(f"{ids_BL.shape[1]} tokens, the text tower holds {longest}: truncate them.")
        mixed = pool and bool(self.mix)
        out = self.encoder["transformer"](input_ids=ids_BL, attention_mask=mask_BL.long(), output_hidden_states=mixed)
        if mixed:
            return torch.cat([masked_mean(out.hidden_states[layer], mask_BL) for layer in self.mix], 1)
        return POOLERS[self.pooling](out, ids_BL, mask_BL) if pool else out.last_hidden_state

    def resolved(self, spec: Spec) -> Spec:
        options = {"config": inline(self.hf_config), "pooling": self.pooling}
        return Spec(spec.kind, options | ({"mix": list(self.mix)} if self.mix else {}))


# RoBERTa and BERT as their own projects name them -> `HFTextTower`
BERT_RULES: tuple[Rule, ...] = (
    Rename(r"(embeddings\.(?:word|position|token_type)_embeddings\.weight)", r"encoder.transformer.\1"),
    Rename(r"(embeddings\.LayerNorm\.(?:weight|bias))", r"encoder.transformer.\1"),
    Rename(r"(encoder\.layer\.\d+\..+\.(?:weight|bias))", r"encoder.transformer.\1"),
    Rename(r"(pooler\.dense\.(?:weight|bias))", r"encoder.transformer.\1"),
    Drop(r"embeddings\.(position_ids|token_type_ids)", "counted anew"),
)
# GPT-2 as transformers names it, older files with their masks -> `HFTextTower`
GPT2_RULES: tuple[Rule, ...] = (
    Rename(r"(wte\.weight|wpe\.weight|ln_f\.(?:weight|bias))", r"encoder.transformer.\1"),
    Drop(r"h\.\d+\.attn\.(bias|masked_bias)", "the causal mask, computed"),
    Rename(r"(h\.\d+\..+\.(?:weight|bias))", r"encoder.transformer.\1"),
)
_BERT_FIELDS = """vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size hidden_act
hidden_dropout_prob attention_probs_dropout_prob max_position_embeddings type_vocab_size layer_norm_eps pad_token_id"""


def bert_spec(model_type: str, fields: dict[str, Any], pooling: str = "pooler") -> Spec:
    """The `hf_text` tower of a 'bert' or 'roberta' whose config, under transformers' names, stands in `fields`."""
    kept = {name: fields[name] for name in _BERT_FIELDS.split() if name in fields}
    return Spec("hf_text", {"config": {"model_type": model_type, **kept}, "pooling": pooling})
