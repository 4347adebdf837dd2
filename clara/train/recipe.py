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
from clara.zoo import catalog, factory

LOSSES = ("multi_positive", "info_nce", "sigmoid", "audio_to_text")


@dataclass(frozen=True)
class LossConfig:
    """What is made small.

    kind: 'multi_positive', 'info_nce' (a clip with its own caption), 'sigmoid' (needs the model's `init_bias`),
        'audio_to_text' (one way only: for `anchors`).
    weight: of the loss of that kind, which needs each batch's captions.
    tasks: weights by task of `losses.within_tasks`, for a frozen text side: each fact's target is the mean of what is
        said of it. Empty: captions alone.
    facts: weight of `losses.multi_positive` between clips and the targets of all facts, whatever their task, so that
        a query finds its clips among clips of every kind.
    facts_scale, smoothing: inverse temperature of these two, and label smoothing within tasks.
    texts: how many texts make a fact's target, over all languages.
    """

    kind: str = "multi_positive"
    weight: float = 1.0
    tasks: dict[str, float] = field(default_factory=dict)
    facts: float = 0.0
    facts_scale: float = 10.0
    smoothing: float = 0.1
    texts: int = 100


@dataclass(frozen=True)
class TrainConfig:
    """A recipe.

    model: an architecture's name or a whole model config.
    init: a checkpoint to start from, whose config is used where `model` is null.
    states: train from stored states of the audio tower's encoder, which must be frozen by `optim.groups`; null trains
        on waves.
    texts: train the text side alone, without any audio.
    distil: learn from the teacher whose states these are, on the waves that they were computed from.
    anchors: train audio against one vector a fact instead of texts.
    ema: decay or null.
    grad_cache: clips a chunk or null.
    threads: of PyTorch in this process; null = its own choice.

    `data.batch_size` is that of all processes together. A run that is killed goes on from its last saved state: one is
    written every `save_every` steps, and where `save_minutes` have passed since the last.
    """

    data: DataConfig
    steps: int
    out: str
    model: str | dict[str, Any] | None = None
    init: str | None = None
    anchors: AnchorStage | None = None
    states: StatesConfig | None = None
    distil: DistilConfig | None = None
    texts: FactTextsConfig | None = None
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    precision: str = "bf16"
    channels_last: bool = True
    spec_augment: SpecAugmentConfig | None = None
    ema: float | None = 0.999
    grad_cache: int | None = None
    seed: int = 0
    threads: int | None = None
    save_every: int = 500
    save_minutes: float = 10.0
    log_every: int = 20
    keep: int = 2
    device: str = "auto"


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
    if config.states and config.spec_augment and not config.distil:
        raise ClaraError(
            "states: spec_augment masks what the encoder hears, and stored states were heard already. Set spec_augment "
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
