"""Any CSV file with a column `audio`, one of `text`, `label` and `emotion`, and whichever others of COLUMNS are known.

`audio` is a path beside the CSV file (or absolute, or `a.tar::member`); several texts or labels are parted by
`|`, or stand in several rows, which agree in all else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clara.data.manifest import Corpus, Row, clips_of_table, find_files, numbered_table, row_from_dict
from clara.errors import ClaraError, unknown

INFO = Corpus("csv", "as its owner states", "your own table", "caption", sources=None)
CAPTIONS = ("text", "label", "emotion")
SPEAKER = ("speaker", "gender", "age", "transcript")
COLUMNS = ("audio", *CAPTIONS, *SPEAKER, "language", "split", "task", "seconds", "corpus", "license")


def rows(folder: Path) -> Iterator[Row]:
    """Rows of a CSV file, or of the only one in a folder. Without `task`, a `label` is that of a sound."""
    folder = Path(folder)
    tables = [folder] if folder.is_file() else find_files(folder, "*.csv")
    if len(tables) > 1:
        raise ClaraError(f"{folder} holds {len(tables)} CSV files: name the one that lists the clips.")
    table = tables[0]
    for where, cells in clips_of_table(table, _known(table)):
        if not any(name in cells for name in CAPTIONS):
            raise ClaraError(f"{where}: expected a clip under 'audio' and a cell under text, label or emotion.")
        task = "emotion" if "emotion" in cells else "sound" if "label" in cells else "caption"
        given: dict[str, Any] = {"corpus": table.stem, "task": task} | {k: v[0] for k, v in cells.items()}
        given["audio"] = str(table.parent / given["audio"])
        given["text"], labels = _parted(cells.get("text", [])), _parted(cells.get("label", []))
        if len(labels) > 1:
            del given["label"]
            given["original"] = {"labels": labels}
        if "seconds" in cells:
            given["seconds"] = seconds(given["seconds"], where)
        yield row_from_dict(given, where)


def _known(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    for number, record in numbered_table(table, ("audio",)):
        for column in record:
            if column not in COLUMNS:
                raise unknown(f"column of {table}", column, COLUMNS)
        yield number, record


def _parted(cells: list[str]) -> list[str]:
    return list(dict.fromkeys(part.strip() for cell in cells for part in cell.split("|") if part.strip()))


def seconds(text: str, where: str) -> float:
    """A length in seconds, or a ClaraError that says where it stands."""
    try:
        return float(text)
    except ValueError as e:
        raise ClaraError(f"{where}: seconds is {text!r}, expected a number.") from e
