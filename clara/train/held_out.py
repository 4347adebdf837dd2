"""Clips that a run is judged on and not taught with: which they are, how it does on them, and which state was best."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from clara import metrics
from clara.audio import waveform
from clara.data.manifest import Row
from clara.errors import ClaraError
from clara.layers import mean_directions
from clara.model import DualEncoder
from clara.parsing import read_json
from clara.saving import write_json
from clara.text.prompts import prompts, task_labels
from clara.text.tokenizer import Tokenizer
from clara.zoo.embedder import Embedder
from clara.zoo.factory import Loaded

SHARE = 0.15
MOST = 200  # clips that are held out: judging takes time too
FEWEST = 10  # clips of a table from which some are held out
MOST_TEXTS = 200  # among which a clip's own is to be found; where a table has more, those of the held-out clips
MARK = "held_out.json"


def hold_out(rows: Sequence[Row]) -> list[Row]:
    """The rows, a share of them of split 'valid' where the table holds none out itself: whole speakers where there are
    enough, else some clips of every text. None of fewer than FEWEST, nor of a text with one clip."""
    taught = [i for i, row in enumerate(rows) if row.split == "train"]
    if len(taught) < len(rows) or len(taught) < FEWEST:
        return list(rows)
    rng, wanted = np.random.default_rng(0), min(MOST, max(2, round(SHARE * len(rows))))
    speakers = sorted({str(row.speaker) for row in rows if row.speaker})
    chosen: list[int] = []
    if len(speakers) >= FEWEST and all(row.speaker for row in rows):
        for name in rng.permutation(speakers):
            own = [i for i, row in enumerate(rows) if row.speaker == name]
            if len(chosen) + len(own) <= wanted or not chosen:
                chosen += own
    else:
        by_text: dict[str, list[int]] = {}
        for i in rng.permutation(len(rows)):
            by_text.setdefault(str(_texts(rows[i])), []).append(int(i))
        spare = [own[1:] for own in by_text.values() if len(own) > 1]
        turns = max(map(len, spare), default=0)
        chosen = [own[k] for k in range(turns) for own in spare if k < len(own)][:wanted]
    held = set(chosen)
    return [dataclasses.replace(row, split="valid") if i in held else row for i, row in enumerate(rows)]


def _texts(row: Row) -> list[str]:
    """What stands for a clip: the first of its texts, or the English prompts of its emotion or label."""
    if row.text:
        return [row.text[0]]
    task, key = ("emotion", row.emotion) if row.emotion else (row.task, row.label)
    if task and key in task_labels(task):
        return prompts(task, [str(key)])[0]
    return [key or ", ".join(row.original["labels"])]


class Judge:
    """Judges a model by held-out clips: how many are nearest to their own text among all texts of the table.

    `broken` is told of clips that cannot be read; without it they are an error.
    """

    def __init__(
        self, rows: Sequence[Row], tokenizer: Tokenizer, out: Path, rate: int, broken: Callable[[str], None] | None
    ) -> None:
        self.tokenizer, self.file, self.clips = tokenizer, out / MARK, []
        own = []
        for row in (row for row in rows if row.split != "train"):
            try:
                self.clips.append((waveform.read(row.audio, rate), rate))
                own.append(_texts(row))
            except ClaraError as e:
                if broken is None:
                    raise
                broken(str(e))
        every = [*own, *(_texts(row) for row in rows if row.split == "train")]
        known = {str(texts): texts for texts in every}
        self.texts = list((known if len(known) <= MOST_TEXTS else {str(t): t for t in own}).values())
        place = {str(texts): k for k, texts in enumerate(self.texts)}
        self.truth = torch.tensor([place[str(texts)] for texts in own])

    def __call__(self, model: DualEncoder, step: int) -> bool:
        """Whether this is the best state so far, which is kept in `held_out.json`; its figures are printed."""
        accuracy, surprise = self.score(model)
        best = read_json(self.file, "what a fine-tuning run keeps") if self.file.is_file() else None
        better = best is None or best["step"] == step or (accuracy, -surprise) > (best["accuracy"], -best["surprise"])
        low, high = metrics.share_interval(round(accuracy * len(self.clips)), len(self.clips))
        print(
            f"step {step}: held-out accuracy {accuracy:.3f} [{low:.3f}, {high:.3f}] on {len(self.clips)} clips, "
            f"among {len(self.texts)} texts{', the best so far' if better else ''}",
            flush=True,
        )
        if better:
            write_json(self.file, {"step": step, "accuracy": accuracy, "surprise": surprise, "interval": [low, high]})
        return better

    def score(self, model: DualEncoder) -> tuple[float, float]:
        """Accuracy, and the mean negative log-probability of a clip's own text: finer, where few clips are held out."""
        training = model.training
        zoo = Embedder(Loaded("in training", model, self.tokenizer, ""), next(model.parameters()).device)
        flat = [text for texts in self.texts for text in texts]
        text_KD = mean_directions(zoo.embed_text(flat), [len(texts) for texts in self.texts])
        logits_BK = zoo.scale * zoo.embed_audio(self.clips) @ text_KD.T
        model.train(training)
        accuracy = float((logits_BK.argmax(1) == self.truth).double().mean())
        return accuracy, float(cross_entropy(logits_BK, self.truth))
