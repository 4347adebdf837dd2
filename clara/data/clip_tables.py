"""Tables of labelled clips -> rows: a CSV file, a folder with a folder for each label, a DataFrame, a Dataset of
Hugging Face's, or a list of dictionaries. Neither pandas nor datasets is imported here."""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from clara.audio.arrays import samples
from clara.audio.sources import DatasetRow, expand, is_frame, plain, table_rows
from clara.data.manifest import Row, clips_of_table, numbered_table
from clara.errors import ClaraError, unknown
from clara.saving import whole_file
from clara.text.captions import SOUND_TASKS, facts_of, known
from clara.text.prompts import task_labels

SPLITS = ("train", "valid", "test")
COLUMNS = ("audio", "text", "label", "language", "emotion", "task", "split", "speaker")
TABLE = Path("table")  # what messages call a table in memory; its rows count from 1


def read_rows(table: Any, keep: Path | None = None) -> list[Row]:
    """The clips of a table, in order.

    Args:
        table: the path of a CSV file with a header, or of a folder that has a folder of clips for each label; or
            a DataFrame of pandas or polars, a Dataset of Hugging Face's, or dictionaries, with the columns of such a
            file: `audio` (a path, encoded bytes, or a cell of a data set), and `text`, `label` or `emotion`
            (`clara.train.finetune`). A cell of `text` or `label` may be a list. Other columns are passed over.
        keep: the folder where audio that is in no file is written; only for tables that are no file.

    Raises:
        ClaraError: with file and line (or the row's number) for what is missing or unknown.
    """
    if not isinstance(table, str | os.PathLike):
        records = _records(table_rows(table) if is_frame(table) else table, keep)
        found = [_row(cells, TABLE, where) for where, cells in clips_of_table(TABLE, records)]
    elif Path(table).is_dir():
        return _rows_of_folders(Path(table))
    else:
        csv = Path(table)
        found = [_row(cells, csv, where) for where, cells in clips_of_table(csv, numbered_table(csv, ["audio"]))]
    name = table if isinstance(table, str | os.PathLike) else TABLE
    if not found:
        raise ClaraError(f"{name} holds no rows.")
    missing = [row.audio for row in found if not Path(row.audio).is_file()]
    if missing:
        raise ClaraError(f"{name}: {len(missing)} of {len(found)} files are missing: {', '.join(missing[:5])}.")
    return found


def _records(rows: Any, keep: Path | None) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows as those of a CSV file, numbered from 1; a list in a cell becomes further records of the clip."""
    if not isinstance(rows, Iterable) or isinstance(rows, Mapping | bytes):
        raise ClaraError(
            f"A table of type {type(rows).__name__}: expected the path of a CSV file or folder, a DataFrame, a "
            "Dataset, or a list of dictionaries."
        )
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise ClaraError(f"{TABLE}:{number}: a row of type {type(row).__name__}, expected a dictionary.")
        row = row.cells() if isinstance(row, DatasetRow) else row  # read once
        cells = {name: _texts(row[name]) for name in COLUMNS[1:] if name in row}
        audio = _file_of(row, number, keep)
        longest = max((len(texts) for texts in cells.values()), default=0)
        for k in range(max(1, longest)):
            yield number, {"audio": audio, **{n: texts[k] for n, texts in cells.items() if k < len(texts)}}


def _texts(cell: Any) -> list[str]:
    """The texts of a cell; none of an empty one, which pandas writes as NaN."""
    if isinstance(cell, np.ndarray):
        cell = cell.tolist()
    if isinstance(cell, list | tuple):
        return [text for one in cell for text in _texts(one)]
    absent = cell is None or (isinstance(cell, float) and math.isnan(cell)) or type(cell).__name__ == "NAType"
    return [] if absent else [str(cell)]


def _file_of(row: Mapping[str, Any], number: int, keep: Path | None) -> str:
    """The path of a row's audio, which is written below `keep` where it is in no file."""
    where = f"{TABLE}:{number}"
    try:
        cell = row.get("audio")
        encoded = cell.get("path") if isinstance(cell, Mapping) else None
        source = encoded if encoded and Path(encoded).is_file() else plain(row)
    except ClaraError as e:
        raise ClaraError(f"{where}: {e}") from e
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    if not isinstance(source, bytes | bytearray | tuple):
        raise ClaraError(f"{where}: the cell 'audio' holds {source!r:.60}: expected a path, bytes or a decoded clip.")
    if keep is None:
        raise ClaraError(f"{where}: its audio is in no file: say where to keep such clips.")
    data = bytes(source) if isinstance(source, bytes | bytearray) else _as_wav(source)
    file = keep / f"{hashlib.sha256(data).hexdigest()[:24]}.audio"
    if not file.is_file():
        with whole_file(file) as part:
            part.write_bytes(data)
    return str(file)


def _as_wav(source: Any) -> bytes:
    wave_TC, rate = samples(source)
    buffer = io.BytesIO()
    sf.write(buffer, wave_TC, rate, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


def _rows_of_folders(folder: Path) -> list[Row]:
    corpus = re.sub(r"\W+", "_", folder.resolve().name)
    rows = [
        Row(str(clip), corpus, text=(own.name.replace("_", " "),), label=own.name)
        for own in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
        for clip in expand(own)
    ]
    if not rows:
        raise ClaraError(f"{folder} holds no folders with audio: expected one for each label, or a table (CSV).")
    return rows


def _row(cells: Mapping[str, list[str]], csv: Path, where: str) -> Row:
    single = ("audio", "language", "emotion", "task", "split", "speaker")
    one = {name: cells[name][0] if name in cells else None for name in single}
    if one["split"] not in (None, *SPLITS):
        raise unknown(f"split at {where}", one["split"], SPLITS)
    labels, texts = cells.get("label", []), cells.get("text", [])
    texts = texts or ([] if one["task"] else [label.replace("_", " ") for label in labels])
    values: dict[str, Any] = {**one, "label": labels[0] if len(labels) == 1 else None}
    if len(labels) > 1:
        values["original"] = {"labels": labels}
        if one["task"] not in (None, *SOUND_TASKS):
            raise ClaraError(f"{where}: the labels {labels} of a {one['task']}: only sounds may have several.")
    facts = facts_of(values)
    for task, key in [*facts, *((one["task"], label) for label in labels if one["task"] in SOUND_TASKS)]:
        if not known((task, key)):
            raise unknown(f"{task} at {where}", key, task_labels(task))
    if not texts and not facts:
        raise ClaraError(
            f"{where}: no 'text', no 'emotion' and no 'label' (with its 'task'): nothing to learn from. "
            f"The cells that are filled are of the columns {', '.join(map(repr, cells))}."
        )
    corpus = re.sub(r"\W+", "_", csv.stem)
    values |= {"audio": str(csv.parent / str(one["audio"])), "split": one["split"] or "train"}
    return Row(corpus=corpus, text=tuple(texts), **values)
