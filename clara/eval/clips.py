"""The clips of an evaluation: rows chosen from corpora, each embedded once however often it is scored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import normalize

from clara.data.manifest import Row, rows_from_corpus, split_audio
from clara.data.shards import read_member
from clara.errors import ClaraError, unknown
from clara.text.prompts import TASKS, languages

EMBED_CHUNK = 256  # encoded clips held in memory at a time


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
    """Which clips: a corpus plug-in (name or file), its folder below the data folder, and the splits and speakers to
    keep (empty: all)."""

    corpus: str
    folder: str = "."
    splits: tuple[str, ...] = ()
    speakers: tuple[str, ...] = ()


class Context:
    """A checkpoint and a folder of corpora, with the embeddings already made.

    Args:
        zoo: the checkpoint.
        data: folder that holds the corpora's folders.
        near: the recipe file; corpus plug-ins are looked for beside it first.
        seed: of everything drawn (few-shot clips, composed clips, bootstrap).
        batch_size: clips a forward pass.
    """

    def __init__(
        self,
        zoo: AudioTextEmbedder,
        data: Path | str = ".",
        near: Path | str | None = None,
        seed: int = 0,
        batch_size: int = 16,
    ) -> None:
        self.zoo, self.data, self.near, self.seed, self.batch_size = zoo, Path(data), near, seed, batch_size
        self._audio: dict[str, Tensor] = {}
        self._text: dict[str, Tensor] = {}

    def rows(self, spec: DataSpec) -> list[Row]:
        """The rows a DataSpec names. ClaraError when a split or speaker has none."""
        rows = list(rows_from_corpus(spec.corpus, self.data / spec.folder, self.near))
        for field, wanted in (("split", spec.splits), ("speaker", spec.speakers)):
            found = {getattr(row, field) for row in rows}
            for name in wanted:
                if name not in found:
                    raise unknown(f"{field} in {spec.folder}", name, [f for f in found if f])
            rows = [row for row in rows if not wanted or getattr(row, field) in wanted]
        if not rows:
            raise ClaraError(f"{spec}: no clip is left.")
        return rows

    def audio(self, rows: Sequence[Row]) -> Tensor:
        """Embeddings (B, D) of the rows' audio."""
        todo = list(dict.fromkeys(row.audio for row in rows if row.audio not in self._audio))
        for i in range(0, len(todo), EMBED_CHUNK):
            names = todo[i : i + EMBED_CHUNK]
            vectors = self.zoo.embed_audio([source(name) for name in names], batch_size=self.batch_size)
            self._audio.update(zip(names, vectors))
        return torch.stack([self._audio[row.audio] for row in rows])

    def text(self, texts: Iterable[str]) -> Tensor:
        """Embeddings (B, D) of texts; equal texts have equal embeddings to the last bit."""
        texts = list(texts)
        todo = list(dict.fromkeys(t for t in texts if t not in self._text))
        if todo:
            self._text.update(zip(todo, self.zoo.embed_text(todo)))
        return torch.stack([self._text[t] for t in texts])

    def labels(self, prompts: Sequence[Sequence[str]]) -> Tensor:
        """One unit vector a label: the mean of its prompts' embeddings (K, D)."""
        return normalize(torch.stack([self.text(texts).mean(0) for texts in prompts]), dim=-1)


def source(audio: str) -> str | bytes:
    """What the embedder reads for `Row.audio`: the path, or the bytes of a tar's member."""
    path, member = split_audio(audio)
    return path if member is None else read_member(path, member)


def truth_of(row: Row, task: str) -> str | None:
    """The row's label under a task, None where the corpus does not state one."""
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    if task in ("emotion", "language"):
        return getattr(row, task)
    if task == "speaker":
        return row.gender
    return row.label if row.task == task else None


def labelled(rows: Sequence[Row], task: str) -> tuple[list[Row], list[str]]:
    """The rows that have a label under `task`, and these labels. ClaraError when none has."""
    pairs = [(row, label) for row in rows if (label := truth_of(row, task))]
    if not pairs:
        raise ClaraError(f"None of {len(rows)} clips ({rows[0].corpus} …) has a label for the task {task!r}.")
    return [row for row, _ in pairs], [label for _, label in pairs]


def language_codes(wanted: Sequence[str]) -> list[str]:
    """Codes as given; the one word 'all' stands for every language that has a file, English first."""
    if list(wanted) == ["all"]:
        return ["en", *(code for code in languages() if code != "en")]
    if not wanted:
        raise ClaraError("languages is empty: expected codes such as [en, de], or [all].")
    return list(wanted)
