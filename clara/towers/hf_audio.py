"""Audio encoders of transformers: wav2vec 2.0, HuBERT, WavLM (raw samples), Whisper and AST (log-mel frames).

`FAMILIES` says how each takes a padded batch; everything else is common. A clip alone and beside longer ones agree,
also where the original does not see to it (the group norm over time of wav2vec 2.0 base and its kin).
What follows the encoder (mix of layers, trainable blocks, pooling) is in `hf_pool`.
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from clara import hub
from clara.config import Spec
from clara.errors import ClaraError, unknown
from clara.towers.base import AUDIO_TOWERS, AudioTower, fit_window, mask_frames, smaller, strided_mask
from clara.towers.hf_pool import StatePool, coarser
from clara.towers.remap import Drop, Rename, Rule


@dataclass(frozen=True)
class Coarse:
    """A lower frame rate from some encoder layer on."""

    after: int
    """Encoder layer after which frames are merged; 0 = before the first."""
    factor: int
    """Frames per masked mean, at least 2."""


@dataclass(frozen=True)
class HFAudioConfig:
    """An audio encoder of transformers and what follows it. Exactly one of `name` and `config` is given.

    Front-ends: 'waveform' for wav2vec 2.0, HuBERT and WavLM. 'log_mel' for Whisper, which expects n_fft and win_length
    400, f_min 0, slaney scale and norm, normalize fixed, mean -40, std 40; and for AST, of as many bins as it says.
    AST pools as it was trained to and takes none of the options from `layers` on.
    """

    name: str | None = None
    """Hub id or local folder whose weights are the start."""
    config: dict[str, Any] | None = None
    """Fields of a transformers config with its `model_type`, for random weights."""
    layers: int | None = None
    """Keep the first n transformer layers, without the final layer norm; null = all."""
    full_window: bool = True
    """Whisper: true runs on the whole padded window, false on each clip at its own length, padding masked."""
    coarse: Coarse | None = None
    """Whisper: run later layers at a lower frame rate; null = off."""
    mix: tuple[int, ...] | None = None
    """Layers whose states are combined, each layer-normed; 0 = the first's input, and the last one kept is needed."""
    stride: int = 1
    """Frames per masked mean after the encoder; 1 = off."""
    blocks: int = 0
    """Trainable pre-norm transformer blocks after the mix."""
    block_width: int | None = None
    """Width of a linear map of all mixed states and of the blocks; null = a convex combination instead."""
    pooling: str = "mean"
    """'mean', 'stats' (mean and deviation) or 'attentive_stats'; the latter two double the width."""
    summary: bool = False
    """Put the mean and deviation of the states of each layer of `mix`, neither mixed nor weighted, beside what is
    pooled: 2·K·W more values, of very different scales, for a head with `standardize`."""
    dropout: float = 0.0
    """In the blocks and of the pooled vector, 0 to 1."""


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
    LACKS = ("full_window", "coarse")

    def __init__(self, model: PreTrainedModel, config: HFAudioConfig) -> None:
        super().__init__()
        c = model.config
        for flag in ("add_adapter", "conv_pos_batch_norm"):
            if c.to_dict().get(flag):
                raise ClaraError(f"{c.model_type} with {flag}=true mixes padding into real frames: not supported.")
        self.model, self.width, self.mix = model, c.hidden_size, config.mix
        if config.layers and c.do_stable_layer_norm:
            model.encoder.layer_norm = nn.Identity()
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

    def forward(self, x_BN1: Tensor, mask_BN: Tensor) -> list[Tensor]:
        """The states (B, N', W) of the layers of `mix`, or the final one."""
        wave_BN = mask_frames(x_BN1, mask_BN)[..., 0]
        wave_BN = nn.functional.pad(wave_BN, (0, max(0, self.receptive - wave_BN.shape[1])))
        len_B = self._samples(mask_BN)
        if self.group_norm:
            kernel, stride = self.strides[0]
            self.group_norm[0].lengths_B = (len_B - kernel) // stride + 1
        attend_BN = torch.arange(wave_BN.shape[1], device=len_B.device) < len_B[:, None]
        out = self.model(wave_BN, attention_mask=attend_BN.long(), output_hidden_states=self.mix is not None)
        if self.mix is None:
            return [out.last_hidden_state]
        return [out.hidden_states[i] for i in self.mix[:-1]] + [out.last_hidden_state]

    def frame_mask(self, mask_BN: Tensor) -> Tensor:
        frames, len_B = max(mask_BN.shape[1], self.receptive), self._samples(mask_BN)
        for kernel, stride in self.strides:
            frames, len_B = (frames - kernel) // stride + 1, (len_B - kernel) // stride + 1
        return torch.arange(frames, device=mask_BN.device) < len_B[:, None]

    def _samples(self, mask_BN: Tensor) -> Tensor:
        """Real samples, at least what one frame sees."""
        return mask_BN.sum(1).clamp_min(self.receptive)


