"""Results of evaluations: typed figures, what became of each clip, and the JSON they are kept as. Imports no torch.

A figure is found by its place and metric: `result.figure("en/plain", "uar")`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from clara import metrics
from clara.config import build, without_defaults
from clara.errors import ClaraError
from clara.parsing import parse_json
from clara.saving import whole_file

VERSION = 2
MANY_LANGUAGES = 4  # beyond which prompt languages are shown as a table, and only English has primary figures


@dataclass(frozen=True)
class Figure:
    """One number of an evaluation.

    `where` is its place, such as "en/plain" ("" for an evaluation with one place), and `what` the same in words.
    `interval` is a 95 % bootstrap over clips, `std` the deviation over draws or groups, `chance` what guessing gives.
    `primary` marks the metric that its place is judged by; cards and the summary in the terminal show these. A share of
    another figure is named "uar of English".
    """

    what: str
    metric: str
    value: float
    interval: tuple[float, float] | None = None
    chance: float | None = None
    primary: bool = False
    where: str = ""
    std: float | None = None


@dataclass(frozen=True)
class Outcomes:
    """What became of each clip or query, as short text, so that two results on the same clips can be compared.

    `kind` is "classes" ("3" for a clip of class 3 named so, "3>5" for one named 5), "hits" (in how many of `draws`
    each clip was right) or "ranks" (of the first target of each query). `captions`: how many consecutive queries belong
    to each clip, which are resampled together; empty where each query stands for itself.
    """

    kind: str
    text: str
    draws: int = 1
    captions: str = ""


@dataclass(frozen=True)
class Result:
    """What one evaluation measured. A protocol fills the first part, the runner the second.

    `labels`: class -> clips. `languages`: codes of the prompts, or those spoken. `members`: place -> the languages that
    its figures are a mean over, or the one that is the worst. `prompts`: place -> label -> texts. `notes`: what
    only one protocol states.
    """

    clips: int
    figures: tuple[Figure, ...]
    labels: dict[str, int] = field(default_factory=dict)
    languages: tuple[str, ...] = ()
    members: dict[str, tuple[str, ...]] = field(default_factory=dict)
    outcomes: dict[str, Outcomes] = field(default_factory=dict)
    prompts: dict[str, dict[str, Any]] = field(default_factory=dict)
    examples: tuple[dict[str, Any], ...] = ()
    notes: dict[str, Any] = field(default_factory=dict)

    name: str = ""
    kind: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    data: tuple[dict[str, Any], ...] = ()
    limit: int | None = None
    contamination: dict[str, Any] = field(default_factory=dict)
    clips_sha256: str = ""
    speed: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    embeddings: dict[str, str] = field(default_factory=dict)

    @property
    def primary(self) -> Figure:
        """The figure that stands for the evaluation: the first primary one."""
        return next(f for f in self.figures if f.primary)

    def find(self, where: str, metric: str) -> Figure | None:
        """The figure at a place, or None."""
        return next((f for f in self.figures if f.where == where and f.metric == metric), None)

    def figure(self, where: str, metric: str) -> Figure:
        """The figure at a place. ClaraError where there is none."""
        if found := self.find(where, metric):
            return found
        raise ClaraError(f"{self.name or 'This result'} has no figure {metric!r} at {where!r}.")

    def value(self, where: str, metric: str) -> float:
        """The number at a place. ClaraError where there is none."""
        return self.figure(where, metric).value

    def places(self) -> Iterator[tuple[str, list[Figure]]]:
        """Figures that stand together: (place, its figures), in order."""
        found: dict[str, list[Figure]] = {}
        for figure in self.figures:
            found.setdefault(figure.where, []).append(figure)
        yield from found.items()

    def classes(self, where: str) -> list[str]:
        """The labels that the class indices at a place stand for."""
        mine = (v for k, v in self.prompts.items() if where.startswith(f"{k}/"))
        return list(next(mine, self.labels))

    def confusion(self, where: str) -> np.ndarray:
        """Counts (C, C) at a place whose outcomes are classes: row = true class, column = predicted class."""
        truth, predicted = unpack(self.outcomes[where].text)
        return metrics.confusion(truth, predicted, len(self.classes(where)))


@dataclass(frozen=True)
class ResultFile:
    """The results of one recipe and checkpoint, with all that is needed to make them again. `checkpoint` has "name" and
    "sha256"; `not_found` and `faults` list evaluations without a result: {"name", "why"}."""

    recipe: str
    checkpoint: dict[str, str]
    command: str
    version: int
    results: tuple[Result, ...] = ()
    overrides: tuple[str, ...] = ()
    seed: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    date: str = ""
    not_found: tuple[dict[str, str], ...] = ()
    faults: tuple[dict[str, str], ...] = ()

    @property
    def stem(self) -> str:
        """The recipe's name without its ending."""
        return self.recipe.removesuffix(".yaml")

    def settings(self) -> tuple[str, ...]:
        """The overrides that change figures, sorted."""
        return tuple(sorted(o for o in self.overrides if o.split("=")[0] not in HOW))


HOW = ("workers", "cache", "batch_size", "pictures")  # settings that change no figure


def read_results(path: Path) -> ResultFile:
    """Read a file that `clara eval` wrote. ClaraError for any other, and for one of another version."""
    try:
        data = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise ClaraError(f"{path} cannot be read as a result ({e}): expected JSON written by clara eval.") from e
    if not isinstance(data, dict) or not {"recipe", "checkpoint"} <= data.keys():
        raise ClaraError(f"{path} is not a result file: expected JSON written by clara eval.")
    if (version := data.get("version", 1)) != VERSION:
        raise ClaraError(f"{path} has format {version}, this version of CLARA reads {VERSION}: run clara eval again.")
    return build(ResultFile, data, path.name)


def write_json(path: Path, data: Any) -> None:
    """Write a ResultFile, or plain data, atomically as JSON. NaN is an error. Characters of a file name that UTF-8
    lacks are written as JSON escapes."""
    try:
        text = json.dumps(without_defaults(data), ensure_ascii=False, indent=1, allow_nan=False)
    except ValueError as e:
        raise ClaraError(f"{path}: a figure is NaN or infinite ({e}); nothing was written.") from e
    with whole_file(path) as part:
        part.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def pack(counts_N: Iterable[int], others_N: Iterable[int] | None = None) -> str:
    """Integers per clip or query as text: "1 4 2"; with others, such as predicted classes, "3 3>5" if they differ."""
    first = [int(n) for n in counts_N]
    others = first if others_N is None else others_N
    return " ".join(f"{t}" if t == p else f"{t}>{p}" for t, p in zip(first, others, strict=True))


def unpack(text: str) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `pack`: both arrays, equal where there was one. ClaraError for any other text."""
    try:
        pairs = [[int(x) for x in item.split(">")] for item in text.split()]
        return np.array([p[0] for p in pairs], int), np.array([p[-1] for p in pairs], int)
    except ValueError as e:
        raise ClaraError(f"Outcomes {text[:40]!r}: expected integers such as '3 3>5 0'.") from e
