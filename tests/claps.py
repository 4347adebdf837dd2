"""Tiny models of the peers with random weights, written as the peers write theirs."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn
from vocabularies import save_gpt2

TEXTS = ["a dog barks", "the sound of heavy rain, and somebody who is very angry", "music"]


def save_roberta(folder: Path) -> Path:
    """roberta-base's files with a few merges: <s> is 0, <pad> 1, </s> 2, <unk> 3, <mask> the last, as there."""
    save_gpt2(folder)
    tokens = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *(t for t in tokens if t != "<|endoftext|>"), "<mask>"]
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "RobertaTokenizer"}))
    (folder / "config.json").write_text(json.dumps({"model_type": "roberta"}))
    return folder


def shake(model: nn.Module) -> None:
    """Every parameter moved and every batch norm given statistics: what is zero or one at first would hide faults."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.requires_grad and not name.startswith("logit_scale"):  # fixed filters stay as they are
                p.add_((0.3 if "bias_table" in name else 0.05) * torch.randn_like(p))
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                level = 20.0 if module.num_features == 64 else 1.0  # decibels, or features
                module.running_mean.copy_(level * (torch.randn_like(module.running_mean) - 1))
                module.running_var.copy_(level**2 * (torch.rand_like(module.running_var) + 0.5))


PUBLISHED = {
    "tiny": {},  # clap-htsat-unfused, clap-htsat-fused
    "base": {"patch_embeds_hidden_size": 128, "depths": [2, 2, 12, 2], "hidden_size": 1024},  # larger_clap_*
}


def save_clap(folder: Path, fused: bool = False, full: str | None = None) -> Path:
    """A ClapModel folder as `save_pretrained` of model and processor write it; `full`: as large as the published."""
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor, RobertaTokenizer

    tokenizer = RobertaTokenizer.from_pretrained(str(save_roberta(folder / "bpe")))
    audio = {"patch_embeds_hidden_size": 16, "depths": [2, 2], "num_attention_heads": [2, 4], "hidden_size": 32}
    words = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    words |= {"max_position_embeddings": 82}
    audio, words = (dict(PUBLISHED[full]), {}) if full else (audio, words)
    audio |= {"enable_fusion": fused, "fusion_type": "aff_2d" if fused else None}
    config = ClapConfig(
        text_config={"vocab_size": len(tokenizer), **words}, audio_config=audio, projection_dim=512 if full else 24
    )
    torch.manual_seed(0)
    model = ClapModel(config).eval()
    shake(model)
    model.save_pretrained(folder)
    extractor = ClapFeatureExtractor(frequency_min=50, truncation="fusion" if fused else "rand_trunc")
    ClapProcessor(extractor, tokenizer).save_pretrained(folder)
    return folder