class WhisperFamily(nn.Module):
    """Whisper's encoder. It was trained on clips filled with silence to its window and knows no mask, so its layers are
    run here: on the whole window as trained, or on the clip alone, padding masked in attention."""

    SETTINGS: ClassVar = {"encoder_layerdrop": 0.0}
    LACKS = ()

    def __init__(self, model: PreTrainedModel, config: HFAudioConfig) -> None:
        super().__init__()
        self.model, self.width = model.get_encoder(), model.config.d_model
        self.window, self.full = 2 * model.config.max_source_positions, config.full_window
        layers = len(self.model.layers)
        self.mix, self.coarse = config.mix or (layers,), config.coarse
        if config.layers:
            self.model.layer_norm = nn.Identity()
        if self.coarse and (not 0 <= self.coarse.after < layers or self.coarse.factor < 2):
            raise ClaraError(
                f"hf_audio tower: coarse after layer {self.coarse.after} by {self.coarse.factor}: expected a layer "
                f"from 0 to {layers - 1} and a factor of at least 2."
            )

    def forward(self, x_BNF: Tensor, mask_BN: Tensor) -> list[Tensor]:
        """The states (B, N', W) of the layers of `mix`, or the final one, all at the rate of the last."""
        x_BNW, real_BN = self._frames(x_BNF, mask_BN)
        inside_BN = torch.ones_like(real_BN) if self.full else real_BN
        attend, states = self._attend(x_BNW, inside_BN), []
        for i, layer in enumerate((None, *self.model.layers)):
            x_BNW = layer(x_BNW, attend) if layer else x_BNW
            if self.coarse and i == self.coarse.after:
                states = [coarser(s, real_BN, self.coarse.factor)[0] for s in states]
                x_BNW, inside_BN = coarser(x_BNW, inside_BN, self.coarse.factor)
                attend = self._attend(x_BNW, inside_BN)
            if i in self.mix:
                states.append(x_BNW)
        return [*states[:-1], self.model.layer_norm(states[-1])]

    def frame_mask(self, mask_BN: Tensor) -> Tensor:
        short = max(0, self.window - mask_BN.shape[1]) if self.full else 0
        mask_BN = strided_mask(nn.functional.pad(mask_BN, (0, short))[:, : self.window], 2)
        return strided_mask(mask_BN, self.coarse.factor) if self.coarse else mask_BN

    def _frames(self, x_BNF: Tensor, mask_BN: Tensor) -> tuple[Tensor, Tensor]:
        """The input of the first layer and which of its frames are of the clip."""
        # silence as WhisperFeatureExtractor gives it: 8 decades below the clip's peak, at least 1e-10, then (x + 4) / 4
        peak = x_BNF.masked_fill(~mask_BN[..., None], -torch.inf).amax((1, 2), keepdim=True)
        # two frames of silence after the longest clip: a clip's end looks to the convolutions as it does beside others
        length = self.window if self.full else smaller(self.window, x_BNF.shape[1])
        window, frames = smaller(self.window, length + 2), (length + 1) // 2
        x_BNF, mask_BN = fit_window(x_BNF, mask_BN, window, fill=(peak - 2.0).clamp_min(-1.5))
        x_BWN = nn.functional.gelu(self.model.conv1(x_BNF.transpose(1, 2)))
        x_BNW = nn.functional.gelu(self.model.conv2(x_BWN)).transpose(1, 2)[:, :frames]
        x_BNW = x_BNW + self.model.embed_positions.weight[:frames]
        x_BNW = nn.functional.dropout(x_BNW, self.model.dropout, self.training)
        return x_BNW, strided_mask(mask_BN, 2)[:, :frames]

    def _attend(self, x_BNW: Tensor, inside_BN: Tensor) -> Tensor | None:
        """What is added to attention scores: (B, 1, 1, N). None in the whole window, all of which is attended to."""
        if self.full:
            return None
        zero_BN = torch.zeros(inside_BN.shape, dtype=x_BNW.dtype, device=x_BNW.device)
        return zero_BN.masked_fill(~inside_BN, torch.finfo(x_BNW.dtype).min)[:, None, None]


