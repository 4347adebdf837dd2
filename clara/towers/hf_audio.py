"""Audio encoders of transformers: wav2vec 2.0, HuBERT, WavLM (raw samples), Whisper and AST (log-mel frames).

`FAMILIES` says how each takes a padded batch; everything else is common. A clip alone and beside longer ones agree,
also where the original does not see to it (the group norm over time of wav2vec 2.0 base and its kin).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from clara.config import Spec
from clara.errors import ClaraError, unknown
from clara.layers import masked_mean
from clara.text import hub
from clara.towers.base import AUDIO_TOWERS, AudioTower, fit_window, mask_frames, strided_mask
from clara.towers.remap import Drop, Rename


@dataclass(frozen=True)
class HFAudioConfig:
    """Exactly one of `name`, a hub id or local folder whose weights are the start, and `config`, the fields of a
    transformers config with its `model_type`, for random weights.

    Front-ends: 'waveform' for wav2vec 2.0, HuBERT and WavLM. 'log_mel' for Whisper, which expects n_fft and win_length
    400, f_min 0, slaney scale and norm, normalize fixed, mean -40, std 40; and for AST, of as many bins as it says.
    """

    name: str | None = None
    config: dict[str, Any] | None = None


class MaskedGroupNorm(nn.GroupNorm):
    """nn.GroupNorm with a group a channel and statistics of the first `lengths_B` frames alone: padding does not count.

    x_BCN -> the same shape. `lengths_B` (B,), long, is set before each call.
    """

    lengths_B: Tensor

    def forward(self, x_BCN: Tensor) -> Tensor:
        keep = (torch.arange(x_BCN.shape[2], device=x_BCN.device) < self.lengths_B[:, None])[:, None]
        count = self.lengths_B[:, None, None]
        x = x_BCN.float()
        mean = x.masked_fill(~keep, 0.0).sum(2, keepdim=True) / count
        var = (x - mean).masked_fill(~keep, 0.0).square().sum(2, keepdim=True) / count
        x = (x - mean) * (var + self.eps).rsqrt() * self.weight[:, None] + self.bias[:, None]
        return x.to(x_BCN.dtype)


class WaveformFamily(nn.Module):
    """wav2vec 2.0 and its kin: strided convolutions over samples, then a transformer that masks."""

    # masking belongs to augmentation, and a layer left out has no gradient to gather between processes
    SETTINGS: ClassVar = {
        "mask_time_prob": 0.0,
        "mask_feature_prob": 0.0,
        "apply_spec_augment": False,
        "layerdrop": 0.0,
    }

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        c = model.config
        for flag in ("add_adapter", "conv_pos_batch_norm"):
            if c.to_dict().get(flag):
                raise ClaraError(f"{c.model_type} with {flag}=true mixes padding into real frames: not supported.")
        self.model, self.width = model, c.hidden_size
        self.strides = list(zip(c.conv_kernel, c.conv_stride))
        self.receptive = 1
        for kernel, stride in reversed(self.strides):
            self.receptive = (self.receptive - 1) * stride + kernel
        first = model.feature_extractor.conv_layers[0]
        self.group_norm = None
        if c.feat_extract_norm == "group":
            channels = first.layer_norm.num_channels
            norm = MaskedGroupNorm(channels, channels, eps=first.layer_norm.eps)
            norm.load_state_dict(first.layer_norm.state_dict())
            first.layer_norm = norm
            self.group_norm = [norm]  # in a list: it is a child of the model already

    def forward(self, x_BN1: Tensor, mask_BN: Tensor) -> tuple[Tensor, Tensor | None]:
        wave_BN = mask_frames(x_BN1, mask_BN)[..., 0]
        wave_BN = nn.functional.pad(wave_BN, (0, max(0, self.receptive - wave_BN.shape[1])))
        len_B = self._samples(mask_BN)
        if self.group_norm:
            kernel, stride = self.strides[0]
            self.group_norm[0].lengths_B = (len_B - kernel) // stride + 1
        attend_BN = torch.arange(wave_BN.shape[1], device=len_B.device) < len_B[:, None]
        return self.model(wave_BN, attention_mask=attend_BN.long()).last_hidden_state, None

    def frame_mask(self, mask_BN: Tensor) -> Tensor:
        frames, len_B = max(mask_BN.shape[1], self.receptive), self._samples(mask_BN)
        for kernel, stride in self.strides:
            frames, len_B = (frames - kernel) // stride + 1, (len_B - kernel) // stride + 1
        return torch.arange(frames, device=mask_BN.device) < len_B[:, None]

    def _samples(self, mask_BN: Tensor) -> Tensor:
        """Real samples, at least what one frame sees."""
        return mask_BN.sum(1).clamp_min(self.receptive)


class WhisperFamily(nn.Module):
    """Whisper's encoder: it cannot mask, and was trained on clips filled with silence to its window."""

    SETTINGS: ClassVar = {"encoder_layerdrop": 0.0}

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model, self.width = model.get_encoder(), model.config.d_model
        self.window = 2 * model.config.max_source_positions

    def forward(self, x_BNF: Tensor, mask_BN: Tensor) -> tuple[Tensor, Tensor | None]:
        # silence as WhisperFeatureExtractor gives it: 8 decades below the clip's peak, at least 1e-10, then (x + 4) / 4
        peak = x_BNF.masked_fill(~mask_BN[..., None], -torch.inf).amax((1, 2), keepdim=True)
        x_BNF, _ = fit_window(x_BNF, mask_BN, self.window, fill=(peak - 2.0).clamp_min(-1.5))
        return self.model(x_BNF.transpose(1, 2)).last_hidden_state, None

    def frame_mask(self, mask_BN: Tensor) -> Tensor:
        short = max(0, self.window - mask_BN.shape[1])
        return strided_mask(nn.functional.pad(mask_BN, (0, short))[:, : self.window], 2)


