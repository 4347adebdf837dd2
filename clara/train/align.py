"""The text stage: translations and rewordings of one meaning become neighbours before any audio is heard.

A text tower that starts at random is label noise for the audio tower: the same class arrives as hundreds of unrelated
strings. Here texts that claim the same facts, in any language and template, are each other's positives (InfoNCE between
two verbalisations of every fact of a batch), which costs minutes and needs no recording.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from clara.config import arch_config, build, load_yaml, override
from clara.errors import ClaraError, unknown
from clara.losses import info_nce
from clara.model import DualEncoder
from clara.text.captions import CaptionConfig, Captioner, Fact, join, verbalize
from clara.text.prompts import TASKS, languages, load_language, task_labels
from clara.text.tokenizer import build_tokenizer
from clara.train.optim import OptimConfig, build_optimizer, learning_rate, set_learning_rate
from clara.zoo.factory import create_model, load_strictly, save_checkpoint


@dataclass(frozen=True)
class AlignConfig:
    """`counts`: so many different facts of each task a batch (fewer where the task has fewer); `pairs`: so many pairs
    of sounds, said in one sentence. Every fact is said twice, in languages drawn by `captions`. `weights`: of each
    task's own loss, 1 where not named; `init`: a checkpoint whose text side to go on from."""

    model: str
    steps: int
    out: str
    counts: dict[str, int] = field(default_factory=dict)
    pairs: int = 24
    weights: dict[str, float] = field(default_factory=dict)
    init: str | None = None
    captions: CaptionConfig = CaptionConfig()
    optim: OptimConfig = OptimConfig()
    seed: int = 0
    threads: int | None = None


def facts_of_task(task: str) -> list[Fact]:
    """Every fact of a task that the language files can say; a word is another fact in each language it is spoken in."""
    if task not in TASKS:
        raise unknown("task in counts", task, TASKS)
    if task == "word":
        return [("word", f"{code}:{key}") for code in languages() for key in load_language(code).terms["word"]]
    return [(task, key) for key in task_labels(task)]


def draw(config: AlignConfig, captioner: Captioner, step: int) -> tuple[list[str], list[str], list[str]]:
    """Two texts for every fact set of batch `step`, and its task: equally long lists, entry i of both texts means the
    same."""
    rng = np.random.default_rng([config.seed, step])
    chosen: list[frozenset[Fact]] = []
    for task, count in config.counts.items():
        known = facts_of_task(task)
        chosen += [frozenset({known[i]}) for i in rng.permutation(len(known))[:count]]
    sounds = facts_of_task("sound")
    pairs = {frozenset({sounds[i], sounds[j]}) for i, j in rng.integers(len(sounds), size=(config.pairs, 2)) if i != j}
    chosen += sorted(pairs, key=sorted)

    chosen.sort(key=lambda facts: min(facts)[0])

    def say(facts: frozenset[Fact]) -> str:
        language = captioner.language(rng)
        return join(facts, language, rng) if len(facts) > 1 else verbalize(next(iter(facts)), language, rng)

    return [say(f) for f in chosen], [say(f) for f in chosen], [min(f)[0] for f in chosen]


def loss_of(
    one_UD: Tensor, two_UD: Tensor, tasks: Sequence[str], weights: Mapping[str, float], scale: Tensor
) -> Tensor:
    """InfoNCE over all facts, plus the weighted mean of InfoNCE within each task: nine emotions in one template differ
    by one word, and among two hundred facts nothing would ask for more."""
    parts, total = [], 0.0
    for task in sorted(set(tasks)):
        rows = torch.tensor([t == task for t in tasks])
        weight = weights.get(task, 1.0)
        parts.append(weight * info_nce(one_UD[rows], two_UD[rows], scale))
        total += weight
    return info_nce(one_UD, two_UD, scale) + torch.stack(parts).sum() / total


def align(recipe: str | Path, overrides: Sequence[str] = ()) -> Path:
    """Train the text side of a model by a recipe (YAML of `AlignConfig`) and save it as a checkpoint folder, `out`.

    Its audio side is as at initialisation: start `clara train` from it with `init: dir:OUT`.

    Raises:
        ClaraError: a mistake in the recipe, or a loss that is not finite.
    """
    config = build(AlignConfig, override(load_yaml(recipe), overrides), where=Path(recipe).name)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    spec = arch_config(config.model)
    model, tokenizer = DualEncoder(spec), build_tokenizer(spec.tokenizer)
    if config.init:
        load_strictly(model, create_model(config.init).state_dict(), f"init {config.init!r}")
    captioner = Captioner(config.captions, {})
    side = nn.ModuleDict({"text": model.text, "text_head": model.text_head})
    side.register_parameter("log_scale", model.log_scale)
    optimizer = build_optimizer(side, config.optim)
    progress = tqdm(range(config.steps), unit="step")
    for step in progress:
        set_learning_rate(optimizer, learning_rate(step, config.steps, config.optim))
        one, two, tasks = draw(config, captioner, step)
        with torch.autocast("cpu", torch.bfloat16):
            text_UD = model.encode_text(*tokenizer(one + two))
        loss = loss_of(*text_UD.split(len(one)), tasks, config.weights, model.scale)
        if not torch.isfinite(loss):
            raise ClaraError(f"Step {step}: the loss is {float(loss)}. Lower optim.lr and run again.")
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(side.parameters(), config.optim.grad_clip or float("inf"))
        optimizer.step()
        progress.set_postfix(loss=f"{float(loss.detach()):.3f}", scale=f"{float(model.scale.detach()):.1f}")
    card = f"# {Path(config.out).name}\n\nText side only, after {config.steps} steps of {Path(recipe).name}.\n"
    return save_checkpoint(config.out, model, tokenizer, card, torch.float32)
