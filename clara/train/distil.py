"""Distillation: a student hears the clips that a teacher's states were stored for, and learns to embed them as it does.

The student takes over the teacher's text side, frozen, so that one text embedding searches the audio of both.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from clara.config import ModelConfig
from clara.data.states import StateStore, padded
from clara.errors import ClaraError
from clara.layers import bf16_pays
from clara.model import DualEncoder
from clara.text.tokenizer import Tokenizer
from clara.zoo import factory

TOGETHER = 128  # clips


@dataclass(frozen=True)
class DistilConfig:
    """Training of a student on a teacher's embeddings."""

    teacher: str
    """Checkpoint that the recipe's states were stored with."""
    weight: float = 10.0
    """Of 1 - cosine between both embeddings of a clip, beside the contrastive loss."""


def student(base: ModelConfig, teacher: str, init: str | None) -> tuple[DualEncoder, Tokenizer]:
    """The audio side of `base`, of random weights or those of `init` where they fit, with the teacher's text side.
    ClaraError when `init` does not fit `base`, or the two sample rates differ."""
    source, tokenizer = factory.create_model(teacher), factory.get_tokenizer(teacher)
    theirs = source.config
    config = dataclasses.replace(
        theirs, front_end=base.front_end, audio=base.audio, audio_head=base.audio_head, init_bias=None
    )
    model = DualEncoder(config)
    if model.front_end.sample_rate != source.front_end.sample_rate:
        raise ClaraError(
            f"distil: the teacher hears {source.front_end.sample_rate} Hz, `model` {model.front_end.sample_rate} Hz: "
            "the stored takes are drawn at the teacher's rate. Set model.front_end.sample_rate to it."
        )
    kept = ("text.", "text_head.", "log_scale")
    tensors = {n: t for n, t in source.state_dict().items() if n.startswith(kept)}
    if init is not None:
        tensors |= _audio_of(init, model)
    model.load_state_dict({**model.state_dict(), **tensors})
    return model, tokenizer


def _audio_of(init: str, model: DualEncoder) -> dict[str, Tensor]:
    """The front-end and audio tower of `init`; its head only if it fits. ClaraError when the tower differs."""
    own, start = model.state_dict(), factory.create_model(init).state_dict()
    tower = {n: t for n, t in start.items() if n.startswith(("front_end.", "audio."))}
    expected = {n for n in own if n.startswith(("front_end.", "audio."))}
    if tower.keys() != expected or any(own[n].shape != t.shape for n, t in tower.items()):
        raise ClaraError(f"init {init!r} has another audio tower than the recipe's `model`.")
    head = {n: t for n, t in start.items() if n.startswith("audio_head.") and n in own and own[n].shape == t.shape}
    return tower | head


@torch.inference_mode()
def targets(teacher: DualEncoder, store: StateStore, bf16: bool) -> tuple[dict[tuple[str, int], int], Tensor]:
    """The teacher's embedding of every stored take: (name, take) -> row, and the rows (K, D), float16."""
    device = next(teacher.parameters()).device
    names = sorted(store.takes, key=lambda key: (store.takes[key].file, store.takes[key].start))
    rows = []
    for i in range(0, len(names), TOGETHER):
        x_BNKW, len_B = padded(store, [store.takes[name] for name in names[i : i + TOGETHER]])
        mask_BN = torch.arange(x_BNKW.shape[1]) < len_B[:, None]
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16 and bf16_pays(device.type)):
            rows.append(teacher.encode_states(x_BNKW.to(device), mask_BN.to(device)).half().cpu())
    return {name: row for row, name in enumerate(names)}, torch.cat(rows)


def distance(audio_BD: Tensor, target_BD: Tensor) -> Tensor:
    """Mean of 1 - cosine between unit vectors."""
    return 1.0 - (audio_BD * target_BD.to(audio_BD)).sum(1).mean()
