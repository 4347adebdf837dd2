"""A tiny checkpoint with random weights, written as a trained one would be."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from clara.config import ModelConfig, Spec, arch_config
from clara.model import DualEncoder
from clara.text.tokenizer import build_tokenizer
from clara.zoo.embedder import Embedder
from clara.zoo.factory import load_checkpoint, save_checkpoint

CARD = "---\nlicense: cc0-1.0\n---\n# tiny\nRandom weights, for tests.\n"


def readout_spec(ranks: Sequence[int]) -> ModelConfig:
    """The tiny Whisper tower under an audio head with readouts of its 128 statistics."""
    spec = arch_config("test-whisper-own")
    audio = Spec(spec.audio.kind, {**spec.audio.options, "summary": True})
    head = Spec("readout", {"base": {"kind": "linear"}, "statistics": 128, "ranks": list(ranks)})
    return dataclasses.replace(spec, audio=audio, audio_head=head)


def save_tiny(folder: Path, arch: str | ModelConfig = "test-conv") -> Path:
    """Write the checkpoint folder; every weight moved a little, so that no zero-initialised path is idle."""
    torch.manual_seed(0)
    spec = arch_config(arch) if isinstance(arch, str) else arch
    model = DualEncoder(spec)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return save_checkpoint(folder, model, build_tokenizer(spec.tokenizer), CARD)


def tiny_zoo(folder: Path) -> Embedder:
    """The embedder of a tiny checkpoint in `folder`."""
    return Embedder(load_checkpoint(save_tiny(folder)), "cpu")
