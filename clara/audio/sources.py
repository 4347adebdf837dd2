"""What stands for audio in other people's hands: paths, folders, bytes, open files, pipes, arrays, cells of tables."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clara.errors import ClaraError

EXTENSIONS = (
    ".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au", ".m4a", ".mp4", ".webm", ".mkv", ".aac", ".oga",
    ".spx", ".caf", ".aifc", ".w64", ".rf64", ".sph", ".snd", ".m4b", ".mka", ".mov", ".3gp", ".wma", ".amr", ".mp2",
    ".3gpp", ".3g2", ".awb", ".m4v", ".qta", ".weba",
)  # fmt: skip
# what systems put into folders of audio; hidden ones (.Trash, .ipynb_checkpoints, .git) are known by their dot
PASSED_OVER = {"__MACOSX", "$RECYCLE.BIN", "System Volume Information", "@eaDir", "lost+found"}
STDIN = "-"
URL = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # a Path has one slash left; one letter is a drive


def expand(sources: Any) -> list[Any]:
    """One source or many, folders replaced by the audio below them, pipes by their bytes, and a table of clips by its
    rows. ClaraError when nothing is left, for an empty path, or for a table without audio."""
    if _is_one(sources):
        sources = [sources]
    elif is_frame(sources):
        sources = table_rows(sources)
    elif _is_column(sources):
        sources = sources.tolist() if hasattr(sources, "tolist") else sources.to_pylist()
    elif not isinstance(sources, Iterable) or hasattr(sources, "shape"):
        raise ClaraError(
            f"Audio of type {type(sources).__name__}: expected paths, encoded bytes or (array, sample_rate) pairs, "
            "open binary files or cells of a data set; one or a list."
        )
    items: list[Any] = []
    for source in sources:
        if not isinstance(source, str | os.PathLike):
            items.append(source)
            continue
        path = path_of(source)
        if path.is_dir():
            items += list_audio(path)
        else:
            items.append({"bytes": plain(path), "path": str(source)} if _is_pipe(path) else source)
    if not items:
        raise ClaraError("Got no audio: expected at least one file, folder, bytes or (array, sample_rate).")
    return items


def _is_one(source: Any) -> bool:
    one = isinstance(source, str | os.PathLike | bytes | bytearray | Mapping) or hasattr(source, "read")
    return (
        one or _is_decoded(source) or (isinstance(source, tuple) and len(source) == 2 and hasattr(source[0], "shape"))
    )


def _is_decoded(source: Any) -> bool:
    """torchcodec's AudioDecoder, which datasets 4 makes of a cell, or its AudioSamples."""
    return hasattr(source, "get_all_samples") or (hasattr(source, "data") and hasattr(source, "sample_rate"))


def _is_column(sources: Any) -> bool:
    """An array, a Series of pandas or a column of Arrow that holds paths or cells; numbers would be samples."""
    if hasattr(sources, "to_pylist"):
        return True
    dtype = getattr(sources, "dtype", None)
    return getattr(sources, "ndim", 0) == 1 and (getattr(dtype, "kind", None) in ("O", "U", "T") or "str" in str(dtype))


AUDIO_COLUMNS = ("audio", "path", "bytes", "array")


class DatasetRow(Mapping[str, Any]):
    """A row of a Dataset of Hugging Face's, read whenever it is asked for: the audio of all rows would not fit into
    memory."""

    def __init__(self, table: Any, at: int) -> None:
        self.table, self.at = table, at

    def cells(self) -> dict[str, Any]:
        """The row itself, class labels by their names."""
        row = dict(self.table[self.at])
        for name, feature in self.table.features.items():
            if hasattr(feature, "int2str") and row[name] is not None:
                row[name] = feature.int2str(row[name])
        return row

    def __getitem__(self, key: str) -> Any:
        if key not in self.table.column_names:
            raise KeyError(key)
        return self.cells()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.table.column_names)

    def __len__(self) -> int:
        return len(self.table.column_names)


def is_frame(source: Any) -> bool:
    """A table with columns: a DataFrame of pandas or polars, or a Dataset of Hugging Face's."""
    return _is_dataset(source) or (hasattr(source, "columns") and (hasattr(source, "iterrows") or _is_polars(source)))


def _is_dataset(source: Any) -> bool:
    return hasattr(source, "column_names") and hasattr(source, "features") and hasattr(source, "__getitem__")


def _is_polars(source: Any) -> bool:
    return hasattr(source, "to_dicts")


def table_rows(table: Any) -> list[Mapping[str, Any]]:
    """The rows of a table (`is_frame`) as dictionaries. Audio of a Dataset stays encoded until it is read, and its
    class labels are named. ClaraError where no column holds audio, or for a dictionary of splits."""
    dataset = _is_dataset(table)
    if isinstance(table, Mapping):
        raise ClaraError(f"A data set of the splits {', '.join(table)}: pass one of them.")
    names = list(map(str, table.column_names if dataset else table.columns))
    if not set(names) & set(AUDIO_COLUMNS):
        raise ClaraError(
            f"A table with the columns {', '.join(names) or 'none'}: expected 'audio', of paths, encoded bytes or "
            "cells of a data set. Rename the column that holds it."
        )
    if not dataset:
        return list(table.to_dicts() if _is_polars(table) else table.to_dict("records"))
    for name, feature in table.features.items():
        if type(feature).__name__ == "Audio" and feature.decode:
            table = table.cast_column(name, type(feature)(decode=False))
    return [DatasetRow(table, i) for i in range(len(table))]


def path_of(source: str | os.PathLike[str]) -> Path:
    """A path as it is meant: '~' is the home folder unless something has that name. ClaraError for an empty one, which
    would stand for the working folder."""
    text = os.fspath(source)
    if not text.strip():
        raise ClaraError(f"Got {text!r} as audio: expected a path. The working folder is '.'.")
    path = Path(text)
    return path.expanduser() if text.startswith("~") and not path.exists() else path


