"""The table of checkpoints and the reading of model names. Imports no torch.

A name is one of: `arch` (random weights), `arch.tag` (a checkpoint of the table), `hf:org/repo[@revision]`, `dir:path`.
A row of the table is the front matter of its card, `model_cards/<name>.md`: what is said of a checkpoint stands there
once. Names come from the files' names; a card is read when its row is asked for.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from clara import hub
from clara.config import arch_names, build
from clara.errors import ClaraError, unknown
from clara.text.prompts import find_language

PACKAGE = Path(__file__).parent.parent
CARDS = PACKAGE / "_cards"  # a link to model_cards/: the wheel carries a copy, a checkout shows the originals
CHECKPOINT_FOLDER = PACKAGE / "checkpoints"
DEFAULT = "clara-base.v1"  # what is loaded where nobody names another
READINGS = "Names: architecture (random weights), architecture.tag (a checkpoint), hf:org/repo[@revision], dir:path"
TERMS = ("permissive", "non-commercial", "restricted", "none stated")


@dataclass(frozen=True)
class TrainedOn:
    """A corpus that a checkpoint was trained on.

    `corpus` is named as by `Row.corpus`; None stands for training data that the publisher does not name. `folds` and
    `splits` are those trained on (empty: all, or not known). `basis`: what says so, and what else is known. `sources`:
    where its recordings come from, for a corpus without a file in recipes/corpora. `clips` and `hours` are numbers
    where they are known, else words.
    """

    corpus: str | None
    folds: tuple[int, ...] = ()
    splits: tuple[str, ...] = ()
    basis: str = ""
    sources: tuple[str, ...] = ()
    license: str = "not stated by this checkpoint's publisher"
    clips: int | str = "not published"
    hours: float | str = "not published"

    def __str__(self) -> str:
        """The corpus and the part of it: "esc50 (folds 1, 2, 3)"."""
        parts = [f"{name} {', '.join(map(str, v))}" for name in ("folds", "splits") if (v := getattr(self, name))]
        told = "; ".join(filter(None, (*parts, self.basis)))
        return (self.corpus or "data not named") + (f" ({told})" if told else "")


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint, as the front matter of its card states it.

    `source`: 'package' (it travels in the wheel), 'hf:org/repo@revision', or 'file' (its publisher's own format, at
    `download`, made a folder by `converter`; `clara.zoo.fetch` does so by itself where the address is the hub's).
    `sha256` is that of the weights' file as published; empty: not known here. `terms` is one of TERMS. `languages` are
    the ISO 639-1 codes of its training texts. `held_out`: corpus -> what says that it was kept out of training.
    `parameters` is a number, or words where none is published. `verified`: what was compared, on which weights.
    `sample_rate` in Hz.
    """

    name: str
    architecture: str
    source: str
    license: str
    terms: str
    languages: tuple[str, ...]
    tasks: tuple[str, ...]
    sample_rate: int
    window_seconds: float
    embed_dim: int
    parameters: int | str
    trained_on: tuple[TrainedOn, ...]
    verified: str
    held_out: dict[str, str] = field(default_factory=dict)
    revision: str = ""
    converter: str = ""
    download: str = ""
    sha256: str = ""
    figures: tuple[dict[str, Any], ...] = ()


class _Cards(Mapping[str, Checkpoint]):
    """name -> row; the names are the cards' file names."""

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(p.stem for p in CARDS.glob("*.md")))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return name in list(self)

    def __getitem__(self, name: str) -> Checkpoint:
        if name not in self:
            raise KeyError(name)
        return build(Checkpoint, card(name)[0], where=f"model_cards/{name}.md")


CHECKPOINTS: Mapping[str, Checkpoint] = _Cards()