class ASTFamily(nn.Module):
    """Audio Spectrogram Transformer (Gong et al. 2021): patches of a fixed window; pooled as it was trained to be, by
    its class and distillation tokens."""

    SETTINGS: ClassVar = {}

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        c = model.config
        self.model, self.width, self.window = model, c.hidden_size, c.max_length
        self.rows = (c.num_mel_bins - c.patch_size) // c.frequency_stride + 1
        self.columns, self.stride = (c.max_length - c.patch_size) // c.time_stride + 1, c.time_stride

    def forward(self, x_BNF: Tensor, mask_BN: Tensor) -> tuple[Tensor, Tensor | None]:
        x_BNF, _ = fit_window(x_BNF, mask_BN, self.window)
        out = self.model(x_BNF)
        patches = out.last_hidden_state[:, 2:].unflatten(1, (self.rows, self.columns))
        return patches.mean(1), out.pooler_output

    def frame_mask(self, mask_BN: Tensor) -> Tensor:
        mask_BN = nn.functional.pad(mask_BN, (0, max(0, self.window - mask_BN.shape[1])))
        return strided_mask(mask_BN, self.stride)[:, : self.columns]


FAMILIES: dict[str, type[WaveformFamily] | type[WhisperFamily] | type[ASTFamily]] = {
    "wav2vec2": WaveformFamily,
    "hubert": WaveformFamily,
    "wavlm": WaveformFamily,
    "whisper": WhisperFamily,
    "audio-spectrogram-transformer": ASTFamily,
}


