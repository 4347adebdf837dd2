"""The table of checkpoints and the reading of model names. Imports no torch.

A name is one of: `arch` (random weights), `arch.tag` (a checkpoint of the table), `hf:org/repo[@revision]`, `dir:path`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from clara.config import arch_names
from clara.errors import ClaraError, unknown

CHECKPOINT_FOLDER = Path(__file__).parent.parent / "checkpoints"
READINGS = "Names: architecture (random weights), architecture.tag (a checkpoint), hf:org/repo[@revision], dir:path"


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint. `source`: 'package' (it travels in the wheel) or 'hf:org/repo@revision'. `languages` are the ISO
    639-1 codes of its training captions, `corpora` what it was trained on, `sample_rate` in Hz."""

    name: str
    source: str
    license: str
    languages: tuple[str, ...]
    corpora: tuple[str, ...]
    sample_rate: int


_CODES = "am ar bn de en es fa fr hi id it ja ko lt nl pl pt ru sw tr uk ur vi yo zh"
_ROWS = (
    Checkpoint(
        name="clara-small.base",
        source="package",
        license="CC BY-NC-SA 4.0",
        languages=tuple(_CODES.split()),
        corpora=(
            "nEMO",
            "emospeech-dataset-v1",
            "emotiontts_open_db",
            "ASED",
            "BAVED",
            "ESC-50",
            "OpenSFX, Sonic Pi, OpenSoundEffects, Minetest and MAX effects",
            "donateacry-corpus",
            "Philharmonia samples",
            "Arabic Speech Commands",
            "FSDD, Speech Commands and custom English commands",
            "audio-cmn",
            "Yoruba and Swahili read speech",
        ),
        sample_rate=16000,
    ),
)
CHECKPOINTS: dict[str, Checkpoint] = {row.name: row for row in _ROWS}


@dataclass(frozen=True)
class ModelName:
    """A name, read: `kind` is 'arch', 'checkpoint', 'hf' or 'dir'; `value` is what that kind needs (the architecture,
    the row's name, the repository, the folder); `revision` of a repository."""

    kind: str
    value: str
    revision: str | None = None


def list_models(pattern: str = "*") -> list[str]:
    """Every name `create_model` builds without a download or a path: architectures and checkpoints that match `pattern`
    (shell wildcards), sorted. The tiny `test-*` architectures are listed only where the pattern begins so."""
    names = [n for n in (*arch_names(), *CHECKPOINTS) if fnmatchcase(n, pattern)]
    return sorted(n for n in names if pattern.startswith("test") or not n.startswith("test-"))


def list_pretrained(pattern: str = "*") -> list[str]:
    """Names `load` accepts from the table: the checkpoints that match `pattern` (shell wildcards), sorted."""
    return sorted(n for n in CHECKPOINTS if fnmatchcase(n, pattern))


def checkpoint(name: str) -> Checkpoint:
    """The row of one checkpoint; ClaraError with near names when there is none."""
    if name not in CHECKPOINTS:
        raise unknown("checkpoint", name, CHECKPOINTS)
    return CHECKPOINTS[name]


def parse_name(name: str | Path, pretrained: str | None = None) -> ModelName:
    """Read a model name, with `pretrained` as its tag when given.

    Raises:
        ClaraError: the name has none of the four readings, or carries a tag twice.
    """
    text = str(name)
    if pretrained is not None:
        if text not in arch_names():
            raise _unknown_model(text)
        text = f"{text}.{pretrained}"
    scheme, _, rest = text.partition(":")
    if scheme == "dir" and rest:
        return ModelName("dir", rest)
    if scheme == "hf":
        return _hub_name(text)
    if text in CHECKPOINTS:
        return ModelName("checkpoint", text)
    if text in arch_names():
        return ModelName("arch", text)
    raise _unknown_model(text)


def _hub_name(text: str) -> ModelName:
    repo, at, revision = text[3:].partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo) or (at and not revision):
        raise ClaraError(f"Model name {text!r}: expected hf:org/repo or hf:org/repo@revision.")
    return ModelName("hf", repo, revision or None)


def _unknown_model(text: str) -> ClaraError:
    hint = f" {text!r} is a folder: write 'dir:{text}'." if text and Path(text).is_dir() else ""
    return ClaraError(f"{unknown('model', text, list_models())}{hint} {READINGS}.")
