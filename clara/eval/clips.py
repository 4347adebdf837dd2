"""The clips of an evaluation: rows chosen from corpora, each embedded once however often it is scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

import clara
from clara.data.corpora import find_corpus, published, told
from clara.data.manifest import Row, load_corpus
from clara.errors import ClaraError, unknown
from clara.eval.embeddings import SERIAL, Spent, Supply, embed_clips, source
from clara.layers import mean_directions
from clara.text.prompts import TASKS, language_code, languages
from clara.zoo.background import background_of

__all__ = ["AudioTextEmbedder", "Context", "DataSpec", "NotAtHand", "labelled", "language_codes", "source", "truth_of"]


class NotAtHand(ClaraError):
    """The corpus of an evaluation, or the part of it that is asked for, is not below the data folder."""


class NoFolder(NotAtHand):
    """Nothing below the data folder is this corpus."""


class AudioTextEmbedder(Protocol):
    """What an evaluation needs of a checkpoint; `clara.load(name)` returns one."""

    name: str
    sha256: str

    def embed_audio(self, sources: list, batch_size: int = 16) -> Tensor:
        """Paths, encoded bytes or (array, rate) -> (B, D), unit length."""

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Texts -> (B, D), unit length."""


@dataclass(frozen=True)
class DataSpec:
    """Which clips an evaluation uses; whether they lie published, packed or in shards is detected."""

    corpus: str
    """Corpus plug-in, by name or file."""
    folder: str = "."
    """Its folder below the data folder."""
    splits: tuple[str, ...] = ()
    """Splits to keep; empty = all."""
    speakers: tuple[str, ...] = ()
    """Speakers (or folds, where there are folds) to keep; empty = all."""
    where: dict[str, str] = field(default_factory=dict)
    """Values that other fields of a row, or of its `original`, must have."""


class Context:
    """A checkpoint and a folder of corpora, with the embeddings already made.

    Args:
        zoo: the checkpoint.
        data: folder that holds the corpora's folders, or one of these, or a folder of shards.
        near: the recipe file; corpus plug-ins are looked for beside it first.
        seed: of everything drawn (few-shot clips, composed clips, bootstrap).
        supply: how clips become embeddings: batch size, threads, cache, processes.
        limit: at most so many clips of a set, drawn by the seed, classes in turn; None for all.

    `made` holds the embeddings by `Row.audio`; `used` lists the rows asked for, `found` how they lay there, `missing`
    the rows that tables name without a file, and `spent` what embedding took: `fresh` empties these four.
    """

    def __init__(
        self,
        zoo: AudioTextEmbedder,
        data: Path | str = ".",
        near: Path | str | None = None,
        seed: int = 0,
        supply: Supply = SERIAL,
        limit: int | None = None,
    ) -> None:
        self.zoo, self.data, self.near, self.seed, self.supply = zoo, Path(data), near, seed, supply
        self.limit = limit
        self.used: list[Row] = []
        self.spent = Spent()
        self.made: dict[str, Tensor] = {}
        self._text: dict[str, Tensor] = {}
        self.found: list[dict[str, Any]] = []
        self.missing: list[Row] = []

    def fresh(self) -> None:
        """Forget what was asked for and spent, not the embeddings: another evaluation begins."""
        self.used, self.found, self.missing, self.spent = [], [], [], Spent()

    @cached_property
    def logit_scale(self) -> float | None:
        """What `Classifier` multiplies cosines by before its softmax; None for an embedder that states no scale."""
        scale = getattr(self.zoo, "scale", None)
        if scale is None:
            return None
        background = background_of(self.zoo.name, self.zoo.sha256)
        return scale if background is None else scale / background.constants.temperature

    def taught(self, train: DataSpec, test: DataSpec, per_class: int) -> tuple[list[Row], list[Row]]:
        """The rows of two DataSpecs, of which one teaches with at least `per_class` clips a class what the other judges
        by; with a `limit`, some of the classes that both have. NotAtHand as `rows`."""
        limit, self.limit = self.limit, None
        try:
            found = self.rows(train), self.rows(test)
        finally:
            self.limit = limit
        return found if limit is None else trial(*found, per_class, limit, self.seed)

    def rows(self, spec: DataSpec) -> list[Row]:
        """The rows a DataSpec names; those that its tables name too, but that have no file, are added to `missing`.

        Raises:
            NotAtHand: no such corpus, split or speaker below the data folder.
        """
        info = load_corpus(spec.corpus, self.near).INFO
        found = find_corpus(spec.corpus, self.data, spec.folder, self.near)
        if found is None:
            raise NoFolder(f"Corpus {(spec.folder or info.name)!r} not found under {self.data} ({info.source_url})")
        rows, missing = found.rows, found.missing
        chosen = {"split": spec.splits, "speaker": spec.speakers} | {k: (v,) for k, v in spec.where.items()}
        for name, wanted in chosen.items():
            known = {told(row, name) for row in (*rows, *missing)}
            if wanted and known == {None}:
                raise NotAtHand(f"{info.name} has no field {name!r} in {found.folder} ({found.layout})")
            for value in wanted:
                if value not in known:
                    raise NotAtHand(str(unknown(f"{name} in {spec.folder}", value, [k for k in known if k])))
            rows = [row for row in rows if not wanted or told(row, name) in wanted]
            missing = [row for row in missing if not wanted or told(row, name) in wanted]
        if not rows:
            raise NotAtHand(f"{spec.corpus}: none of its {len(missing)} clips is below {found.folder}")
        told_of = {"corpora": sorted({row.corpus for row in rows}), "layout": found.layout, "clips": len(rows)}
        told_of["missing"] = len(missing)
        count = None if spec.speakers else published(info, spec.splits, spec.where)
        self.found.append(told_of | ({} if count is None else {"published": count}))
        rows = rows if self.limit is None else some_of(rows, self.limit, self.seed)
        self.missing += missing
        self.used += rows
        return rows

    def audio(self, rows: Sequence[Row]) -> Tensor:
        """Embeddings (B, D) of the rows' audio."""
        todo = list(dict.fromkeys(row.audio for row in rows if row.audio not in self.made))
        if todo:
            # the way with long audio changes the vectors, so does precision, and so may another version of the code
            of = f"{self.zoo.sha256} {getattr(self.zoo, 'long', '')} {clara.__version__}"
            of += " bfloat16" if getattr(self.zoo, "half", False) else ""
            self.made.update(embed_clips(self.zoo.embed_audio, todo, self.supply, of, self.spent))
        return torch.stack([self.made[row.audio] for row in rows])

    def text(self, texts: Iterable[str]) -> Tensor:
        """Embeddings (B, D) of texts; equal texts have equal embeddings to the last bit."""
        texts = list(texts)
        todo = list(dict.fromkeys(t for t in texts if t not in self._text))
        if todo:
            self._text.update(zip(todo, self.zoo.embed_text(todo)))
        return torch.stack([self._text[t] for t in texts])

    def labels(self, prompts: Sequence[Sequence[str]]) -> Tensor:
        """One unit vector per label: the mean of its prompts' embeddings (K, D)."""
        flat = [text for texts in prompts for text in texts]
        return mean_directions(self.text(flat), [len(texts) for texts in prompts])


