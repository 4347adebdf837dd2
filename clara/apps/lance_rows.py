"""The rows of a `LanceIndex`: their schema, the user's columns, and which files have to be embedded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from clara.audio.sources import describe, expand, path_of
from clara.errors import ClaraError, require

ABOUT = (b"clara_model", b"clara_sha256")  # metadata of the table
OWN = ("vector", "path", "part", "start", "end", "size", "changed_ns")  # written by us alone
FILE_COLUMNS = ("audio", "file", "path")  # of a user's table: which of its columns names the clip
SQL_TYPES = {"string": "string", "double": "double", "int64": "bigint", "bool": "boolean"}


def schema_of(width: int, about: Mapping[str, str]) -> Any:
    """The schema of an empty index of vectors of `width` numbers; `about` has model and sha256."""
    pa = require("pyarrow", "search")
    fields = {
        "vector": pa.list_(pa.float16(), width),
        "path": pa.string(),
        "part": pa.int32(),  # which window of its file
        "start": pa.float32(),
        "end": pa.float32(),
        "duration": pa.float32(),
        "date": pa.string(),
        "language": pa.string(),
        "size": pa.int64(),
        "changed_ns": pa.int64(),
    }
    return pa.schema(fields.items(), {ABOUT[0]: about["model"].encode(), ABOUT[1]: about["sha256"].encode()})


def to_arrow(
    schema: Any, audio_ND: Tensor, paths: Sequence[str], times_N2: Tensor, columns: Mapping[str, Mapping[str, Any]]
) -> Any:
    """Rows as a table of Arrow. ClaraError for a value that its column cannot hold."""
    import pyarrow as pa

    part_N, last_of = _parts(paths)
    stats = {path: _stat(path) for path in last_of}
    ends_N = times_N2[:, 1].numpy()
    flat = pa.array(audio_ND.numpy().astype(np.float16).reshape(-1))
    made = {
        "vector": pa.FixedSizeListArray.from_arrays(flat, audio_ND.shape[1]),
        "path": [writable(path) for path in paths],
        "part": part_N,
        "start": pa.array(times_N2[:, 0].numpy(), from_pandas=True),  # NaN becomes null
        "end": pa.array(ends_N, from_pandas=True),
        "duration": pa.array(np.array([ends_N[last_of[path]] for path in paths]), from_pandas=True),
        "size": [stats[path][0] for path in paths],
        "changed_ns": [stats[path][1] for path in paths],
        "date": [columns.get(path, {}).get("date") or stats[path][2] for path in paths],
    }
    for name in schema.names:
        if name not in made:
            made[name] = [columns.get(path, {}).get(name) for path in paths]
    try:
        return pa.table([_array(pa, made[f.name], f.type) for f in schema], schema=schema)
    except (pa.ArrowException, TypeError) as e:
        raise ClaraError(f"A value does not fit its column ({e}).") from e


def _array(pa: Any, values: Any, kind: Any) -> Any:
    return values.cast(kind) if isinstance(values, pa.Array) else pa.array(values, kind)


def _parts(paths: Sequence[str]) -> tuple[list[int], dict[str, int]]:
    """Which window of its file each row is, and the last row of each file."""
    parts, last_of = list[int](), dict[str, int]()
    for row, path in enumerate(paths):
        parts.append(parts[-1] + 1 if row and paths[row - 1] == path else 0)
        last_of[path] = row
    return parts, last_of


def _stat(path: str) -> tuple[int | None, int | None, str | None]:
    """Size in bytes, time of change in ns, and that as a date; nothing of what is not a file here."""
    try:
        found = os.stat(path)
    except OSError:
        return None, None, None
    changed = datetime.fromtimestamp(found.st_mtime, timezone.utc)
    return found.st_size, found.st_mtime_ns, changed.strftime("%Y-%m-%d %H:%M:%S")


def pending(table: Any, sources: Any) -> dict[str, str]:
    """path -> 'added', 'changed', 'unchanged' or 'removed', of all files among the sources, and of those that the table
    knows below folders among them.

    Raises:
        ClaraError: no audio, or audio without a path.
    """
    given = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
    folders = [path_of_clip(s) for s in given if isinstance(s, str | os.PathLike) and path_of(s).is_dir()]
    files = [path_of_clip(item) for item in expand(given)]
    rows = table.search().where("part = 0").select(["path", "size", "changed_ns"]).to_arrow()
    known = dict(zip(rows["path"].to_pylist(), zip(rows["size"].to_pylist(), rows["changed_ns"].to_pylist())))
    found: dict[str, str] = {}
    for path in files:
        was = known.get(writable(path))
        found[path] = "added" if was is None else "unchanged" if was == _stat(path)[:2] else "changed"
    there = {writable(path) for path in files}
    for path in known.keys() - there:
        if any(path.startswith(writable(os.path.join(folder, ""))) for folder in folders):
            found[path] = "removed"
    return found


def path_of_clip(source: Any) -> str:
    """The absolute path of a file or folder: an index on disk is used from other folders too. ClaraError for bytes and
    arrays, which cannot be found again."""
    if not isinstance(source, str | os.PathLike):
        raise ClaraError(f"{describe(source)} has no path: a LanceIndex holds files. Save it first, or use Index.")
    return os.path.abspath(path_of(source))


def writable(path: str) -> str:
    """A path as the table holds it: what UTF-8 lacks is escaped."""
    return path.encode("utf-8", "backslashreplace").decode()


def sql(text: str) -> str:
    """A text as a literal of SQL."""
    return "'" + writable(text).replace("'", "''") + "'"


def columns_of(schema: Any, rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The user's columns that a schema lacks, as types of SQL. ClaraError for a name of ours, or a value whose type is
    none of text, number and truth value."""
    import pyarrow as pa

    values: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            values.setdefault(name, []).append(value)
    kinds: dict[str, str] = {}
    for name, column in values.items():
        if name in OWN or not name.isidentifier():
            raise ClaraError(
                f"A column {name!r}: expected a name of letters, digits and _, other than {', '.join(OWN)}."
            )
        kind = str(pa.array([v for v in column if v is not None], from_pandas=True).type)
        if name not in schema.names and kind != "null":
            if kind not in SQL_TYPES:
                raise ClaraError(f"Column {name!r} holds {kind}: expected text, numbers or truth values.")
            kinds[name] = SQL_TYPES[kind]
    return kinds


def read_columns(path: Path) -> dict[str, dict[str, Any]]:
    """The user's columns of a CSV whose column `audio`, `file` or `path` names clips, relative to the table's folder ->
    path -> column -> value. Types are told by the values; dates stay text. ClaraError for a table without that column,
    or one that cannot be read."""
    pa = require("pyarrow", "search")
    csv = require("pyarrow.csv", "search")
    try:
        table = csv.read_csv(path)
    except (pa.ArrowException, OSError) as e:
        raise ClaraError(f"{path} cannot be read as CSV ({str(e).splitlines()[0]}).") from e
    key = next((name for name in FILE_COLUMNS if name in table.column_names), None)
    if key is None:
        raise ClaraError(
            f"{path} has the columns {table.column_names}: expected one named {' or '.join(FILE_COLUMNS)}."
        )
    return {
        path_of_clip(path.parent / str(row[key])): {
            n: _plain(v) for n, v in row.items() if n != key and v not in ("", None)
        }
        for row in table.to_pylist()
    }


def _plain(value: Any) -> Any:
    return value.isoformat(" ") if isinstance(value, datetime) else str(value) if isinstance(value, date) else value
