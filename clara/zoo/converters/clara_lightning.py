"""The first CLARA's Lightning checkpoints (knoriy/CLARA at faec8a5; arXiv 2310.11830).

Two names for one file. 'clara' projects and then scales to unit length, as it was trained. 'clara-legacy' does it the
other way round, as its zero-shot figures of before November 2023 and its linear probes were made; the projections have
a bias, so the two differ.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from clara.config import ModelConfig, Spec, to_dict
from clara.errors import ClaraError
from clara.text.tokenizer import ClaraBPEConfig, build_tokenizer
from clara.towers.perceiver import CLARA_RULES, PerceiverConfig, PostNormTextConfig
from clara.towers.remap import remap
from clara.zoo.convert import Foreign, converter
from clara.zoo.converters.measure import Measured
from clara.zoo.unpickle import read_pickled

LICENCE = "Apache-2.0 (the repository's; the weights' own is not stated)"
PREFIX = "model."


@converter("clara", LICENCE)
def convert_clara(path: Path, tokenizer: str | None = None) -> Foreign:
    """A .ckpt of PLCLARA; `tokenizer` is Whisper's multilingual one, by default from the hub.

    Raises:
        ClaraError: no such checkpoint, a linear probe, hyper-parameters that are wanting, or sizes that do not agree.
    """
    return _convert(path, tokenizer, unit_input=False)


@converter("clara-legacy", LICENCE)
def convert_clara_legacy(path: Path, tokenizer: str | None = None) -> Foreign:
    """As `convert_clara`, its projections after the scaling to unit length."""
    return _convert(path, tokenizer, unit_input=True)


def _convert(path: Path, tokenizer: str | None, unit_input: bool) -> Foreign:
    state, options = _read(path)
    tensors = remap(state, CLARA_RULES, str(path))
    m = Measured(tensors, str(path))
    head = Spec("linear", {"bias": True, "unit_input": unit_input})
    name = {} if tokenizer is None else {"name": tokenizer}
    config = ModelConfig(
        embed_dim=m.shape("audio_head.weight")[0],
        front_end=Spec("log_mel", _front_end(m)),
        audio=Spec("perceiver", to_dict(_audio(m, options))),
        text=Spec("postnorm_text", to_dict(_text(m, options))),
        tokenizer=Spec("clara_bpe", {**to_dict(ClaraBPEConfig()), **name}),
        audio_head=head,
        text_head=head,
    )
    built = build_tokenizer(config.tokenizer, path.parent)
    rows = m.shape("text.tokens.weight")[0]
    if rows != built.vocab_size:
        raise ClaraError(f"{path} has {rows} tokens, the tokenizer {built.vocab_size}: it is not this checkpoint's.")
    return Foreign(config, tensors, built, path)


def _read(path: Path) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """The tensors without their prefix, and the hyper-parameters."""
    data = read_pickled(path)
    missing = [k for k in ("state_dict", "hyper_parameters") if not isinstance(data, Mapping) or k not in data]
    if missing:
        raise ClaraError(
            f"{path} lacks {' and '.join(missing)}: expected a Lightning checkpoint of PLCLARA (how many text heads "
            "there are, only the hyper-parameters say)."
        )
    state, options = data["state_dict"], data["hyper_parameters"]
    options = vars(options) if isinstance(options, Namespace) else options
    if not isinstance(state, Mapping) or not isinstance(options, Mapping):
        raise ClaraError(f"{path}: its state_dict or its hyper_parameters hold no names.")
    if any(k.startswith("feature_extractor.") for k in state):
        raise ClaraError(f"{path} is a linear probe: convert the checkpoint that it was made from.")
    others = [k for k, v in state.items() if not k.startswith(PREFIX) or not isinstance(v, Tensor)]
    if others:
        raise ClaraError(f"{path} is not of PLCLARA, whose tensors all begin with {PREFIX!r}: {others[:10]}.")
    return {k.removeprefix(PREFIX): v for k, v in state.items()}, options


def _front_end(m: Measured) -> dict[str, Any]:
    """librosa's log-mel of the clip's own 48 kHz: decibels below the clip's peak, from -80..0 to -1..1. The window is
    the longest that has positions."""
    frames, rate, hop = 2 * m.shape("audio.positions.weight")[0], 48000, 512
    return {
        "sample_rate": rate,
        "window_seconds": (frames * hop - 1) * 100 // rate / 100,
        "n_fft": 1024,
        "win_length": 1024,
        "hop_length": hop,
        "n_mels": m.shape("audio.conv1.weight")[1],
        "f_min": 0.0,
        "f_max": 8000.0,
        "mel_scale": "slaney",
        "mel_norm": "slaney",
        "normalize": "peak",
        "mean": -40.0,
        "std": 40.0,
        "floor_db": 80.0,
        "min_frames": 1,
    }


def _audio(m: Measured, options: Mapping[str, Any]) -> PerceiverConfig:
    cross, latent = (_option(options, f"audio_encoder_{part}_heads") for part in ("cross", "latent"))
    inner = {
        "cross": m.shape("audio.cross.attention.query.weight")[0] / cross,
        "latent": m.shape("audio.layers.0.attention.query.weight")[0] / latent,
    }
    latents, wide = m.shape("audio.latents")
    if latents != wide or inner["cross"] != inner["latent"] or inner["latent"] % 1:
        raise ClaraError(
            f"{latents} latents of width {wide}, heads of width {inner}: expected as many latents as features (the "
            "model pools over features) and heads of one whole width."
        )
    return PerceiverConfig(
        bins=m.shape("audio.conv1.weight")[1],
        token_width=m.shape("audio.conv1.weight")[0],
        positions=m.shape("audio.positions.weight")[0],
        latents=latents,
        layers=m.count(r"audio\.layers\.(\d+)\."),
        cross_heads=cross,
        heads=latent,
        head_width=int(inner["latent"]),
        width=m.shape("audio.out.weight")[0],
        token_dropout=float(options.get("audio_encoder_seq_dropout_prob", 0.0)),
    )


def _text(m: Measured, options: Mapping[str, Any]) -> PostNormTextConfig:
    vocab, width = m.shape("text.tokens.weight")
    return PostNormTextConfig(
        vocab_size=vocab,
        context_length=m.shape("text.positions.weight")[0],
        token_width=width,
        layers=m.count(r"text\.encoder\.layers\.(\d+)\."),
        heads=_option(options, "text_encoder_heads"),
        hidden=m.shape("text.encoder.layers.0.linear1.weight")[0],
        state_width=m.shape("text.project.weight")[0],
        width=m.shape("text.out.weight")[0],
        dropout=float(options.get("text_encoder_seq_dropout_prob", 0.0)),
    )


def _option(options: Mapping[str, Any], name: str) -> int:
    value = options.get(name)
    if not isinstance(value, int) or value < 1:
        raise ClaraError(f"Hyper-parameter {name} is {value!r}: expected a number of at least 1.")
    return value