class ASTFamily(nn.Module):
    """Audio Spectrogram Transformer (Gong et al. 2021): patches of a fixed window; pooled as it was trained to be, by
    its class and distillation tokens."""

    SETTINGS: ClassVar = {}
    LACKS = (
        "layers",
        "full_window",
        "coarse",
        "mix",
        "stride",
        "blocks",
        "block_width",
        "pooling",
        "summary",
        "dropout",
    )

    def __init__(self, model: PreTrainedModel, config: HFAudioConfig) -> None:
        super().__init__()
        c = model.config
        self.model, self.width, self.window = model, c.hidden_size, c.max_length
        self.rows = (c.num_mel_bins - c.patch_size) // c.frequency_stride + 1
        self.columns, self.stride = (c.max_length - c.patch_size) // c.time_stride + 1, c.time_stride

    def forward(self, x_BNF: Tensor, mask_BN: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N', W) per column of patches, and (B, W)."""
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
    """x_BNF (F = 1: samples) -> a_BW: the real frames' final states pooled, or the family's own pooling (AST)."""

    def __init__(self, config: HFAudioConfig) -> None:
        super().__init__()
        self.hf_config = load_config(config.name, config.config, "hf_audio")
        if self.hf_config.model_type not in FAMILIES:
            raise unknown("audio encoder family", self.hf_config.model_type, FAMILIES)
        family = FAMILIES[self.hf_config.model_type]
        for key, value in family.SETTINGS.items():
            setattr(self.hf_config, key, value)
        config = _checked(config, self.hf_config, family.LACKS)
        kept = copy.deepcopy(self.hf_config)
        kept.num_hidden_layers = config.layers or kept.num_hidden_layers
        self.encoder, self.stride = family(load_weights(config.name, kept), config), config.stride
        self.rest = None if family is ASTFamily else StatePool(self.encoder.width, config)
        self.width = self.rest.width if self.rest else self.encoder.width

    def forward(self, x_BNF: Tensor, mask_BN: Tensor, pool: bool = True) -> Tensor:
        """a_BW, or a_BNW per frame with `pool=False`."""
        if self.rest is None:
            frames_BNW, pooled_BW = self.encoder(x_BNF, mask_BN)
            return pooled_BW if pool else frames_BNW
        return self.from_states(*self.states(x_BNF, mask_BN), pool=pool)

    def states(self, x_BNF: Tensor, mask_BN: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's part: the states of the K layers of `mix` (without it the final one), already at the rate that
        `stride` leaves, (B, N', K, W), and their mask (B, N')."""
        if self.rest is None:
            return super().states(x_BNF, mask_BN)
        real_BN = self.encoder.frame_mask(mask_BN)
        states = [coarser(s, real_BN, self.stride)[0] for s in self.encoder(x_BNF, mask_BN)]
        return torch.stack(states, 2), strided_mask(real_BN, self.stride)

    def from_states(self, states_BNKW: Tensor, mask_BN: Tensor, pool: bool = True) -> Tensor:
        """What follows the encoder: mix, blocks, pooling. As `forward` gives it."""
        return super().from_states(states_BNKW, mask_BN) if self.rest is None else self.rest(states_BNKW, mask_BN, pool)

    def pooled(self, frames_BNW: Tensor, mask_BN: Tensor) -> Tensor:
        return super().pooled(frames_BNW, mask_BN) if self.rest is None else self.rest.pooled(frames_BNW, mask_BN)

    def frame_mask(self, mask_BN: Tensor) -> Tensor:
        return strided_mask(self.encoder.frame_mask(mask_BN), self.stride)

    def resolved(self, spec: Spec) -> Spec:
        rest = {k: v for k, v in spec.options.items() if k not in ("name", "config")}
        return Spec(spec.kind, {"config": inline(self.hf_config), **rest})


def _checked(config: HFAudioConfig, hf_config: PretrainedConfig, lacks: tuple[str, ...]) -> HFAudioConfig:
    """`config` where its options fit the encoder and each other; `layers` None when all are kept. Else ClaraError."""
    family, count = hf_config.model_type, hf_config.num_hidden_layers
    defaults = {f.name: f.default for f in dataclasses.fields(config)}
    if wrong := [name for name in lacks if getattr(config, name) != defaults[name]]:
        raise ClaraError(f"hf_audio tower: {family} does not take {', '.join(wrong)}: leave them out.")
    layers, mix = kept_layers(config.layers, hf_config, "hf_audio"), config.mix
    if mix is not None and (not mix or list(mix) != sorted({*mix}) or mix[0] < 0 or mix[-1] != layers):
        raise ClaraError(
            f"hf_audio tower: mix={list(mix)}: expected layers from 0 to {layers} in rising order, the last of them "
            f"{layers}, because layers above it would do nothing (set layers to keep fewer)."
        )
    return dataclasses.replace(config, layers=None if layers == count else layers)


def kept_layers(layers: int | None, config: PretrainedConfig, tower: str) -> int:
    """How many of the encoder's layers are kept: all without `layers`. ClaraError when it has not so many."""
    count = config.num_hidden_layers
    if layers is not None and not 1 <= layers <= count:
        raise ClaraError(
            f"{tower} tower: layers={layers}: this {config.model_type} has {count}; expected 1 to {count}."
        )
    return count if layers is None else layers


# what transformers raises at a config that is none, or holds values of other types
CONFIG_ERRORS = (OSError, ValueError, KeyError, TypeError, AttributeError, StrictDataclassError)


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
    except CONFIG_ERRORS as e:
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
WAV2VEC2_RULES: tuple[Rule, ...] = (
    Drop(r"masked_spec_embed", "stands for frames masked in pre-training"),
    Rename(r"(encoder\.pos_conv_embed\.conv)\.weight_g", r"encoder.model.\1.parametrizations.weight.original0"),
    Rename(r"(encoder\.pos_conv_embed\.conv)\.weight_v", r"encoder.model.\1.parametrizations.weight.original1"),
    Rename(r"((?:feature_extractor|feature_projection|encoder)\..+)", r"encoder.model.\1"),
)
