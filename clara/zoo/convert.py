"""Converters: other projects' checkpoints in our terms. A converter is a pure function of files, strict both ways.

One family is one module of `clara/zoo/converters`: it reads the files (`clara.zoo.unpickle`), says the ModelConfig they
mean, renames their tensors by the rules that stand with the tower they fill (`clara.towers.remap`: a key without a rule
is an error), and names the tokenizer. `load_strictly` then demands that every tensor of the model is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from clara.config import ModelConfig
from clara.errors import ClaraError, unknown
from clara.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Foreign:
    """A foreign checkpoint in our terms. `tensors` are the whole state of `DualEncoder(config)`; `weights` is the file
    they came from, whose sha256 stands for the checkpoint."""

    config: ModelConfig
    tensors: Mapping[str, Tensor]
    tokenizer: Tokenizer
    weights: Path


Convert = Callable[[Path, str | None], Foreign]


@dataclass(frozen=True)
class Converter:
    """`convert(path, tokenizer)` reads a file or folder; `tokenizer` (a local folder or file, or a hub id) stands in
    for the family's own where its checkpoints carry none. `detect(path)`: whether a folder is surely of this family,
    read from its names and its config alone. `licence`: of the weights the family's authors publish."""

    name: str
    convert: Convert
    detect: Callable[[Path], bool]
    licence: str


CONVERTERS: dict[str, Converter] = {}


def converter(name: str, licence: str, detect: Callable[[Path], bool] | None = None) -> Callable[[Convert], Convert]:
    """Decorator: register `f(path, tokenizer) -> Foreign` as the converter `name`."""

    def add(function: Convert) -> Convert:
        if name in CONVERTERS:
            raise ClaraError(f"Converter {name!r} is registered twice.")
        CONVERTERS[name] = Converter(name, function, detect or (lambda path: False), licence)
        return function

    return add


def read_foreign(path: str | Path, family: str, tokenizer: str | None = None) -> Foreign:
    """Read a foreign checkpoint as one of `family`.

    Raises:
        ClaraError: unknown family, no such file, or a checkpoint of another make (the keys are listed).
    """
    _register()
    if family not in CONVERTERS:
        raise unknown("converter", family, CONVERTERS)
    path = Path(path)
    if not path.exists():
        raise ClaraError(f"No such file or folder: {path}.")
    return CONVERTERS[family].convert(path, tokenizer)


def families() -> list[str]:
    """Names of the converters, sorted."""
    _register()
    return sorted(CONVERTERS)


def detect(path: str | Path) -> str | None:
    """The family a folder is surely of, or None."""
    _register()
    return next((c.name for c in CONVERTERS.values() if c.detect(Path(path))), None)


def _register() -> None:
    import clara.zoo.converters  # noqa: F401  (here: its modules import this one)
