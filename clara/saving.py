"""Files that are written whole or not at all, and what ties several of them. Imports no torch.

A reader finds the old file or the new one, never a half, whenever the writer is killed and however many write at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from clara.errors import ClaraError

BLOCK = 1 << 20
_UMASK = os.umask(0)
os.umask(_UMASK)
MODE = 0o666 & ~_UMASK  # of files that a library makes for its owner alone


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A place to write a file at. When the block ends without an error, the file takes the place of `path` at once, on
    the disk and with the mode of any new file. What processes that were killed left of the same file is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_dead_parts(path)
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        yield part
        os.chmod(part, MODE)
        flush(part)
        os.replace(part, path)
        flush(path.parent)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, data: object) -> None:
    """Write `data` as JSON, one space deep, whole or not at all. What UTF-8 lacks, in a file's name, is escaped."""
    with whole_file(path) as part:
        text = json.dumps(data, indent=1, ensure_ascii=False) + "\n"
        part.write_text(text, encoding="utf-8", errors="backslashreplace")


def _remove_dead_parts(path: Path) -> None:
    own = re.compile(rf"\.{re.escape(path.name)}\.(\d+)-\d+\.part")
    for other in path.parent.iterdir():
        if (found := own.fullmatch(other.name)) and not _alive(int(found[1])):
            other.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OSError):
        return True
    return True


def flush(path: Path) -> None:
    """To the disk, so that a power cut after a rename finds what was renamed."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folder
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def safetensors_file(path: str | Path) -> Path:
    """`path` as the name of a file, which may leave out its suffix `.safetensors`."""
    path = Path(path)
    return path if path.suffix == ".safetensors" else Path(f"{path}.safetensors")


def sha256_of(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file below a folder, by its name from there."""
    return {p.relative_to(folder).as_posix(): sha256_of(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def check_digests(folder: Path, stated: Mapping[str, str], what: str) -> None:
    """ClaraError where files below `folder` are not those that `what`, the file that holds these digests, was saved
    with."""
    wrong = [n for n, sha256 in stated.items() if not (folder / n).is_file() or sha256_of(folder / n) != sha256]
    if wrong:
        raise ClaraError(
            f"{folder}: {', '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} missing, or not of the same save as "
            f"{what}: copy the whole folder again, or save it anew."
        )


MOVING = ".saved"  # a folder that is whole; its files are on their way to their places


def place_files(part: Path, folder: Path) -> None:
    """Move the files of `part`, a folder below `folder`, into `folder`, all or none: from the rename on the move can be
    ended by whoever comes next (`settle`)."""
    settle(folder)
    for file in part.rglob("*"):
        if file.is_file():
            os.chmod(file, MODE)
            flush(file)
    os.replace(part, folder / MOVING)
    flush(folder)
    settle(folder)


def settle(folder: Path) -> None:
    """End a move that was begun in `folder` and broken off. Nothing where there is none."""
    moving = folder / MOVING
    if not moving.is_dir():
        return
    for file in sorted(p for p in moving.rglob("*") if p.is_file()):
        place = folder / file.relative_to(moving)
        place.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another process moved it
            os.replace(file, place)
    shutil.rmtree(moving, ignore_errors=True)
