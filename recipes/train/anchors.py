"""clara-small in two stages that meet in anchors: one learned unit vector for every fact the shards are labelled with.

    python recipes/train/anchors.py --shards 'shards/*.tar' --text dir:runs/clara-small-text --out runs/clara-small

1. Audio: each clip is classified among the anchors (cosine softmax; what a clip was never labelled for is left out).
2. Text: every way to say a fact, in any language, is drawn to its anchor; two sounds in one sentence to their mean.

Anchors are orthogonal from the start and free to move, which the embeddings of a text tower are not: see LOG.md. The
data are those of clara-small-dev.yaml: EMO-DB, the Lithuanian words and ESC-50 fold 4 stay out. Cost: about ten minutes
on 2 CPU cores after clara-small-text.yaml.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.utils.data import DataLoader
from tqdm import tqdm

from clara.audio.augment import SpecAugment, SpecAugmentConfig
from clara.audio.features import pad_waves
from clara.config import build, load_yaml
from clara.data.loader import DataConfig, TrainBatches
from clara.model import DualEncoder
from clara.text.captions import CaptionConfig, Captioner, Fact, join, judge, open_tasks, verbalize
from clara.train.optim import EMA, OptimConfig, build_optimizer, learning_rate, set_learning_rate
from clara.zoo.factory import create_model, get_tokenizer, save_checkpoint

SCALE, LEAST_CLIPS = 16.0, 8
# No shard holds these: where the circumplex of affect (Russell 1980) puts them among facts that shards do hold.
UNHEARD: dict[Fact, list[Fact]] = {
    ("emotion", "boredom"): [("arousal", "low"), ("emotion", "calm")],
    ("emotion", "disgust"): [("emotion", "anger"), ("arousal", "neutral")],
}


class FactBatches(TrainBatches):
    """Item k: wave_BT, len_B, target_BK (rows sum to 1), ignore_BK over `vocabulary`, the facts with enough clips."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        counts: dict[Fact, int] = {}
        for entry in self.entries:
            for fact in entry.facts:
                counts[fact] = counts.get(fact, 0) + 1
        self.vocabulary = sorted(f for f, n in counts.items() if n >= LEAST_CLIPS)

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        clips = [
            self._clip(i, np.random.default_rng([self.seed, step, 3, n])) for n, i in enumerate(self.plan.batch(step))
        ]
        verdict = np.array([self._verdicts(clip) for clip in clips])
        wave_BT, len_B = pad_waves([torch.from_numpy(self._wave(c, step, n)) for n, c in enumerate(clips)])
        target_BK = torch.from_numpy(verdict == 1).float()
        keep_B = target_BK.sum(1) > 0  # a clip with a free text alone has no anchor
        target_BK = target_BK[keep_B] / target_BK[keep_B].sum(1, keepdim=True)
        return wave_BT[keep_B], len_B[keep_B], target_BK, torch.from_numpy(verdict == 0)[keep_B]

    def _verdicts(self, clip: dict[str, Any]) -> list[int]:
        inventory = self.captioner.inventory[str(clip["entry"].meta.get("corpus"))]
        may = open_tasks(clip["facts"])
        return [judge(frozenset({f}), clip["facts"], inventory, may) for f in self.vocabulary]


def said(model: DualEncoder, facts: list[Fact]) -> Tensor:
    """Where a trained text side puts each fact: the mean of sixteen ways to say it, (K, D)."""
    rng, captioner, tokenizer = np.random.default_rng(0), Captioner(CaptionConfig(), {}), get_tokenizer("clara-small")
    with torch.inference_mode():
        texts = [[verbalize(f, captioner.language(rng), rng) for _ in range(16)] for f in facts]
        means = [model.eval().encode_text(*tokenizer(t)).mean(0) for t in texts]
    return normalize(torch.stack(means), dim=-1).clone()


def fit_audio(model: DualEncoder, batches: FactBatches, start_KD: Tensor, steps: int, optim: OptimConfig) -> Tensor:
    """Train the audio side against anchors; the model ends with averaged weights. Returns the anchors, (K, D)."""
    anchors = nn.Parameter(start_KD)
    side = nn.ModuleDict({"audio": model.audio, "audio_head": model.audio_head})
    side.register_parameter("anchors", anchors)
    side.to(memory_format=torch.channels_last).train()
    optimizer, ema = build_optimizer(side, optim), EMA(side, 0.99)
    spec_augment = SpecAugment(SpecAugmentConfig(time_share=0.08, bin_masks=1, bin_share=0.12, shift_bins=1))
    loader = DataLoader(
        batches, batch_size=None, sampler=range(steps), num_workers=1, prefetch_factor=4,
        multiprocessing_context="forkserver",
    )  # fmt: skip
    progress = tqdm(loader, unit="step")
    for step, (wave_BT, len_B, target_BK, ignore_BK) in enumerate(progress):
        set_learning_rate(optimizer, learning_rate(step, steps, optim))
        features = spec_augment(*model.front_end(wave_BT, len_B))
        with torch.autocast("cpu", torch.bfloat16):
            embedding_BD = model.audio_head(model.audio(*features))
        logits_BK = SCALE * normalize(embedding_BD.float(), dim=-1) @ normalize(anchors, dim=-1).T
        loss = -(target_BK * logits_BK.masked_fill(ignore_BK, -1e4).log_softmax(1)).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(side.parameters(), 5.0)
        optimizer.step()
        ema.update(side, step)
        if step % 20 == 0:
            progress.set_postfix(loss=f"{float(loss.detach()):.3f}")
    side.load_state_dict(ema.tensors)
    return normalize(anchors.detach(), dim=-1)


