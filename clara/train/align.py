"""The text stage: translations and rewordings of one meaning become neighbours before any audio is heard.

A text tower that starts at random is label noise for the audio tower: the same class arrives as hundreds of unrelated
strings. Here texts that claim the same facts, in any language and template, are each other's positives (InfoNCE between
two verbalisations of every fact of a batch), which costs minutes and needs no recording.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clara.config import arch_config, build, load_yaml, override, to_dict
from clara.data.entries import scan
from clara.data.loader import DataConfig
from clara.errors import ClaraError
from clara.layers import bf16_pays
from clara.losses import multi_positive
from clara.model import DualEncoder
from clara.text.captions import CaptionConfig, Captioner
from clara.text.tokenizer import FactsTokenizer, SentencePiece, Tokenizer, build_tokenizer
from clara.train import checkpoint
from clara.train.anchors import Goals
from clara.train.heard import HeardConfig, heard
from clara.train.log import running, sole_run
from clara.train.optim import (
    EMA,
    OptimConfig,
    build_optimizer,
    learning_rate,
    set_learning_rate,
)
from clara.train.texts import LooseConfig, Names, NamesConfig, Pair, Sayer, draw
from clara.zoo.factory import create_model, get_tokenizer, load_strictly, save_checkpoint
from clara.zoo.lineage import heard_corpora, inherited, with_front
from clara.zoo.loading import load

GROUPS = 6  # of texts of like length per batch: a batch's longest text is three times its mean


@dataclass(frozen=True)
class AlignConfig:
    """Training of the text side alone. Every fact is worded twice, in languages drawn by `captions`."""

    model: str
    """Architecture by name."""
    steps: int
    """Optimiser steps."""
    out: str
    """Folder of the run."""
    counts: dict[str, int] = field(default_factory=dict)
    """Facts per task and batch, repeated where the task has fewer."""
    pairs: int = 24
    """Pairs of sounds per batch, worded in one sentence."""
    joints: int = 0
    """Other sentences per batch that claim several facts (a voice over a sound, an angry low voice)."""
    weights: dict[str, float] = field(default_factory=dict)
    """Weight of each task's own loss; 1 where not named."""
    names: NamesConfig | None = None
    """Further translations (emoji names); null = none."""
    init: str | None = None
    """Checkpoint whose text side is the start; null = random weights."""
    anchors: str | None = None
    """Checkpoint trained against anchors, whose audio side the result gets; null = none."""
    heard: HeardConfig | None = None
    """Clips that give anchors to facts the audio was not trained on; null = none."""
    unheard: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Facts without an anchor -> the facts whose anchors they lie between."""
    unheard_share: float = 1.0
    """Share of its length that such an anchor has in common with them, 0 to 1."""
    pull: float = 1.0
    """Weight with which texts are drawn to their fact's anchor."""
    far_languages: tuple[str, ...] = ()
    """Languages drawn to their twin in another language instead of the anchor."""
    captions: CaptionConfig = CaptionConfig()
    """How facts are worded."""
    loose: LooseConfig = LooseConfig()
    """Phrasings that no template has."""
    optim: OptimConfig = OptimConfig()
    """Optimiser and schedule."""
    ema: float | None = 0.998
    """Decay of the exponential moving average of the weights; null = off."""
    seed: int = 0
    """Seed of all draws."""
    threads: int | None = None
    """PyTorch threads of this process; null = PyTorch's choice."""
    save_every: int = 200
    """Steps between saved states."""
    log_every: int = 20
    """Steps between log lines."""
    keep: int = 1
    """Saved states to keep."""


def loss_of(
    one_UD: Tensor, two_UD: Tensor, pairs: Sequence[Pair], weights: Mapping[str, float], scale: Tensor
) -> Tensor:
    """InfoNCE over all pairs (those of the same facts are each other's positives), plus the weighted mean of InfoNCE
    within each task: nine emotions in one template differ by one word, and among two hundred facts nothing would ask
    for more."""
    first: dict[object, int] = {}
    group_U = torch.tensor([first.setdefault(p.facts or i, i) for i, p in enumerate(pairs)])
    same_UU, parts, total = group_U[:, None] == group_U[None], [], 0.0
    for task in sorted({p.task for p in pairs}):
        rows = torch.tensor([p.task == task for p in pairs])
        weight = weights.get(task, 1.0)
        parts.append(weight * multi_positive(one_UD[rows], two_UD[rows], same_UU[rows][:, rows], scale))
        total += weight
    return multi_positive(one_UD, two_UD, same_UU, scale) + torch.stack(parts).sum() / total


