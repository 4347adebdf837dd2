"""webdataset's tars: neighbouring members with one key are a sample, and a key ends at the first dot of a file's name.

One walk serves every reader here. It gives offsets as well as bytes, for training reads members where they lie
(`clara.data.loader`): a step's clips must follow from (seed, step) alone.
"""

from __future__ import annotations

import glob
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from braceexpand import braceexpand

from clara.errors import ClaraError
from clara.saving import whole_file

if TYPE_CHECKING:
    import webdataset

META = re.compile(r"__[^/]*__($|/)")  # members that webdataset passes over
CHUNK = 1 << 20
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
ADDRESS = re.compile(r"(pipe:|[a-z][a-z0-9+.-]+://)", re.IGNORECASE)


class Writer:
    """Writes samples {"__key__", suffix: bytes}; see `writer`."""

    def __init__(self, tar: webdataset.TarWriter) -> None:
        self.tar = tar

    def write(self, sample: Mapping[str, Any]) -> None:
        """Add one sample. ClaraError for a key that would be read back as another."""
        key = str(sample["__key__"])
        if split_name(f"{key}.x") != (key, "x"):
            raise ClaraError(
                f"The key {key!r} cannot be read back: a key ends at the first dot of a file's name, and is not empty. "
                "Write '_' for its dots."
            )
        self.tar.write(sample)


@contextmanager
def writer(path: Path) -> Iterator[Writer]:
    """A writer of samples, by webdataset's own; `path` is written whole or not at all. The file's bytes follow from its
    samples alone: owner, time and mode are constants."""
    import webdataset  # torch comes along

    with (
        whole_file(path) as part,  # of this process: a worker that outlives a killed run spoils nothing of the next one
        part.open("wb") as file,
        webdataset.TarWriter(file, encoder=False, mtime=0, user="", group="", mode=0o644) as tar,
    ):
        yield Writer(tar)


def split_name(name: str) -> tuple[str, str] | None:
    """`a.b/clip.v2.json` -> ("a.b/clip", "v2.json"): key and suffix, in small letters, as webdataset cuts them; None
    for a name without a dot and for a hidden file (`._clip.json`, which macOS puts beside each)."""
    folder, slash, base = name.rpartition("/")
    stem, dot, suffix = base.partition(".")
    return (folder + slash + stem, suffix.lower()) if stem and dot else None


def tars_below(folder: Path) -> list[Path]:
    """All shards below a folder, sorted. ClaraError where some are compressed: they would be left out."""
    packed = sorted(p for end in COMPRESSED for p in folder.rglob(f"*{end}"))
    if packed:
        raise ClaraError(
            f"{folder} holds {len(packed)} compressed tars ({packed[0].name} …): samples are read where they lie, so "
            "uncompress them first, as by `gunzip` or `unxz`."
        )
    return sorted(folder.rglob("*.tar"))


def shards_of(patterns: Sequence[str]) -> list[Path]:
    """The tars that patterns name, sorted: files, folders (the tars in them), globs (*, ?, []), and braces as
    webdataset's ({000..127}, {a,b}): of these each must be there.

    Raises:
        ClaraError: an address, a shard of a brace pattern that is missing, a compressed one, no shard at all.
    """
    found: set[str] = set()
    for pattern in patterns:
        if ADDRESS.match(pattern):
            raise ClaraError(f"{pattern}: shards are read where they lie, and are not fetched. Download them first.")
        if (path := Path(pattern)).exists():  # whatever signs its name holds
            found.update([pattern] if path.is_file() else map(str, path.glob("*.tar")))
            continue
        try:
            parts = list(braceexpand(pattern))
        except ValueError as e:
            raise ClaraError(f"{pattern}: {e}. Expected braces as in name-{{000..127}}.tar.") from e
        there = {part: glob.glob(part) for part in parts}
        missing = [part for part, paths in there.items() if not paths]
        if missing and len(parts) > 1:
            raise ClaraError(f"{pattern}: {len(missing)} of {len(parts)} are missing: {', '.join(missing[:3])}.")
        found.update(path for paths in there.values() for path in paths)
    if not found:
        raise ClaraError(f"No shards match {list(patterns)}. Write them with `clara shards`.")
    return sorted(map(Path, found))


