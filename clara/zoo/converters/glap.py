"""GLAP (Dinkel et al. 2025, arXiv 2506.11350; `pip install glap_model`): Dasheng and SONAR's text encoder.

SONAR is NLLB's encoder; it is transformers' M2M-100 here, whose first four tokens stand in another order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clara.audio.features import LogMelConfig
from clara.config import ModelConfig, Spec, to_dict
from clara.errors import ClaraError
from clara.text.tokenizer import NLLBConfig, NLLBTokenizer
from clara.towers.dasheng import DASHENG_RULES, DashengConfig
from clara.towers.remap import Rename, Rule, prefixed, remap
from clara.zoo.convert import Foreign, converter
from clara.zoo.unpickle import load_tensors

TOKENIZER_AT = "https://dl.fbaipublicfiles.com/SONAR/sentencepiece.source.256000.model"
CHUNKS = (
    6  # of ten seconds, read at once and averaged as GLAP does; of what is longer, windows of a minute are averaged
)
HEAD_WIDTH = 64  # of Dasheng-base's and of SONAR's heads; tensors do not tell it
SONAR = "text.encoder.transformer."
PATCHES, POSITIONS, ROW, WORDS = "audio.embed.weight", "audio.positions", "audio.row", f"{SONAR}embed_tokens.weight"
FIRST_TOKENS = (2, 0, 3, 1)  # <s> <pad> </s> <unk>; SONAR has <pad> <unk> <s> </s>

_LAYER = r"encoder\.layers\.(\d+)\."
SONAR_RULES: tuple[Rule, ...] = (
    Rename(r"encoder_frontend\.embed\.weight", r"embed_tokens.weight"),
    Rename(_LAYER + r"self_attn\.([qkv]_proj\.\w+)", r"layers.\1.self_attn.\2"),
    Rename(_LAYER + r"self_attn\.output_proj\.(\w+)", r"layers.\1.self_attn.out_proj.\2"),
    Rename(_LAYER + r"self_attn_layer_norm\.(\w+)", r"layers.\1.self_attn_layer_norm.\2"),
    Rename(_LAYER + r"ffn\.inner_proj\.(\w+)", r"layers.\1.fc1.\2"),
    Rename(_LAYER + r"ffn\.output_proj\.(\w+)", r"layers.\1.fc2.\2"),
    Rename(_LAYER + r"ffn_layer_norm\.(\w+)", r"layers.\1.final_layer_norm.\2"),
    Rename(r"layer_norm\.(\w+)", r"layer_norm.\1"),
)
GLAP_RULES: tuple[Rule, ...] = (
    *prefixed(DASHENG_RULES, r"audio_encoder\.model\.", "audio."),
    *prefixed(SONAR_RULES, r"text_encoder\.model\.", SONAR),
    Rename(r"(audio|text)_proj\.([02])\.(\w+)", r"\1_head.\2.\3"),
)


@converter("glap", "Apache-2.0")
def convert_glap(path: Path, tokenizer: str | None) -> Foreign:
    """`glap_checkpoint.pt`, or a folder that holds it. `tokenizer`: SONAR's sentencepiece .model, by default the one
    .model beside the checkpoint.

    Raises:
        ClaraError: no such checkpoint, no tokenizer, or one of another size.
    """
    weights = path / "glap_checkpoint.pt" if path.is_dir() else path
    tensors = remap(load_tensors(weights, "model"), GLAP_RULES, str(weights))
    missing = [n for n in (PATCHES, POSITIONS, ROW, WORDS, "audio_head.0.bias", "text_head.0.bias") if n not in tensors]
    if missing:
        raise ClaraError(f"{weights} lacks what becomes {', '.join(missing)}: it is not a complete checkpoint of GLAP.")
    pieces = _tokenizer(weights.parent, tokenizer)
    if pieces.vocab_size != len(tensors[WORDS]):
        raise ClaraError(
            f"{pieces.files[0]} has {pieces.vocab_size} tokens, {weights} {len(tensors[WORDS])}: take {TOKENIZER_AT}."
        )
    config = _config(tensors, Spec("nllb", {**to_dict(NLLBConfig()), "file": pieces.files[0].name}))
    tensors |= {
        PATCHES: tensors[PATCHES].flatten(1),
        POSITIONS: tensors[POSITIONS][0, :, 0].T.contiguous(),
        ROW: tensors[ROW].flatten(),
        WORDS: torch.cat([tensors[WORDS][list(FIRST_TOKENS)], tensors[WORDS][len(FIRST_TOKENS) :]]),
        "log_scale": torch.tensor(math.log(100.0)),  # GLAP.score multiplies by 100
    }
    return Foreign(config, tensors, pieces, weights)


def _config(tensors: Mapping[str, Tensor], tokenizer: Spec) -> ModelConfig:
    width, _, bins, patch = tensors[PATCHES].shape
    audio = DashengConfig(
        bins=bins,
        patch=patch,
        chunk=patch * tensors[POSITIONS].shape[3],
        width=width,
        layers=_layers(tensors, "audio.blocks."),
        heads=width // HEAD_WIDTH,
        mlp_ratio=_rows(tensors, "audio.blocks.0.mlp.fc1.weight") / width,
    )
    hop, rate = 160, 16000
    front_end = LogMelConfig(
        sample_rate=rate,
        window_seconds=(CHUNKS * audio.chunk - 1) * hop / rate,  # a frame more would begin a chunk of nothing
        n_fft=512,
        win_length=512,
        hop_length=hop,
        n_mels=bins,
        f_min=0.0,
        f_max=8000.0,
        normalize="fixed",
        floor_db=120.0,
        min_frames=patch,
        pad_mode="reflect",
    )
    return ModelConfig(
        embed_dim=_rows(tensors, "audio_head.2.weight"),
        front_end=Spec("log_mel", to_dict(front_end)),
        audio=Spec("dasheng", to_dict(audio)),
        text=Spec("hf_text", {"config": _sonar(tensors), "pooling": "mean"}),
        tokenizer=tokenizer,
        audio_head=Spec("mlp", {"hidden": _rows(tensors, "audio_head.0.bias")}),
        text_head=Spec("mlp", {"hidden": _rows(tensors, "text_head.0.bias")}),
        init_scale=100.0,
    )


def _sonar(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """transformers' M2M-100, which is an encoder and a decoder; the decoder is as small as can be and is left out."""
    tokens, width = tensors[WORDS].shape
    return {
        "model_type": "m2m_100",
        "vocab_size": tokens,
        "d_model": width,
        "encoder_layers": _layers(tensors, f"{SONAR}layers."),
        "encoder_attention_heads": width // HEAD_WIDTH,
        "encoder_ffn_dim": _rows(tensors, f"{SONAR}layers.0.fc1.weight"),
        "encoder_layerdrop": 0.0,
        "decoder_layers": 1,
        "decoder_ffn_dim": 1,
        "decoder_attention_heads": 1,
        "max_position_embeddings": NLLBConfig().context_length,
        "activation_function": "relu",
        "scale_embedding": True,
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
    }


def _rows(tensors: Mapping[str, Tensor], name: str) -> int:
    if name not in tensors:
        raise ClaraError(f"The checkpoint lacks what becomes {name}: it is not a complete checkpoint of GLAP.")
    return tensors[name].shape[0]


def _layers(tensors: Mapping[str, Tensor], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)})


def _tokenizer(folder: Path, tokenizer: str | None) -> NLLBTokenizer:
    found = [Path(tokenizer)] if tokenizer is not None else sorted(folder.glob("*.model"))
    if len(found) != 1 or not found[0].is_file():
        where = tokenizer or f"{len(found)} .model files in {folder}"
        raise ClaraError(f"GLAP needs SONAR's sentencepiece model ({where}): get {TOKENIZER_AT} and name it.")
    return NLLBTokenizer(NLLBConfig(file=found[0].name), found[0].parent)
