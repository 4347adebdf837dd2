"""Anchors, one free vector per fact of the shards: the model that audio is trained against them with, and the goals
that they are for texts afterwards."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from clara.config import ModelConfig, Spec
from clara.data.facts import named_fact, vocabulary
from clara.data.loader import DataConfig
from clara.errors import ClaraError, unknown
from clara.model import DualEncoder
from clara.saving import whole_file
from clara.text.captions import CaptionConfig, Captioner, Fact, verbalize
from clara.text.prompts import TASKS
from clara.text.tokenizer import FACTS, FactsConfig, FactsTokenizer, Tokenizer
from clara.zoo import factory

SAYINGS = 16


@dataclass(frozen=True)
class AnchorStage:
    """Training of the audio side against one vector per fact."""

    least_clips: int = 8
    """Clips a fact needs for an anchor."""
    scale: float = 16.0
    """Fixed inverse temperature."""
    fixed: bool = False
    """Keep the anchors of `init` where they are, so that texts and runs based on them still fit."""


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
    with whole_file(out / FACTS) as part:
        part.write_text("\n".join(names) + "\n", encoding="utf-8")
    tokenizer = FactsTokenizer(FactsConfig(), out)
    text = Spec("anchors", {"vocab_size": len(names), "width": base.embed_dim})
    model = DualEncoder(
        dataclasses.replace(
            base, text=text, text_head=Spec("identity"), tokenizer=Spec("facts"), init_scale=stage.scale, init_bias=None
        )
    )
    model.log_scale.requires_grad_(False)
    model.text.vectors.weight.requires_grad_(not stage.fixed)
    if stage.fixed and init is None:
        raise ClaraError("anchors.fixed without `init`: there are no anchors to keep.")
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


class Goals:
    """Anchors as what texts are drawn to: fact -> unit vector. `more` has those of other facts (clara.train.heard)."""

    def __init__(
        self,
        source: DualEncoder,
        facts: Sequence[str],
        unheard: Mapping[str, Sequence[str]],
        share: float = 1.0,
        more: Mapping[str, Tensor] | None = None,
    ) -> None:
        if not 0.0 < share <= 1.0:
            raise ClaraError(f"unheard_share={share}: expected more than 0, at most 1.")
        table_KD = normalize(source.text.vectors.weight.detach(), dim=-1)
        known = {name: table_KD[i] for i, name in enumerate(facts)}
        for name, parts in unheard.items():
            missing = [p for p in parts if p not in known]
            if missing:
                raise unknown(f"fact in unheard.{name}", missing[0], facts)
            between = normalize(torch.stack([known[p] for p in parts]).sum(0), dim=-1)
            known.setdefault(name, share * between + math.sqrt(1 - share**2) * _aside(list(known.values()), len(known)))
        known = {**(more or {}), **known}
        self.facts = [named_fact(name) for name in known]
        self.vector_KD, self.row = torch.stack(list(known.values())), {f: k for k, f in enumerate(self.facts)}
        self.tasks = [task for task, _ in self.facts]

    def by_task(self) -> dict[str, list[Fact]]:
        """The facts that have an anchor."""
        return {t: [f for f in self.facts if f[0] == t] for t in set(self.tasks) & set(TASKS)}

    def loss(self, text_UD: Tensor, facts: Sequence[frozenset[Fact]], scale: Tensor) -> Tensor:
        """Of the texts whose facts all have anchors: cross-entropy among all anchors and, for one fact, among those of
        its task, plus four times the cosine distance: onto the anchor, not merely nearest to it."""
        rows = [u for u, f in enumerate(facts) if f and all(x in self.row for x in f)]
        if not rows:
            return 0.0 * text_UD.sum()
        text_UD, goals = text_UD[rows], [sorted(facts[u]) for u in rows]
        goal_UD = normalize(torch.stack([self.vector_KD[[self.row[f] for f in g]].sum(0) for g in goals]), dim=-1)
        near = 4.0 * (1.0 - (text_UD * goal_UD).sum(1)).mean()
        single = torch.tensor([len(g) == 1 for g in goals])
        if not single.any():
            return near
        target = torch.tensor([self.row[g[0]] for g in goals])[single]
        logits = scale * text_UD[single] @ self.vector_KD.T
        same = torch.tensor([[self.tasks[k] == t for k in range(len(self.tasks))] for t in sorted(set(self.tasks))])
        index = {t: i for i, t in enumerate(sorted(set(self.tasks)))}
        mine = same[[index[self.tasks[k]] for k in target.tolist()]]
        among = cross_entropy(logits, target) + cross_entropy(logits.masked_fill(~mine, -1e4), target)
        return among + near


def _aside(known: Sequence[Tensor], seed: int) -> Tensor:
    """A unit vector as far from all `known` as their number allows: a drawn one less what the strongest directions
    of theirs hold of it."""
    drawn = torch.randn(len(known[0]), generator=torch.Generator().manual_seed(seed))
    _, strength, basis = torch.linalg.svd(torch.stack(list(known)), full_matrices=True)
    taken = basis[: min(len(strength), len(drawn) // 2)]
    return normalize(drawn - (taken @ drawn) @ taken, dim=0)
