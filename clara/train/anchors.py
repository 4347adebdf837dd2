"""The model that trains audio against anchors: its text side is one free vector a fact of the shards."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from clara.config import ModelConfig, Spec
from clara.data.facts import named_fact, vocabulary
from clara.data.loader import DataConfig
from clara.model import DualEncoder
from clara.text.captions import CaptionConfig, Captioner, verbalize
from clara.text.tokenizer import FACTS, FactsConfig, FactsTokenizer, Tokenizer
from clara.zoo import factory

SAYINGS = 16


@dataclass(frozen=True)
class AnchorStage:
    """`least_clips`: a fact needs so many clips for an anchor; `scale`: the fixed inverse temperature."""

    least_clips: int = 8
    scale: float = 16.0


def anchor_model(
    stage: AnchorStage, base: ModelConfig, data: DataConfig, init: str | None, out: Path
) -> tuple[DualEncoder, FactsTokenizer]:
    """`base` with anchors for its text side, and their tokenizer (its file is written into `out`).

    Args:
        init: a checkpoint whose audio side is the start. Its anchors are too, by name, where it has any; where it has
            words, an anchor starts where the words for the fact lie. Without `init` all starts at random.
    """
    names = vocabulary(data, stage.least_clips)
    out.mkdir(parents=True, exist_ok=True)
    (out / FACTS).write_text("\n".join(names) + "\n", encoding="utf-8")
    tokenizer = FactsTokenizer(FactsConfig(), out)
    text = Spec("anchors", {"vocab_size": len(names), "width": base.embed_dim})
    model = DualEncoder(
        dataclasses.replace(
            base, text=text, text_head=Spec("identity"), tokenizer=Spec("facts"), init_scale=stage.scale, init_bias=None
        )
    )
    model.log_scale.requires_grad_(False)
    if init is not None:
        start(model, names, factory.create_model(init), factory.get_tokenizer(init), init)
    return model, tokenizer


def start(model: DualEncoder, names: list[str], source: DualEncoder, tokenizer: Tokenizer, where: str) -> None:
    """Copy the audio side of `source`, and its anchors or where its words lie. ClaraError when the sides differ."""
    audio = {n: t for n, t in source.state_dict().items() if n.startswith(("front_end.", "audio.", "audio_head."))}
    own = {n: t for n, t in model.state_dict().items() if n not in audio}
    factory.load_strictly(model, {**own, **audio}, f"init {where!r}")
    table_KD = model.text.vectors.weight
    with torch.no_grad():
        if isinstance(tokenizer, FactsTokenizer):
            for row, name in enumerate(names):
                if name in tokenizer.ids:
                    table_KD[row] = source.text.vectors.weight[tokenizer.ids[name]]
        else:
            table_KD.copy_(said(source, tokenizer, names))


@torch.inference_mode()
def said(model: DualEncoder, tokenizer: Tokenizer, names: list[str]) -> Tensor:
    """Where a trained text side puts each fact: the mean of sixteen ways to say it, in any language. (K, D)."""
    rng, captioner = np.random.default_rng(0), Captioner(CaptionConfig(), {})
    rows = []
    for name in names:
        fact = named_fact(name)
        texts = [verbalize(fact, captioner.language(rng), rng) for _ in range(SAYINGS)]
        rows.append(model.eval().encode_text(*tokenizer(texts)).mean(0))
    return normalize(torch.stack(rows), dim=-1) * math.sqrt(model.config.embed_dim)