@AUDIO_TOWERS.register("hf_audio", HFAudioConfig)
class HFAudioTower(AudioTower):
    """x_BNF (F = 1: samples) -> a_BW: mean of the real frames' final states, or the family's own pooling (AST)."""

    def __init__(self, config: HFAudioConfig) -> None:
        super().__init__()
        hf_config = load_config(config.name, config.config, "hf_audio")
        if hf_config.model_type not in FAMILIES:
            raise unknown("audio encoder family", hf_config.model_type, FAMILIES)
        family = FAMILIES[hf_config.model_type]
        for key, value in family.SETTINGS.items():
            setattr(hf_config, key, value)
        self.encoder = family(load_weights(config.name, hf_config))
        self.hf_config, self.width = hf_config, self.encoder.width

    def forward(self, x_BNF: Tensor, mask_BN: Tensor, pool: bool = True) -> Tensor:
        """a_BW, or a_BNW per encoder frame with `pool=False`."""
        frames_BNW, pooled_BW = self.encoder(x_BNF, mask_BN)
        if not pool:
            return frames_BNW
        return masked_mean(frames_BNW, self.frame_mask(mask_BN)) if pooled_BW is None else pooled_BW

    def frame_mask(self, mask_BN: Tensor) -> Tensor:
        return self.encoder.frame_mask(mask_BN)

    def resolved(self, spec: Spec) -> Spec:
        return Spec(spec.kind, {"config": inline(self.hf_config)})


def load_config(name: str | None, config: dict[str, Any] | None, tower: str) -> PretrainedConfig:
    """The transformers config of a hub id or folder, or the one written inline. ClaraError when neither or both."""
    if (name is None) == (config is None):
        raise ClaraError(f"{tower} tower: give exactly one of 'name' (hub id or folder) and 'config' (inline).")
    where = None if name is None else hub.folder_of(name, ["config.json"], f"{tower} tower: {name!r}")
    try:
        if config is None:
            return AutoConfig.from_pretrained(where)
        rest = {k: v for k, v in config.items() if k != "model_type"}
        return AutoConfig.for_model(config.get("model_type"), **rest)
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ClaraError(f"{tower} tower: no usable transformers config in {name or config!r}: {hub.said(e)}") from e


def load_weights(name: str | None, config: PretrainedConfig, **options: Any) -> PreTrainedModel:
    """The model of `config` in float32: random without a `name`, else its weights, all of them. ClaraError lists what a
    foreign checkpoint lacks; heads that it has beyond the bare encoder are left."""
    if name is None:
        return AutoModel.from_config(config, **options)
    where = hub.folder_of(name, hub.WEIGHTS, f"The encoder {name!r}")
    try:
        model, report = AutoModel.from_pretrained(
            where, config=config, dtype=torch.float32, output_loading_info=True, **options
        )
    except (OSError, ValueError, RuntimeError) as e:
        raise ClaraError(f"The weights of {name!r} cannot be loaded from {where}: {hub.said(e)}") from e
    faults = sorted(report["missing_keys"]) + sorted(str(k) for k in report["mismatched_keys"])
    if faults:
        raise ClaraError(
            f"{name!r} lacks weights of {type(model).__name__}, or has them in another shape: {faults[:20]}."
        )
    return model


def inline(config: PretrainedConfig) -> dict[str, Any]:
    """A transformers config as plain data that `load_config` reads back."""
    notes = ("transformers_version", "architectures", "_name_or_path", "dtype", "torch_dtype")
    data = {k: v for k, v in config.to_diff_dict().items() if k not in notes}
    return {**data, "model_type": config.model_type}


# wav2vec 2.0 as transformers names it, its weight norm in the older and the newer form -> `HFAudioTower`
WAV2VEC2_RULES = (
    Drop(r"masked_spec_embed", "stands for frames masked in pre-training"),
    Rename(r"(encoder\.pos_conv_embed\.conv)\.weight_g", r"encoder.model.\1.parametrizations.weight.original0"),
    Rename(r"(encoder\.pos_conv_embed\.conv)\.weight_v", r"encoder.model.\1.parametrizations.weight.original1"),
    Rename(r"((?:feature_extractor|feature_projection|encoder)\..+)", r"encoder.model.\1"),
)
