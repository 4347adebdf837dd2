"""What a training recipe says (YAML of `TrainConfig`), and the model that it starts from."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clara.audio.augment import SpecAugmentConfig
from clara.config import ModelConfig, arch_config, build
from clara.data.fact_texts import FactTextsConfig
from clara.data.loader import DataConfig
from clara.data.states import StatesConfig
from clara.errors import ClaraError, unknown
from clara.model import DualEncoder
from clara.text.tokenizer import Tokenizer, build_tokenizer
from clara.train.anchors import AnchorStage, anchor_model
from clara.train.distil import DistilConfig, student
from clara.train.optim import OptimConfig
from clara.train.readout import ReadoutConfig
from clara.zoo import catalog, factory

LOSSES = ("multi_positive", "info_nce", "sigmoid", "audio_to_text")


@dataclass(frozen=True)
class LossConfig:
    """The training loss."""

    kind: str = "multi_positive"
    """'multi_positive', 'info_nce' (own caption), 'sigmoid' (needs `init_bias`) or 'audio_to_text' (for `anchors`)."""
    weight: float = 1.0
    """Of the loss of that kind, on each batch's captions."""
    tasks: dict[str, float] = field(default_factory=dict)
    """Weight per task of `losses.within_tasks`, for a frozen text side; empty = captions alone."""
    facts: float = 0.0
    """Weight of `losses.multi_positive` between clips and all facts' targets, whatever their task."""
    facts_scale: float = 10.0
    """Inverse temperature of these two."""
    smoothing: float = 0.1
    """Label smoothing within tasks, 0 to 1."""
    texts: int = 100
    """Texts averaged into a fact's target, over all languages."""


@dataclass(frozen=True)
class TrainConfig:
    """A training recipe. A killed run goes on from its last saved state."""

    data: DataConfig
    """The clips, and how they are captioned, augmented and batched."""
    steps: int
    """Optimiser steps."""
    out: str
    """Folder of the run."""
    model: str | dict[str, Any] | None = None
    """Architecture by name, or a whole model config; null = that of `init`."""
    init: str | None = None
    """Checkpoint to start from; null = random weights."""
    anchors: AnchorStage | None = None
    """Train audio against one vector per fact instead of texts; null = off."""
    states: StatesConfig | None = None
    """Train from stored states of the audio encoder, frozen by `optim.groups`; null = on waves."""
    distil: DistilConfig | None = None
    """Learn from the teacher that `states` were stored with; null = off."""
    texts: FactTextsConfig | None = None
    """Train the text side alone, without audio; null = off."""
    loss: LossConfig = LossConfig()
    """The training loss."""
    readout: dict[str, ReadoutConfig] = field(default_factory=dict)
    """Readouts to solve for when training ends, by task, for an audio head of kind 'readout' and stored states."""
    optim: OptimConfig = OptimConfig()
    """Optimiser and schedule."""
    precision: str = "bf16"
    """'bf16' or 'fp32'."""
    channels_last: bool = True
    """Memory format of convolutions: faster on most devices."""
    spec_augment: SpecAugmentConfig | None = None
    """Masks on the front-end's frames; null = off."""
    ema: float | None = 0.999
    """Decay of the exponential moving average of the weights; null = off."""
    grad_cache: int | None = None
    """Clips per chunk of the gradient cache (large batches in little memory); null = off."""
    seed: int = 0
    """Seed of all draws."""
    threads: int | None = None
    """PyTorch threads of this process; null = PyTorch's choice."""
    save_every: int = 500
    """Most steps between saved states."""
    save_minutes: float = 10.0
    """Most minutes between saved states."""
    log_every: int = 20
    """Steps between log lines."""
    keep: int = 2
    """Saved states to keep."""
    device: str = "auto"
    """'auto', 'cpu', 'cuda' or 'cuda:N'."""


def check(config: TrainConfig) -> None:
    """Refuse what no default can mend. ClaraError."""
    if config.loss.kind not in LOSSES:
        raise unknown("loss", config.loss.kind, LOSSES)
    if config.precision not in ("bf16", "fp32"):
        raise unknown("precision", config.precision, ("bf16", "fp32"))
    for name in ("steps", "save_every", "log_every", "keep", "threads", "grad_cache"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ClaraError(f"{name}={value}: expected at least 1.")
    o, pair = config.optim, 1 if config.anchors else 2  # against texts there must be others to tell a clip from
    sizes = (("data.batch_size", config.data.batch_size, pair), ("optim.warmup_steps", o.warmup_steps, 0))
    for name, value, least in (*sizes, ("seed", config.seed, 0)):
        if value < least:
            raise ClaraError(f"{name}={value}: expected at least {least}.")
    if not (math.isfinite(o.lr) and o.lr > 0):
        raise ClaraError(f"optim.lr={o.lr}: expected more than 0.")
    _check_states(config)
    if config.init is not None and catalog.parse_name(config.init).kind == "arch":
        factory.checkpoint_folder(catalog.parse_name(config.init))  # says that it has no weights to start from
    if config.model is None and config.init is None:
        raise ClaraError("The recipe names neither `model` (an architecture) nor `init` (a checkpoint to start from).")


def _check_states(config: TrainConfig) -> None:
    if config.distil and not config.states:
        raise ClaraError("distil needs `states`: the store that was filled with the teacher.")
    if config.distil and config.model is None:
        raise ClaraError("distil needs `model`, an architecture whose audio side is the student.")
    if config.states and config.anchors:
        raise ClaraError("states: audio is trained against anchors on waves only. Set states or anchors to null.")
    if config.readout and (not config.states or config.distil or config.texts):
        raise ClaraError("readout needs `states`, and neither `distil` nor `texts`: it is fitted to the stored clips.")
    if config.states and config.spec_augment and not config.distil:
        raise ClaraError(
            "states: spec_augment masks the encoder's input, and stored states are its output. Set spec_augment "
            "or states to null."
        )


def build_model(config: TrainConfig, folder: Path) -> tuple[DualEncoder, Tokenizer]:
    """The model with its initial weights, and its tokenizer. ClaraError when they do not fit each other or the loss."""
    if config.anchors:
        base = _spec(config.model) if config.model else factory.create_model(config.init).config
        model, tokenizer = anchor_model(config.anchors, base, config.data, config.init, Path(config.out))
    elif config.distil:
        model, tokenizer = student(_spec(config.model), config.distil.teacher, config.init)
    elif config.model is None:
        model, tokenizer = factory.create_model(config.init), factory.get_tokenizer(config.init)
    else:
        spec = _spec(config.model)
        model = DualEncoder(spec)
        tokenizer = factory.get_tokenizer(config.init) if config.init else build_tokenizer(spec.tokenizer, folder)
        if config.init:
            factory.load_strictly(model, factory.create_model(config.init).state_dict(), f"init {config.init!r}")
    vocabulary = model.config.text.options.get("vocab_size", tokenizer.vocab_size)
    if vocabulary != tokenizer.vocab_size:
        raise ClaraError(
            f"The text tower has {vocabulary} token embeddings, the tokenizer {tokenizer.vocab_size} tokens."
        )
    if config.loss.kind == "sigmoid" and model.bias is None:
        raise ClaraError("The sigmoid loss needs a bias: set the model's init_bias, -10.0 for example.")
    if config.spec_augment and model.front_end.bins == 1:
        raise ClaraError("spec_augment masks bands, and this front-end gives the waveform itself: set it to null.")
    return model, tokenizer


def _spec(model: str | dict[str, Any]) -> ModelConfig:
    return build(ModelConfig, model, where="model") if isinstance(model, dict) else arch_config(model)