def align(recipe: str | Path, overrides: Sequence[str] = ()) -> Path:
    """Train the text side of a model by a recipe (YAML of `AlignConfig`), from the newest state in its `out` if any.

    Without `anchors` its audio side is as at initialisation (or as in `init`): start `clara train` from it with
    `init: dir:OUT/checkpoint`.

    Returns:
        The exported checkpoint folder, `out`/checkpoint: the averaged weights, in float32.

    Raises:
        ClaraError: a mistake in the recipe, or a loss that is not finite.
        SystemExit: SIGINT or SIGTERM came; the state is saved and the same call goes on from it.
    """
    config = build(AlignConfig, override(load_yaml(recipe), overrides), where=Path(recipe).name)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    with sole_run(Path(config.out)):
        return Aligner(config).run()


class Aligner:
    """A text side in training: `run` makes the steps that are left and exports."""

    def __init__(self, config: AlignConfig) -> None:
        self.config, self.out, self.done = config, Path(config.out), 0
        self.model, self.tokenizer, self.goals = _start(config)
        self.names = Names(config.names) if config.names else None
        self.sayer = Sayer(Captioner(config.captions, {}), config.loose)
        self.known = self.goals.by_task() if self.goals else {}
        self.side = nn.ModuleDict({"text": self.model.text, "text_head": self.model.text_head})
        if self.goals is None:
            self.side.register_parameter("log_scale", self.model.log_scale)
        self.optimizer = build_optimizer(self.side, config.optim)
        self.ema = EMA(self.side, config.ema) if config.ema is not None else None

    def run(self) -> Path:
        """Resume, train, export; the exported folder."""
        self.out.mkdir(parents=True, exist_ok=True)
        c = self.config
        resumed, self.done = checkpoint.resume(self.out, c, self.side, self.optimizer, self.ema)
        with running(self.out, self.done, c.steps, resumed=resumed) as (log, interrupt):
            while self.done < c.steps and not interrupt.number:
                values = self.step()
                log.count(0, 0.0)
                if self.done % c.log_every == 0 or self.done == c.steps:
                    log.write(self.done, values)
                if self.done % c.save_every == 0 and self.done < c.steps:
                    self.save()
        self.save()
        if self.done < c.steps:
            interrupt.leave(self.done, self.out)
        return self.out / "checkpoint"

    def step(self) -> dict[str, float]:
        """One update; its loss, lr and scale. ClaraError, before any weight moved, when not finite."""
        c, model = self.config, self.model
        torch.manual_seed(int(np.random.SeedSequence([c.seed, self.done]).generate_state(1)[0]))
        lr = learning_rate(self.done, c.steps, c.optim)
        set_learning_rate(self.optimizer, lr)
        rng = np.random.default_rng([c.seed, self.done])
        pairs = draw(c.counts, (c.pairs, c.joints), self.sayer, rng, self.known, self.names)
        text_UD = encode(model, self.tokenizer, [p.one for p in pairs] + [p.two for p in pairs])
        loss = loss_of(*text_UD.split(len(pairs)), pairs, c.weights, model.scale)
        if self.goals:
            loss = loss + c.pull * self.pull(text_UD, pairs)
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.side.parameters(), c.optim.grad_clip or math.inf)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            raise ClaraError(
                f"Step {self.done}: loss {float(loss)}, gradient norm {float(norm)}. Last good checkpoint: "
                f"{checkpoint.newest(self.out) or 'none yet'}. Lower optim.lr and run again."
            )
        self.optimizer.step()
        if self.ema:
            self.ema.update(self.side, self.done)
        self.done += 1
        return {"loss": float(loss.detach()), "lr": lr, "scale": float(model.scale.detach())}

    def pull(self, text_UD: Tensor, pairs: Sequence[Pair]) -> Tensor:
        """Texts of languages with anchors to their anchors, the others' to where their twins of such languages are."""
        far_U = torch.tensor([p.languages[i] in self.config.far_languages for i in (0, 1) for p in pairs])
        facts = [frozenset() if far else p.facts for p, far in zip((*pairs, *pairs), far_U.tolist(), strict=True)]
        loss = self.goals.loss(text_UD, facts, self.model.scale)
        twin_UD, twin_far_U = text_UD.detach().roll(len(pairs), 0), far_U.roll(len(pairs), 0)
        led_U = far_U & ~twin_far_U
        return loss + 4.0 * (1.0 - (text_UD * twin_UD).sum(1))[led_U].sum() / max(1, int(led_U.sum()))

    def save(self) -> None:
        """Write the training state, and export what it gives as a model now."""
        c = self.config
        state = checkpoint.state_of(self.side, self.optimizer, self.ema)
        checkpoint.save(self.out, self.done, state, to_dict(c), c.keep)
        model = copy.deepcopy(self.model)
        if self.ema:
            model.load_state_dict(model.state_dict() | self.ema.tensors)
        audio = f"the audio side of {c.anchors}" if c.anchors else "no audio"
        card = f"# {self.out.name}\n\nText side after {self.done} of {c.steps} steps; {audio}.\n"
        save_checkpoint(self.out / "checkpoint", model, self.tokenizer, with_front(self.lineage, card), torch.float32)

    @functools.cached_property
    def lineage(self) -> dict[str, Any]:
        """What its starts were trained on and their licences, and the clips that gave anchors."""
        c, clips = self.config, []
        if c.heard:
            h = c.heard
            clips = scan(DataConfig(h.shards, 1, splits=h.splits, exclude_corpora=h.exclude_corpora))
        starts = [name for name in (c.init, c.anchors) if name]
        return inherited(starts, heard_corpora(e.meta for e in clips))


