"""Tiny models of the peers with random weights, written as the peers write theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

TEXTS = ["a dog barks", "the sound of heavy rain, and somebody who is very angry", "music"]


def byte_pairs(folder: Path) -> Any:
    """A byte-level tokenizer of RoBERTa's kind with about 300 tokens, saved in `folder`."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    backend = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    backend.train_from_iterator(TEXTS, vocab_size=300, min_frequency=1, special_tokens=special, show_progress=False)
    backend.save_model(str(folder))
    tokenizer = RobertaTokenizerFast.from_pretrained(str(folder))
    tokenizer.save_pretrained(folder)
    return tokenizer


def shake(model: nn.Module) -> None:
    """Every parameter moved and every batch norm given statistics: what is zero or one at first would hide faults."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if not name.startswith("logit_scale"):
                p.add_((0.3 if "bias_table" in name else 0.05) * torch.randn_like(p))
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                level = 20.0 if module.num_features == 64 else 1.0  # decibels, or features
                module.running_mean.copy_(level * (torch.randn_like(module.running_mean) - 1))
                module.running_var.copy_(level**2 * (torch.rand_like(module.running_var) + 0.5))


def save_clap(folder: Path, fused: bool = False, **text: Any) -> Path:
    """A ClapModel folder as `save_pretrained` of model and processor write it; `text` changes its text_config."""
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor

    tokenizer = byte_pairs(folder / "bpe")
    audio = {"patch_embeds_hidden_size": 16, "depths": [2, 2], "num_attention_heads": [2, 4], "hidden_size": 32}
    words = {"vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    words |= {"intermediate_size": 48, "max_position_embeddings": 82, **text}
    audio |= {"enable_fusion": fused, "fusion_type": "aff_2d" if fused else None}
    torch.manual_seed(0)
    model = ClapModel(ClapConfig(text_config=words, audio_config=audio, projection_dim=24)).eval()
    shake(model)
    model.save_pretrained(folder)
    extractor = ClapFeatureExtractor(frequency_min=50, truncation="fusion" if fused else "rand_trunc")
    ClapProcessor(extractor, tokenizer).save_pretrained(folder)
    return folder
