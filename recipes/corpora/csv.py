"""Any CSV file with a column `audio`, one of `text`, `label` and `emotion`, and whichever others of COLUMNS are known.

`audio` is a path beside the CSV file (or absolute, or `a.tar::member`); several texts are parted by `|`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.manifest import Corpus, Row, find_files, read_table, row_from_dict
from clara.errors import ClaraError, unknown

INFO = Corpus("csv", "as its owner states", "your own table", "caption")
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
    for number, record in enumerate(read_table(table, ("audio",)), start=2):
        for column in record:
            if column not in COLUMNS:
                raise unknown(f"column of {table}", column, COLUMNS)
        where, cell = f"{table}:{number}", {k: v.strip() for k, v in record.items() if v.strip()}
        if "audio" not in cell or not any(c in cell for c in CAPTIONS):
            raise ClaraError(f"{where}: expected a clip under 'audio' and a cell under text, label or emotion.")
        task = "emotion" if "emotion" in cell else "sound" if "label" in cell else "caption"
        given = {"corpus": table.stem, "task": task} | cell
        given["audio"] = str(table.parent / cell["audio"])
        given["text"] = [t.strip() for t in cell.get("text", "").split("|") if t.strip()]
        if "seconds" in cell:
            given["seconds"] = seconds(cell["seconds"], where)
        yield row_from_dict(given, where)


def seconds(text: str, where: str) -> float:
    """A length in seconds, or a ClaraError that says where it stands."""
    try:
        return float(text)
    except ValueError as e:
        raise ClaraError(f"{where}: seconds is {text!r}, expected a number.") from e