def fit_text(model: DualEncoder, anchor_of: dict[Fact, Tensor], steps: int, optim: OptimConfig) -> None:
    """Draw every way to say a fact to its anchor: cross-entropy among all anchors, and among those of its task."""
    tokenizer, captioner = get_tokenizer("clara-small"), Captioner(CaptionConfig(english=0.15), {})
    facts = sorted(anchor_of)
    anchors_KD = torch.stack([anchor_of[f] for f in facts])
    task_K = np.array([f[0] for f in facts])
    sounds = [k for k, f in enumerate(facts) if f[0] == "sound"]
    side = nn.ModuleDict({"text": model.text, "text_head": model.text_head}).train()
    optimizer = build_optimizer(side, optim)
    progress = tqdm(range(steps), unit="step")
    for step in progress:
        set_learning_rate(optimizer, learning_rate(step, steps, optim))
        rng = np.random.default_rng([7, step])
        ids = np.concatenate([rng.permutation(len(facts))[:140], np.flatnonzero(task_K == "emotion").repeat(3)])
        pairs = [p for p in rng.choice(sounds, (24, 2)) if p[0] != p[1]]
        texts = [verbalize(facts[k], captioner.language(rng), rng) for k in ids]
        texts += [join({facts[a], facts[b]}, captioner.language(rng), rng) for a, b in pairs]
        pairs_PD = normalize(torch.stack([anchors_KD[a] + anchors_KD[b] for a, b in pairs]), dim=-1)
        with torch.autocast("cpu", torch.bfloat16):
            text_UD = model.encode_text(*tokenizer(texts))
        logits = SCALE * text_UD @ torch.cat([anchors_KD, pairs_PD]).T
        target = torch.cat([torch.from_numpy(ids), len(facts) + torch.arange(len(pairs))])
        same = torch.from_numpy(task_K[ids][:, None] == task_K[None])
        within = logits[: len(ids), : len(facts)].masked_fill(~same, -1e4)
        goal_UD = torch.cat([anchors_KD[ids], pairs_PD])
        loss = nn.functional.cross_entropy(logits, target) + nn.functional.cross_entropy(within, target[: len(ids)])
        loss = loss + 4.0 * (1.0 - (text_UD * goal_UD).sum(1)).mean()  # onto the anchor, not merely nearest to it
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(side.parameters(), 5.0)
        optimizer.step()
        progress.set_postfix(loss=f"{float(loss.detach()):.3f}")


def main(
    shards: Annotated[str, typer.Option(help="Glob of the shards.")],
    text: Annotated[str, typer.Option(help="Checkpoint of the text stage.")] = "dir:runs/clara-small-text",
    out: Annotated[Path, typer.Option()] = Path("runs/clara-small"),
    audio_steps: Annotated[int, typer.Option()] = 900,
    text_steps: Annotated[int, typer.Option()] = 200,
    lr: Annotated[float, typer.Option(help="Highest rate of the audio stage.")] = 1.5e-3,
    again: Annotated[bool, typer.Option("--again", help="TEXT is a result of this script: go on from it.")] = False,
) -> None:
    """Both stages, then the checkpoint folder."""
    seed = int(again)
    torch.manual_seed(seed)
    recipe = load_yaml(Path(__file__).with_name("clara-small-dev.yaml"))["data"] | {"shards": [shards]}
    model = create_model(text)
    batches = FactBatches(build(DataConfig, recipe), get_tokenizer(text), model.front_end.sample_rate, seed, (0, 1))
    start_KD = (
        said(model, batches.vocabulary) if again else torch.randn(len(batches.vocabulary), model.config.embed_dim)
    )
    optim = OptimConfig(lr=lr, weight_decay=0.05, betas=(0.9, 0.99), eps=1e-8, warmup_steps=50, grad_clip=5.0)
    anchors_KD = fit_audio(model, batches, start_KD, audio_steps, optim)
    model.log_scale.data.fill_(math.log(SCALE))
    save_checkpoint(out / "audio", model, get_tokenizer(text), f"# After {audio_steps} audio steps\n", torch.float32)
    anchor_of = dict(zip(batches.vocabulary, anchors_KD))
    for fact, parts in UNHEARD.items():
        anchor_of.setdefault(fact, normalize(torch.stack([anchor_of[p] for p in parts]).sum(0), dim=-1))
    fit_text(model, anchor_of, text_steps, OptimConfig(lr=8e-4, weight_decay=0.02, warmup_steps=20))
    made = f"# {out.name}\n\n{audio_steps} audio steps and {text_steps} text steps of recipes/train/anchors.py.\n"
    save_checkpoint(out / "checkpoint", model, get_tokenizer(text), made)


if __name__ == "__main__":
    typer.run(main)