def trial(
    train: Sequence[Row], test: Sequence[Row], per_class: int, limit: int, seed: int
) -> tuple[list[Row], list[Row]]:
    """Clips for a trial of what is taught by some and judged by others: at most `limit` to judge, of classes that both
    sets have, and no more classes than `limit` allows with `per_class` clips each to teach.

    Raises:
        ClaraError: a limit below 1.
    """

    def class_of(row: Row) -> tuple[str, str]:
        return row.language or "", row.emotion or row.label or ""

    there, count = {class_of(row) for row in test}, Counter(map(class_of, train))
    both = [c for c, n in sorted(count.items()) if c[1] and c in there and n >= per_class]
    kept = both[: max(2, limit // per_class)]
    taught, judged = ([row for row in rows if class_of(row) in kept] for rows in (train, test))
    more = max(per_class, limit // max(1, len(kept)))
    return some_of(taught, max(1, more * len(kept)), seed), some_of(judged, limit, seed)


def some_of(rows: Sequence[Row], limit: int, seed: int) -> list[Row]:
    """At most `limit` of the rows, drawn by the seed with the classes in turn, in their order."""
    if limit < 1:
        raise ClaraError(f"limit={limit}: expected at least 1 clip.")
    order, turn = np.random.default_rng(seed).permutation(len(rows)), Counter()
    ranked = []
    for place, i in enumerate(order):
        label = rows[i].emotion or rows[i].label
        turn[label] += 1
        ranked.append((turn[label], place, i))
    return [rows[i] for i in sorted(i for *_, i in sorted(ranked)[:limit])]


def truth_of(row: Row, task: str) -> str | None:
    """The row's label under a task, None where the corpus does not state one."""
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    if task in ("emotion", "language"):
        return getattr(row, task)
    if task == "speaker":
        return row.gender
    return row.label if row.task == task else None


def labelled(rows: Sequence[Row], task: str, merge: Mapping[str, str] | None = None) -> tuple[list[Row], list[str]]:
    """The rows that have a label under `task`, and these labels; ClaraError when none has.

    Args:
        merge: published word -> key, for emotions that have none of their own (`original.emotion`), or to fold two.
    """
    merge, pairs = merge or {}, []
    for row in rows:
        label = truth_of(row, task)
        if label is None and task == "emotion" and row.original.get("emotion") in merge:
            label = row.original["emotion"]
        if label:
            pairs.append((row, merge.get(label, label)))
    if not pairs:
        raise ClaraError(f"None of {len(rows)} clips ({rows[0].corpus} …) has a label for the task {task!r}.")
    return [row for row, _ in pairs], [label for _, label in pairs]


def language_codes(wanted: Sequence[str]) -> list[str]:
    """Codes, in the order given; the one word 'all' stands for every language that has a file, English first."""
    if list(wanted) == ["all"]:
        return ["en", *(code for code in languages() if code != "en")]
    if not wanted:
        raise ClaraError("languages is empty: expected codes such as [en, de], or [all].")
    return [language_code(language) for language in wanted]
