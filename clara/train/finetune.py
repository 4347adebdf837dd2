"""Fine-tuning in one line: a table of clips and a checkpoint -> another checkpoint."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from clara.config import build, override, to_dict
from clara.data.loader import DataConfig
from clara.data.manifest import Row, read_table
from clara.data.shards import ShardConfig, write_shards
from clara.errors import ClaraError, unknown
from clara.saving import whole_file
from clara.text.captions import CaptionConfig, facts_of, known
from clara.text.prompts import task_labels
from clara.train.checkpoint import newest
from clara.train.log import sole_run
from clara.train.optim import GroupConfig, OptimConfig
from clara.train.trainer import TrainConfig, check, run
from clara.zoo import factory

OPTIONAL = ("language", "emotion", "label", "task", "split")
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
        csv: a table with a header. `audio`: path, relative to the table. `text`: a caption; a clip with several has
            several rows. Instead of it or beside it `emotion`, or `label` with its `task` (sound, instrument, word,
            arousal), which are captioned in every language; a `label` alone serves as the text. Optional: `language`
            (spoken), `split` (only 'train', the default, is trained on).
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
        data=DataConfig((str(out / "shards" / "*.tar"),), batch, crop_seconds=window_seconds, captions=captions),
        steps=steps,
        out=str(out),
        init=init,
        optim=OptimConfig(lr=3e-4, warmup_steps=steps // 10, groups=(GroupConfig("text*", 0.1),)),
        ema=0.99,
    )


def read_rows(csv: Path) -> list[Row]:
    """The clips of the table, in order. ClaraError with file and line for what is missing or unknown."""
    found: dict[str, Row] = {}
    for line, record in enumerate(read_table(csv, ["audio"]), start=2):
        row = _row(record, csv, f"{csv}:{line}")
        before = found.setdefault(row.audio, row)
        if before is not row:
            texts = tuple(dict.fromkeys(before.text + row.text))
            found[row.audio] = Row(**{**vars(before), "text": texts})
    missing = [path for path in found if not Path(path).is_file()]
    if missing:
        raise ClaraError(f"{csv}: {len(missing)} of {len(found)} files are missing: {', '.join(missing[:5])}.")
    return list(found.values())


def _row(record: Mapping[str, str], csv: Path, where: str) -> Row:
    cells = {name: (record.get(name) or "").strip() for name in ("audio", "text", *OPTIONAL)}
    if not cells["audio"]:
        raise ClaraError(f"{where}: the cell 'audio' is empty.")
    if cells["split"] not in ("", *SPLITS):
        raise unknown(f"split at {where}", cells["split"], SPLITS)
    text = cells["text"] or ("" if cells["task"] else cells["label"].replace("_", " "))
    values = {name: cells[name] or None for name in OPTIONAL if name != "split"}
    facts = facts_of(values)
    for task, key in facts:
        if not known((task, key)):
            raise unknown(f"{task} at {where}", key, task_labels(task))
    if not text and not facts:
        raise ClaraError(
            f"{where}: no 'text', no 'emotion' and no 'label' (with its 'task'): nothing to learn from. "
            f"The table's columns are {', '.join(map(repr, record))}."
        )
    corpus = re.sub(r"\W+", "_", csv.stem)
    audio, split = str(csv.parent / cells["audio"]), cells["split"] or "train"
    return Row(audio=audio, corpus=corpus, split=split, text=(text,) if text else (), **values)
