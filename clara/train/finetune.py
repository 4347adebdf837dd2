"""Fine-tuning in one line: a table of clips and a checkpoint -> another checkpoint."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from clara.audio.sources import expand
from clara.config import build, override, to_dict
from clara.data.loader import DataConfig
from clara.data.manifest import Row, clips_of_table, numbered_table
from clara.data.shards import ShardConfig, write_shards
from clara.errors import ClaraError, unknown
from clara.saving import whole_file
from clara.text.captions import SOUND_TASKS, CaptionConfig, facts_of, known
from clara.text.prompts import task_labels
from clara.train.checkpoint import newest
from clara.train.log import sole_run
from clara.train.optim import GroupConfig, OptimConfig
from clara.train.recipe import TrainConfig, check
from clara.train.trainer import run
from clara.zoo import factory

SPLITS = ("train", "valid", "test")
EPOCHS, MIN_STEPS, MAX_BATCH = 20, 60, 64


def finetune(
    csv: str | Path,
    init: str,
    out: str | Path,
    overrides: Sequence[str] = (),
    broken: Callable[[str], None] | None = None,
) -> Path:
    """Train the checkpoint `init` further on a table of clips; the same call goes on from where an earlier one stopped.

    Args:
        csv: a table with a header. `audio`: path, relative to the table. `text`: a caption; a clip with several of
            them, or with several sounds as `label`, has several rows, which agree in all else. Instead of it or beside
            it `emotion`, or `label` with its `task` (sound, instrument, word, arousal), which are captioned in every
            language; a `label` alone serves as the text. Optional: `language` (spoken), `split` (only 'train', the
            default, is trained on).
        init: the checkpoint to start from, as for `clara.load`.
        out: folder of the run; the clips are packed into `out`/shards first.
        overrides: settings of the recipe, such as 'steps=500' or 'optim.lr=0.0001'.
        broken: is told why a clip cannot be read, and the clip is left out; without it such a clip is an error.

    Returns:
        `out`/checkpoint, for `clara.load('dir:…')`.

    Raises:
        ClaraError: a mistake in the table, with its place, an `out` that was trained on other clips or texts, and all
            that `train` raises.
    """
    rows = read_rows(Path(csv))
    count = sum(row.split == "train" for row in rows)
    if count < 2:
        raise ClaraError(f"{csv} holds {count} clips of split 'train': contrastive training needs at least 2.")
    front_end = factory.create_model(init).front_end
    config = override(to_dict(recipe(count, init, Path(out), front_end.window_seconds)), overrides)
    config = build(TrainConfig, config, where="fine-tuning")
    check(config)  # before the clips are packed
    with sole_run(Path(config.out)):
        _keep_to_one_table(rows, Path(csv), Path(config.out))
        packing = ShardConfig(sample_rate=front_end.sample_rate, on_error="skip" if broken else "raise")
        index = write_shards(rows, Path(out) / "shards", packing)
        for skipped in (s for shard in index["shards"] for s in shard["skipped"]):
            broken(skipped["why"])
        return run(config, held=True)


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
    )


def read_rows(csv: Path) -> list[Row]:
    """The clips of the table, in order, or of a folder with a folder of clips for each label. ClaraError
    with file and line for what is missing or unknown."""
    if csv.is_dir():
        return _rows_of_folders(csv)
    found = [_row(cells, csv, where) for where, cells in clips_of_table(csv, numbered_table(csv, ["audio"]))]
    missing = [row.audio for row in found if not Path(row.audio).is_file()]
    if missing:
        raise ClaraError(f"{csv}: {len(missing)} of {len(found)} files are missing: {', '.join(missing[:5])}.")
    return found


def _rows_of_folders(folder: Path) -> list[Row]:
    corpus = re.sub(r"\W+", "_", folder.resolve().name)
    rows = [
        Row(str(clip), corpus, text=(own.name.replace("_", " "),), label=own.name)
        for own in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
        for clip in expand(own)
    ]
    if not rows:
        raise ClaraError(f"{folder} holds no folders with audio: expected one for each label, or a table (CSV).")
    return rows


def _row(cells: Mapping[str, list[str]], csv: Path, where: str) -> Row:
    single = ("audio", "language", "emotion", "task", "split", "speaker")
    one = {name: cells[name][0] if name in cells else None for name in single}
    if one["split"] not in (None, *SPLITS):
        raise unknown(f"split at {where}", one["split"], SPLITS)
    labels, texts = cells.get("label", []), cells.get("text", [])
    texts = texts or ([] if one["task"] else [label.replace("_", " ") for label in labels])
    values = {**one, "label": labels[0] if len(labels) == 1 else None}
    if len(labels) > 1:
        values["original"] = {"labels": labels}
        if one["task"] not in (None, *SOUND_TASKS):
            raise ClaraError(f"{where}: the labels {labels} of a {one['task']}: only sounds may have several.")
    facts = facts_of(values)
    for task, key in [*facts, *((one["task"], label) for label in labels if one["task"] in SOUND_TASKS)]:
        if not known((task, key)):
            raise unknown(f"{task} at {where}", key, task_labels(task))
    if not texts and not facts:
        raise ClaraError(
            f"{where}: no 'text', no 'emotion' and no 'label' (with its 'task'): nothing to learn from. "
            f"The cells that are filled are of the columns {', '.join(map(repr, cells))}."
        )
    corpus = re.sub(r"\W+", "_", csv.stem)
    values |= {"audio": str(csv.parent / str(one["audio"])), "split": one["split"] or "train"}
    return Row(corpus=corpus, text=tuple(texts), **values)