@functools.cache
def card(name: str) -> tuple[dict[str, Any], str]:
    """The card of a checkpoint of the table: (front matter, text in Markdown)."""
    _, head, body = (CARDS / f"{name}.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.load(head, getattr(yaml, "CSafeLoader", yaml.SafeLoader)), body.lstrip("\n")


@dataclass(frozen=True)
class ModelName:
    """A name, read: `kind` is 'arch', 'checkpoint', 'hf' or 'dir'; `value` is what that kind needs (the architecture,
    the row's name, the repository, the folder); `revision` of a repository."""

    kind: str
    value: str
    revision: str | None = None


def list_models(pattern: str = "*") -> list[str]:
    """Every architecture and checkpoint whose name matches `pattern` (shell wildcards), sorted. The tiny `test-*`
    architectures are listed only where the pattern begins so."""
    names = [n for n in (*arch_names(), *CHECKPOINTS) if fnmatchcase(n, pattern)]
    return sorted(n for n in names if pattern.startswith("test") or not n.startswith("test-"))


def list_pretrained(
    pattern: str = "*", licence: str | None = None, task: str | None = None, language: str | None = None
) -> list[str]:
    """The checkpoints of the table whose name matches `pattern` (shell wildcards), sorted.

    Args:
        pattern: of the name.
        licence: one of TERMS ('permissive', 'non-commercial', …), or a part of the licence's name ('apache').
        task: what it was made or measured for: 'emotion', 'sound', 'music', 'retrieval' …
        language: among the languages of its training texts: a code, a tag or a name ("de", "German").

    Raises:
        ClaraError: a licence, task or language that no checkpoint has.
    """
    names = sorted(n for n in CHECKPOINTS if fnmatchcase(n, pattern))
    if licence is None and task is None and language is None:
        return names
    rows = list(CHECKPOINTS.values())
    if language is not None and language not in {c for r in rows for c in r.languages}:
        language = find_language(language) or language
    known = {
        "licence": (licence, {*TERMS, *(r.license for r in rows)}),
        "task": (task, {t for r in rows for t in r.tasks}),
        "language": (language, {c for r in rows for c in r.languages}),
    }
    for kind, (value, values) in known.items():
        if value is not None and not any(_fits(kind, value, v) for v in values):
            raise unknown(f"{kind} of a checkpoint", value, values)
    return [
        r.name
        for r in rows
        if r.name in names
        and (
            licence is None
            or r.terms == licence.lower()
            or (licence not in TERMS and _fits("licence", licence, r.license))
        )
        and (task is None or task in r.tasks)
        and (language is None or language in r.languages)
    ]


def _fits(kind: str, value: str, known: str) -> bool:
    return value.lower() in known.lower() if kind == "licence" else value == known


def checkpoint(name: str) -> Checkpoint:
    """The row of one checkpoint; ClaraError with near names when there is none."""
    if name not in CHECKPOINTS:
        raise unknown("checkpoint", name, CHECKPOINTS)
    return CHECKPOINTS[name]


def describe(row: Checkpoint) -> list[str]:
    """A row as lines of text, every field of it named."""
    parameters = f"{row.parameters:,}" if isinstance(row.parameters, int) else row.parameters
    lines = [
        f"name: {row.name}",
        f"source: {row.source}" + (f" (revision: {row.revision})" if row.revision else ""),
        *([f"download: {row.download}", f"converter: {row.converter}"] if row.source == "file" else []),
        f"license: {row.license} [{row.terms}]",
        f"languages: {' '.join(row.languages)}",
        f"tasks: {', '.join(row.tasks)}",
        f"audio: {row.sample_rate} Hz, window {row.window_seconds:g} s; vectors of {row.embed_dim} numbers",
        f"parameters: {parameters}",
        f"verified: {row.verified}",
        "trained on:",
    ]
    lines += [f"  {t}; clips: {t.clips}; hours: {t.hours}; licence: {t.license}" for t in row.trained_on]
    return lines + [f"held out: {corpus}: {how}" for corpus, how in row.held_out.items()]


def how_to_get(row: Checkpoint) -> str:
    """For a row whose source is 'file': where its publisher puts it, and the line that makes a folder of it."""
    file = re.sub(r"[?#].*", "", row.download.split()[0]).rsplit("/", 1)[-1] if "://" in row.download else "FILE"
    return (
        f"{row.name} is published in its makers' own format ({row.license}): {row.download}. "
        f"Then: clara convert {file or 'FILE'} --from {row.converter} --to FOLDER, and load 'dir:FOLDER'."
    )


def parse_name(name: str | Path, pretrained: str | None = None) -> ModelName:
    """Read a model name, with `pretrained` as its tag when given.

    Raises:
        ClaraError: the name has none of the four readings, or carries a tag twice.
    """
    text = str(name)
    if pretrained is not None:
        if text not in arch_names() and f"{text}.{pretrained}" not in CHECKPOINTS:
            raise _unknown_model(text)
        text = f"{text}.{pretrained}"
    scheme, _, rest = text.partition(":")
    if scheme == "dir" and rest:
        return ModelName("dir", os.path.expanduser(rest))
    if scheme == "hf":
        return _hub_name(text)
    if text in CHECKPOINTS:
        return ModelName("checkpoint", text)
    if text in arch_names():
        return ModelName("arch", text)
    raise _unknown_model(text)


def checkpoint_folder(name: ModelName) -> Path:
    """Where the files of a checkpoint lie; those of the hub are downloaded (and converted), or taken from a cache.

    Raises:
        ClaraError: an architecture, which has no weights; a folder that does not exist; a checkpoint that its
            publisher distributes in another format; the errors of the hub.
    """
    if name.kind == "arch":
        known = ", ".join(list_pretrained(f"{name.value}.*")) or "none in the table"
        raise ClaraError(
            f"{name.value!r} is an architecture and has no weights. Its checkpoints: {known}. "
            f"For random weights use clara.create_model({name.value!r})."
        )
    if name.kind == "dir":
        return existing(Path(name.value))
    if name.kind == "hf":
        return hub.download(name.value, name.revision)
    row = checkpoint(name.value)
    if row.source == "package":
        folder = CHECKPOINT_FOLDER / row.name
        if not folder.is_dir():
            raise ClaraError(f"{row.name} is missing from this installation: install the package again from its wheel.")
        return folder
    if row.source == "file":
        from clara.zoo.fetch import fetched  # it imports this module

        return fetched(row)
    source = parse_name(row.source)
    return hub.download(source.value, source.revision)


def existing(folder: Path) -> Path:
    """`folder` itself; ClaraError when there is no such folder."""
    if not folder.is_dir():
        raise ClaraError(f"No such checkpoint folder: {folder}.")
    return folder


def _hub_name(text: str) -> ModelName:
    repo, at, revision = text[3:].partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo) or (at and not revision):
        raise ClaraError(f"Model name {text!r}: expected hf:org/repo or hf:org/repo@revision.")
    return ModelName("hf", repo, revision or None)


def _unknown_model(text: str) -> ClaraError:
    hint = f" {text!r} is a folder: write 'dir:{text}'." if text and Path(text).is_dir() else ""
    return ClaraError(f"{unknown('model', text, list_models())}{hint} {READINGS}.")