def members(path: Path) -> Iterator[tarfile.TarInfo]:
    """The files in an uncompressed tar, in order: `offset_data` and `size` tell where each lies.

    Raises:
        ClaraError: no such file, no uncompressed tar, one that is truncated or damaged, naming the byte, or one that
            holds links or sparse files.
    """
    if not path.is_file():
        raise ClaraError(f"No such shard: {path}.")
    at = 0
    _refuse_compressed(path)
    try:
        with tarfile.open(path, "r:") as tar:
            try:
                for member in tar:
                    if not (member.isreg() or member.isdir()) or member.issparse():
                        raise ClaraError(
                            f"{path}: {member.name} is a link, a device or sparse: its bytes do not lie in its place. "
                            "Pack it again, with `tar --hard-dereference --dereference`."
                        )
                    if member.isfile():
                        yield member
            finally:
                at = tar.offset
        _check_end(path, at)
    except (tarfile.TarError, OSError) as e:
        raise ClaraError(
            f"{path} cannot be read as a shard, an uncompressed tar: truncated or damaged at byte {at} of "
            f"{path.stat().st_size} ({e}). Copy or write it again; `clara shards --verify` tells which others are so."
        ) from e


def _refuse_compressed(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(6)
    for name, (magic, remedy) in {
        "gzip": (b"\x1f\x8b", "gunzip"),
        "bzip2": (b"BZh", "bunzip2"),
        "xz": (b"\xfd7zXZ\0", "unxz"),
        "zstandard": (b"(\xb5/\xfd", "unzstd"),
    }.items():
        if head.startswith(magic):
            raise ClaraError(
                f"{path} is compressed ({name}), and no uncompressed tar: samples are read where they lie. `{remedy}` "
                "makes a shard of it."
            )


def _check_end(path: Path, at: int) -> None:
    """tarfile takes whatever is not a header for the end. The end is zeros alone, one block of them at least."""
    with path.open("rb") as file:
        file.seek(at)
        rest = file.read(CHUNK)
        if len(rest) < tarfile.BLOCKSIZE:
            raise tarfile.ReadError("no end-of-archive mark")
        if rest[: tarfile.BLOCKSIZE].count(0) < tarfile.BLOCKSIZE:
            raise tarfile.ReadError("no header of a member, and no end-of-archive mark")
        while rest:
            if rest.count(0) < len(rest):
                raise tarfile.ReadError("an end-of-archive mark, and more data behind it")
            rest = file.read(CHUNK)


def grouped(path: Path) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
    """The samples of one tar as webdataset groups them: key, and members by suffix. ClaraError as `members` and
    `groups`."""
    last: str | None = None
    parts: dict[str, tarfile.TarInfo] = {}
    for member in members(path):
        found = split_name(member.name)
        if found is None or META.match(member.name):
            continue
        key, suffix = found
        if key != last:
            if last is not None and parts:
                yield last, parts
            last, parts = key, {}
        if suffix in parts:
            raise ClaraError(f"{path}: {member.name}: the key occurs twice, beside {sorted(parts)}.")
        parts[suffix] = member
    if last is not None and parts:
        yield last, parts


def groups(path: Path) -> Iterator[dict[str, Any]]:
    """The samples of one tar as webdataset yields them, undecoded: `__key__`, `__url__`, and bytes by suffix.

    Raises:
        ClaraError: no such file, a tar that breaks off or is damaged, or a sample that holds one suffix twice.
    """
    for key, parts in grouped(path):
        yield {"__key__": key, "__url__": str(path), **{s: content(path, m) for s, m in parts.items()}}


def content(path: Path, member: tarfile.TarInfo) -> bytes:
    """The bytes of one member."""
    with path.open("rb") as file:
        file.seek(member.offset_data)
        return file.read(member.size)
