"""transformers' ClapModel: a folder written by `ClapModel.save_pretrained` and `ClapProcessor.save_pretrained`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoConfig, ClapFeatureExtractor

from clara.config import ModelConfig, Spec
from clara.errors import ClaraError
from clara.hub import said
from clara.parsing import parse_json
from clara.text.tokenizer import build_tokenizer
from clara.towers.hf_audio import CONFIG_ERRORS
from clara.towers.hf_text import BERT_RULES, bert_spec
from clara.towers.htsat import TRANSFORMERS_RULES
from clara.towers.remap import Drop, Rename, prefixed, remap
from clara.zoo.convert import Foreign, converter
from clara.zoo.unpickle import load_tensors

WEIGHTS = tuple(f"{name}{end}" for name in ("model.safetensors", "pytorch_model.bin") for end in ("", ".index.json"))
RULES = (
    *prefixed(TRANSFORMERS_RULES, r"audio_model\.audio_encoder\.", "audio."),
    *prefixed(BERT_RULES, r"text_model\.", "text."),
    Rename(r"(audio|text)_projection\.linear1\.(weight|bias)", r"\1_head.0.\2"),
    Rename(r"(audio|text)_projection\.linear2\.(weight|bias)", r"\1_head.2.\2"),
    Rename(r"logit_scale_a", "log_scale"),
    Drop(r"logit_scale_t", "one temperature is kept, that of audio to text; embeddings depend on neither"),
)


def is_clap(folder: Path) -> bool:
    """Whether the folder's config.json is of model_type 'clap'."""
    try:
        config = parse_json((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no such file, or none that transformers wrote
        return False
    return isinstance(config, dict) and config.get("model_type") == "clap"


@converter("transformers", licence="Apache-2.0", detect=is_clap)
def convert(path: Path, tokenizer: str | None = None) -> Foreign:
    """Read a ClapModel folder; its feature extractor and tokenizer lie beside it.

    Raises:
        ClaraError: no such folder, one of its parts is missing, a variant that has no counterpart, or odd tensors.
    """
    if not is_clap(path):
        raise ClaraError(f"{path} is not a folder of a ClapModel: expected a config.json of model_type 'clap'.")
    weights = next((path / name for name in WEIGHTS if (path / name).is_file()), None)
    if weights is None:
        raise ClaraError(f"{path} lacks its weights: expected {' or '.join(WEIGHTS)}.")
    try:
        config = model_config(AutoConfig.from_pretrained(path), _extractor(path), tokenizer or str(path))
    except ClaraError:
        raise
    except (*CONFIG_ERRORS, ZeroDivisionError) as e:
        raise ClaraError(f"{path} has configs that do not describe a ClapModel ({said(e)}): copy them again.") from e
    tensors = remap(load_tensors(weights), RULES, str(weights))
    return Foreign(config, tensors, build_tokenizer(config.tokenizer, path), weights)


def _extractor(path: Path) -> ClapFeatureExtractor:
    try:
        return ClapFeatureExtractor.from_pretrained(path)
    except (OSError, ValueError) as e:
        raise ClaraError(
            f"{path} lacks its feature extractor (preprocessor_config.json or processor_config.json): save its "
            f"ClapProcessor there too ({e})."
        ) from e


def model_config(clap: Any, extractor: Any, tokenizer: str) -> ModelConfig:
    """Our config of a ClapConfig and its ClapFeatureExtractor; `tokenizer` is a folder or hub id."""
    audio, text = clap.audio_config, clap.text_config
    frames = extractor.nb_max_samples // extractor.hop_length + 1
    return ModelConfig(
        embed_dim=clap.projection_dim,
        front_end=_front_end(audio, extractor),
        audio=_htsat(audio, frames),
        text=bert_spec("roberta", text.to_dict()),
        tokenizer=Spec("hf", {"name": tokenizer, "context_length": text.max_position_embeddings - 2}),
        audio_head=Spec("mlp", {"activation": audio.projection_hidden_act}),
        text_head=Spec("mlp", {"activation": text.projection_hidden_act}),
        init_scale=float(clap.logit_scale_init_value),
    )


def _front_end(audio: Any, extractor: Any) -> Spec:
    fused = extractor.truncation == "fusion"
    if fused and not audio.enable_fusion:
        raise ClaraError("The feature extractor's truncation is 'fusion', and the model has no fusion: they differ.")
    if extractor.padding_value != 0.0:
        raise ClaraError(f"The feature extractor pads with {extractor.padding_value}: expected 0.")
    options = {
        "sample_rate": extractor.sampling_rate,
        "window_seconds": float(extractor.max_length_s),
        "n_fft": extractor.fft_window_size,
        "hop_length": extractor.hop_length,
        "n_mels": extractor.feature_size,
        "f_min": float(extractor.frequency_min),
        "f_max": float(extractor.frequency_max),
        "bank": "htk" if fused else "slaney",
        "fill": extractor.padding,
        "fusion": fused,
    }
    return Spec("clap_mel", options)


def _htsat(audio: Any, frames: int) -> Spec:
    pair = lambda n: (n, n) if isinstance(n, int) else tuple(n)  # noqa: E731
    wanted = {
        "hidden_act": "gelu",
        "patch_embed_input_channels": 1,
        "flatten_patch_embeds": True,
        "enable_patch_layer_norm": True,
        "hidden_size": audio.patch_embeds_hidden_size * 2 ** (len(audio.depths) - 1),
    }
    odd = {k: getattr(audio, k) for k, v in wanted.items() if getattr(audio, k) != v}
    if len({*pair(audio.patch_size), *pair(audio.patch_stride)}) != 1:
        odd["patch_size, patch_stride"] = audio.patch_size, audio.patch_stride
    if audio.enable_fusion and audio.fusion_type == "channel_map":
        odd["fusion_type"] = audio.fusion_type
    if odd:
        raise ClaraError(f"An audio_config that no released ClapModel has, and the htsat tower does not know: {odd}.")
    options = {
        "bins": audio.num_mel_bins,
        "window_frames": frames,
        "image": audio.spec_size,
        "patch": pair(audio.patch_size)[0],
        "width": audio.patch_embeds_hidden_size,
        "depths": list(audio.depths),
        "heads": list(audio.num_attention_heads),
        "window": audio.window_size,
        "mlp_ratio": float(audio.mlp_ratio),
        "qkv_bias": audio.qkv_bias,
        "norm_eps": audio.layer_norm_eps,
        "fusion": audio.enable_fusion,
        "fusion_reduction": audio.aff_block_r,
        "drop_path": float(audio.drop_path_rate),
    }
    return Spec("htsat", options)