def encode(model: DualEncoder, tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """Embeddings (U, D) of texts, in bf16 and by groups of like length: in one, most of the work would be padding."""
    ids_UL, mask_UL = tokenizer(list(texts))
    length_U = mask_UL.sum(1)
    order_U, parts = length_U.argsort(), []
    for rows in order_U.chunk(GROUPS):
        longest = int(length_U[rows].max())
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16_pays("cpu")):
            parts.append(model.encode_text(ids_UL[rows, :longest], mask_UL[rows, :longest]))
    return torch.cat(parts)[order_U.argsort()]


def _start(config: AlignConfig) -> tuple[DualEncoder, Tokenizer, Goals | None]:
    """The model as it starts out, its tokenizer, and the anchors if there are any."""
    spec = arch_config(config.model)
    model, tokenizer = DualEncoder(spec), build_tokenizer(spec.tokenizer)
    if config.init:
        tensors = create_model(config.init).state_dict()
        if (old := get_tokenizer(config.init)).vocab_size != tokenizer.vocab_size:
            tensors["text.tokens.weight"] = carried_over(tensors["text.tokens.weight"], old, tokenizer)
        load_strictly(model, tensors, f"init {config.init!r}")
    if config.anchors is None:
        return model, tokenizer, None
    zoo = load(config.anchors, device="cpu")
    source, facts = zoo.model, zoo.tokenizer
    if not isinstance(facts, FactsTokenizer):
        raise ClaraError(
            f"anchors {config.anchors!r} has no anchors: expected a checkpoint of a recipe with `anchors`."
        )
    audio = {n: t for n, t in source.state_dict().items() if not n.startswith(("text.", "text_head."))}
    text = {n: t for n, t in model.state_dict().items() if n not in audio}
    load_strictly(model, {**text, **audio}, f"anchors {config.anchors!r}")
    more = heard(zoo, config.heard, set(facts.facts)) if config.heard else {}
    return model, tokenizer, Goals(source, facts.facts, config.unheard, config.unheard_share, more)


def carried_over(table_VW: Tensor, old: Tokenizer, new: Tokenizer) -> Tensor:
    """Token embeddings for another sentencepiece vocabulary: a piece that both have keeps its own, a new one starts as
    the mean of the old pieces that it is made of."""
    if not (isinstance(old, SentencePiece) and isinstance(new, SentencePiece)):
        raise ClaraError("init: its tokenizer is another, and only sentencepiece vocabularies can be carried over.")
    known = {old.processor.id_to_piece(i): i for i in range(old.vocab_size)}
    rows = []
    for i in range(new.vocab_size):
        piece = new.processor.id_to_piece(i)
        ids = [known[piece]] if piece in known else old.processor.encode(piece.replace("▁", " ")) or [old.pad_id]
        rows.append(table_VW[ids].mean(0))
    return torch.stack(rows)
