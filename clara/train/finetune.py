"""Fine-tuning in one line: a table of clips and a checkpoint -> another checkpoint."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from clara.config import build, override, to_dict
from clara.data.clip_tables import TABLE, read_rows
from clara.data.loader import DataConfig
from clara.data.manifest import Row
from clara.data.shards import ShardConfig, write_shards
from clara.data.states import StatesConfig
from clara.errors import ClaraError, unknown
from clara.model import DualEncoder
from clara.saving import whole_file
from clara.text.captions import CaptionConfig
from clara.text.tokenizer import Tokenizer
from clara.towers.base import AudioTower
from clara.train.checkpoint import newest
from clara.train.estimate import estimate, told
from clara.train.held_out import Judge, hold_out
from clara.train.log import sole_run
from clara.train.optim import GroupConfig, OptimConfig
from clara.train.recipe import TrainConfig, check
from clara.train.trainer import run
from clara.zoo import factory

EPOCHS, MIN_STEPS, MAX_BATCH = 20, 60, 64
PARTS = ("auto", "heads", "all")
JUDGED = 5  # times in a run
TAKES, HEADS_LR = 2, 1e-3


def finetune(
    csv: Any,
    init: str,
    out: str | Path,
    overrides: Sequence[str] = (),
    broken: Callable[[str], None] | None = None,
    parts: str = "auto",
) -> Path:
    """Train the checkpoint `init` further on a table of clips; the same call goes on from where an earlier one stopped.

    The estimated time is printed first. Some clips are held out: after every fifth of the steps the model is judged on
    them, and the state that did best is what is exported.

    Args:
        csv: a table with a header. `audio`: path, relative to the table. `text`: a caption; a clip with several of
            them, or with several sounds as `label`, has several rows, which agree in all else. Instead of it or beside
            it `emotion`, or `label` with its `task` (sound, instrument, word, arousal), which are captioned in every
            language; a `label` alone serves as the text. Optional: `language` (spoken), `speaker`, `split` (only
            'train', the default, is trained on; the others judge, and where there are none, a share is held out). Or a
            folder that has a folder of clips for each label; or such a table as Python holds it, a DataFrame, a
            Dataset or a list of dictionaries (`clara.data.clip_tables`).
        init: the checkpoint to start from, as for `clara.load`.
        out: folder of the run; the clips are packed into `out`/shards first.
        overrides: settings of the recipe, such as 'steps=500' or 'optim.lr=0.0001'.
        broken: called with the reason for each unreadable clip, which is left out; without it such a clip is an error.
        parts: "heads" trains what follows the audio encoder, and the text head, on what the encoder gave once; "all"
            trains both towers; "auto" is "heads" on a CPU.

    Returns:
        `out`/checkpoint, for `clara.load('dir:…')`.

    Raises:
        ClaraError: a mistake in the table, with its place, an `out` that was trained on other clips or texts, and all
            that `train` raises.
    """
    if parts not in PARTS:
        raise unknown("part to train", parts, PARTS)
    rows = hold_out(read_rows(csv, Path(out) / "clips"))
    table = Path(csv) if isinstance(csv, str | os.PathLike) else TABLE
    count = sum(row.split == "train" for row in rows)
    if count < 2:
        raise ClaraError(f"{table} holds {count} clips of split 'train': contrastive training needs at least 2.")
    model, tokenizer = factory.create_model(init), factory.get_tokenizer(init)
    base = recipe(count, init, Path(out), model.front_end.window_seconds)
    if parts == "heads" or (parts == "auto" and not torch.cuda.is_available()):
        base = heads_only(base, model)
    config = build(TrainConfig, override(to_dict(base), overrides), where="fine-tuning")
    check(config)  # before the clips are packed
    with sole_run(Path(config.out)):
        _keep_to_one_table(rows, table, Path(config.out))
        print(f"about {told(estimate(config, rows, model, tokenizer))} on this machine", flush=True)
        judge = _judge(rows, model, tokenizer, config, broken)
        packing = ShardConfig(sample_rate=model.front_end.sample_rate, on_error="skip" if broken else "raise")
        taught = [row for row in rows if row.split == "train"]
        index = write_shards(taught, Path(out) / "shards", packing)
        for skipped in (s for shard in index["shards"] for s in shard["skipped"]):
            broken(skipped["why"])
        return run(config, held=True, judge=judge)


def _judge(
    rows: Sequence[Row], model: DualEncoder, tokenizer: Tokenizer, config: TrainConfig, broken: Callable | None
) -> Judge | None:
    """Who judges the run, having said how the checkpoint does before it; None where no clip is held out."""
    if all(row.split == "train" for row in rows):
        print("no clips are held out: how well it works is not known", flush=True)
        return None
    judge = Judge(rows, tokenizer, Path(config.out), model.front_end.sample_rate, broken)
    if not judge.clips:
        return None
    print(f"before training: held-out accuracy {judge.score(model)[0]:.3f} on {len(judge.clips)} clips", flush=True)
    return judge


def heads_only(config: TrainConfig, model: DualEncoder) -> TrainConfig:
    """The recipe with the trunk frozen: the audio encoder, or where a tower has no such part the whole of it, and the
    text tower. What the encoder gives is stored once where the tower can go on from it."""
    stored = type(model.audio).states is not AudioTower.states and getattr(model.audio, "rest", None) is not None
    audio = "audio.encoder.*" if stored else "audio.*"
    groups = tuple(GroupConfig(match, 0.0) for match in (audio, "text.*"))
    states = StatesConfig(f"{config.out}/states", TAKES) if stored else None
    optim = replace(config.optim, lr=HEADS_LR, groups=groups)
    return replace(config, optim=optim, states=states)


def _keep_to_one_table(rows: Sequence[Row], csv: Path, out: Path) -> None:
    """A run that goes on, or is done, would say nothing of a table that was mended since."""
    facts = [{**vars(r), "audio": os.path.relpath(r.audio, csv.parent)} for r in rows if r.split == "train"]
    digest, mark = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest(), out / "table.sha256"
    if newest(out) and mark.is_file() and mark.read_text(encoding="utf-8") != digest:
        raise ClaraError(f"{out} was trained on other rows than {csv} holds now: choose another --out, or delete it.")
    out.mkdir(parents=True, exist_ok=True)
    with whole_file(mark) as part:
        part.write_text(digest, encoding="utf-8")


def recipe(clips: int, init: str, out: Path, window_seconds: float) -> TrainConfig:
    """The recipe for so many clips: every one of them about 20 times, the text tower ten times slower."""
    batch = min(MAX_BATCH, clips)
    steps = max(MIN_STEPS, EPOCHS * clips // batch)
    captions = CaptionConfig(original=1.0, attributes=0.0)
    return TrainConfig(
        data=DataConfig((str(out / "shards"),), batch, crop_seconds=window_seconds, captions=captions),
        steps=steps,
        out=str(out),
        init=init,
        optim=OptimConfig(lr=3e-4, warmup_steps=steps // 10, groups=(GroupConfig("text*", 0.1),)),
        ema=0.99,
        save_every=max(1, steps // JUDGED),
    )