def audio_file(source: str | os.PathLike[str]) -> Path:
    """The path of one audio file. ClaraError for a folder, a URL, a missing or an empty file; nothing is decoded."""
    path = path_of(source)
    if path.is_dir():
        raise ClaraError(f"{path} is a folder: use clara.audio.sources.list_audio(folder) or pass the files.")
    if not path.is_file():
        if URL.match(str(source)):
            raise ClaraError(f"{source}: addresses are not fetched. Download it, and pass the file or its bytes.")
        raise ClaraError(f"No such audio file: {path}.")
    if path.stat().st_size == 0:
        raise ClaraError(f"{path} is empty (0 bytes).")
    return path


def _is_pipe(path: Path) -> bool:
    if str(path) == STDIN:
        return True
    try:
        return stat.S_ISFIFO(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def plain(source: Any) -> Any:
    """A path, the encoded bytes, or an (array, rate) pair, of whatever stands for one clip.

    An open binary file, a pipe and '-' (standard input) give their bytes, from the beginning where they can go back; a
    cell of Hugging Face's datasets ({"array", "sampling_rate"}, {"bytes"}, {"path"}, or torchcodec's AudioDecoder and
    AudioSamples) what it holds; a row with a column "audio", that. Paths, bytes and pairs stay as they are.

    Raises:
        ClaraError: a file opened as text, or one that is closed; a cell that holds none of these; an empty path.
    """
    if isinstance(source, str | os.PathLike):
        return _read_pipe(path_of(source), source)
    if isinstance(source, Mapping):
        return _cell(source)
    if hasattr(source, "get_all_samples"):
        try:
            source = source.get_all_samples()
        except (RuntimeError, ValueError) as e:
            raise ClaraError(f"{describe(source)} cannot be decoded as audio ({e}).") from e
    if _is_decoded(source):
        return source.data, source.sample_rate
    if not hasattr(source, "read"):
        return source
    try:
        if source.seekable():
            source.seek(0)
        data = source.read()
    except (ValueError, AttributeError) as e:
        raise ClaraError(f"{describe(source)} cannot be read ({e}): expected an open binary file.") from e
    if not isinstance(data, bytes | bytearray):
        raise ClaraError(f"{describe(source)} gives {type(data).__name__}, not bytes: open it in mode 'rb'.")
    return data


def _read_pipe(path: Path, source: Any) -> Any:
    if not _is_pipe(path):
        return source if path == Path(source) else path
    if str(path) == STDIN:
        return sys.stdin.buffer.read()
    with path.open("rb") as file:
        return file.read()


def _cell(source: Mapping[Any, Any]) -> Any:
    source = source.cells() if isinstance(source, DatasetRow) else source  # once, not for every key
    if (wave := source.get("array")) is not None:
        rate = source.get("sampling_rate", source.get("sample_rate"))
        return wave if hasattr(wave, "shape") else np.asarray(wave, np.float32), rate
    if found := source.get("bytes") or source.get("path"):
        return found
    if source.get("audio") is not None:
        return plain(source["audio"])
    raise ClaraError(
        f"Audio as a dictionary of {sorted(map(str, source))}: expected 'array' and 'sampling_rate', 'bytes', 'path', "
        "or a row with one of these under 'audio'."
    )


def list_audio(folder: str | Path) -> list[Path]:
    """All audio files below `folder`, through links too, sorted; hidden files and folders, and those of the system, are
    passed over (macOS puts a `._name.wav` that is not audio beside each file of a foreign disk).

    Raises:
        ClaraError: no folder, no audio in it, or a folder below it that may not be read.
    """
    folder = path_of(folder)
    if not folder.is_dir():
        raise ClaraError(f"No such folder: {folder}.")
    found = sorted(p for p in walk(folder) if p.suffix.lower() in EXTENSIONS)
    if not found:
        raise ClaraError(f"No audio below {folder}. Looked for {' '.join(EXTENSIONS)}.")
    return found


def walk(folder: Path) -> Iterator[Path]:
    """Every file below `folder` that is not hidden. A folder is read once, however many links lead to it, by its own
    name where it lies below itself."""
    waiting, linked = [folder], list[Path]()
    seen: set[str] = set()
    while waiting or linked:
        here = waiting.pop() if waiting else linked.pop(0)
        if (real := os.path.realpath(here)) in seen:
            continue
        seen.add(real)
        try:
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as e:
            raise ClaraError(f"{here} cannot be read ({e.strerror}): what lies there would be left out.") from e
        for entry in entries:
            if entry.name.startswith(".") or entry.name in PASSED_OVER:
                continue
            if entry.is_dir():
                (linked if entry.is_symlink() else waiting).append(here / entry.name)
            elif entry.is_file():
                yield here / entry.name


def describe(source: Any) -> str:
    """A short name of a source for messages."""
    if isinstance(source, str | os.PathLike):
        return str(source)
    if isinstance(source, bytes | bytearray):
        return f"<{len(source)} bytes>"
    if isinstance(source, tuple) and len(source) == 2 and hasattr(source[0], "shape"):
        return f"<array {tuple(source[0].shape)} at {source[1]} Hz>"
    if isinstance(source, Mapping):
        source = source.cells() if isinstance(source, DatasetRow) else source
        name = source.get("path") or (describe(source["audio"]) if source.get("audio") is not None else None)
    else:
        encoded = getattr(source, "_hf_encoded", None)  # where datasets keeps the cell that it decodes
        name = encoded.get("path") if isinstance(encoded, Mapping) else getattr(source, "name", None)
    return name if isinstance(name, str) and name else f"<{type(source).__name__}>"
