"""A tiny checkpoint with random weights, written as a trained one would be."""

from __future__ import annotations

from pathlib import Path

import torch

from clara.config import arch_config
from clara.text.tokenizer import build_tokenizer
from clara.zoo.embedder import Embedder
from clara.zoo.factory import create_model, load_checkpoint, save_checkpoint

CARD = "---\nlicense: cc0-1.0\n---\n# tiny\nRandom weights, for tests.\n"


def save_tiny(folder: Path, arch: str = "test-conv") -> Path:
    """Write the checkpoint folder; every weight moved a little, so that no zero-initialised path is idle."""
    torch.manual_seed(0)
    model = create_model(arch)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return save_checkpoint(folder, model, build_tokenizer(arch_config(arch).tokenizer), CARD)


def tiny_zoo(folder: Path) -> Embedder:
    """The embedder of a tiny checkpoint in `folder`."""
    return Embedder(load_checkpoint(save_tiny(folder)), "cpu")
