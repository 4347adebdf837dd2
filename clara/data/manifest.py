"""One row schema for every corpus, as JSON Lines; plug-ins of `recipes/corpora` read the corpora. Imports no torch."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from clara.errors import ClaraError, unknown
from clara.parsing import number_of_seconds, parse_json
from clara.saving import whole_file

TASKS = ("emotion", "sound", "instrument", "word", "language", "speaker", "arousal", "caption")
WHEEL_CORPORA = Path(__file__).parents[1] / "_recipes" / "corpora"
LONGEST_CELL = 1 << 24  # characters
csv.field_size_limit(LONGEST_CELL)  # of the process; 131,072 is less than some transcripts have
TEXTS = ("text", "text_augmented", "visual_captions")


@dataclass(frozen=True)
class Row:
    """One clip. `audio` is a path, or `tar_path::member`; `language` is that spoken (ISO 639-1), None without speech.

    `text`: captions as published; `text_augmented`: reworded or translated; `visual_captions`: of what is seen.
    `emotion` and `label` are canonical keys of the language files; `label` belongs to `task` where that is sound,
    instrument, word or arousal. `original`: whatever else the corpus tells.
    """

    audio: str
    corpus: str
    split: str = "train"
    seconds: float | None = None
    language: str | None = None
    text: tuple[str, ...] = ()
    text_augmented: tuple[str, ...] = ()
    visual_captions: tuple[str, ...] = ()
    emotion: str | None = None
    label: str | None = None
    task: str | None = None
    speaker: str | None = None
    gender: str | None = None
    age: str | None = None
    transcript: str | None = None
    license: str | None = None
    original: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Corpus:
    """What a corpus is: its licence as stated upstream, its source, its main task and languages, how to cite it.

    `clips`: how many it publishes, by split, "all" or "field=value". `partial`: clips vanish upstream (YouTube), so
    rows without a file are left out and counted. `sources`: other corpora or archives that its recordings come from
    (empty: recorded for it; None: not known).
    """

    name: str
    license: str
    source_url: str
    task: str
    languages: tuple[str, ...] = ()
    citation: str = ""
    clips: dict[str, int] = field(default_factory=dict)
    partial: bool = False
    sources: tuple[str, ...] | None = ()


FIELDS = {f.name: f for f in dataclasses.fields(Row)}


def row_from_dict(data: Any, where: str) -> Row:
    """A Row from a mapping of plain values. ClaraError naming `where` and the key for anything that is not a Row."""
    if not isinstance(data, Mapping):
        raise ClaraError(f"{where}: got {type(data).__name__}, expected an object with the keys of a manifest row.")
    for key in data:
        if key not in FIELDS:
            raise unknown(f"key at {where}", key, FIELDS)
    for key in ("audio", "corpus"):
        if not data.get(key):
            raise ClaraError(f"{where}: {key!r} is missing or empty; every row needs it.")
    values = {key: _value(key, value, where) for key, value in data.items()}
    if values.get("task") is not None and values["task"] not in TASKS:
        raise unknown(f"task at {where}", values["task"], TASKS)
    return Row(**values)


def _value(key: str, value: Any, where: str) -> Any:
    if key in TEXTS:
        if isinstance(value, list | tuple) and all(isinstance(t, str) for t in value):
            return tuple(value)
        raise ClaraError(f"{where}: {key!r} is {value!r}, expected a list of texts.")
    if key == "original":
        if isinstance(value, Mapping):
            return dict(value)
        raise ClaraError(f"{where}: 'original' is {value!r}, expected an object.")
    if value is None and FIELDS[key].default is None:
        return None
    if key == "seconds":
        if (seconds := number_of_seconds(value)) is not None:
            return seconds
        raise ClaraError(f"{where}: 'seconds' is {value!r}, expected a number of at least 0, finite, or null.")
    if isinstance(value, str):
        return value
    raise ClaraError(f"{where}: {key!r} is {value!r} ({type(value).__name__}), expected text.")


def row_to_dict(row: Row) -> dict[str, Any]:
    """The inverse of `row_from_dict`: plain values, fields at their default left out."""
    values = {name: getattr(row, name) for name in FIELDS}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items() if v not in (None, (), {})}


def split_audio(audio: str) -> tuple[str, str | None]:
    """`a.tar::b.wav` -> ("a.tar", "b.wav"); any other path -> (path, None)."""
    head, sep, member = audio.partition(".tar::")
    return (f"{head}.tar", member) if sep else (audio, None)


def _moved(audio: str, move: Callable[[str], str]) -> str:
    path, member = split_audio(audio)
    return audio if os.path.isabs(path) else move(path) + (f"::{member}" if member else "")


def read_manifest(path: str | Path) -> Iterator[Row]:
    """The rows of a JSONL manifest; relative audio paths are relative to the manifest's folder.

    Raises:
        ClaraError: no such file, no rows, or a bad line, with its number.
    """
    path = Path(path)
    if not path.is_file():
        raise ClaraError(f"No such manifest: {path}. Expected a JSON Lines file, one row per line.")
    if path.suffix.lower() in (".csv", ".tsv"):
        raise ClaraError(f"{path} is a table, no JSON Lines: read it with --corpus csv --data {path}.")
    return _read_lines(path)


def _read_lines(path: Path) -> Iterator[Row]:
    number, rows = 0, 0
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                row = row_from_dict(_object(line, f"{path}:{number}"), f"{path}:{number}")
                rows += 1
                audio = _moved(row.audio, lambda p: os.path.normpath(path.parent / p))
                yield dataclasses.replace(row, audio=audio)
    except UnicodeDecodeError as e:
        raise ClaraError(f"{path}: not UTF-8 after line {number} ({e.reason}).") from e
    if not rows:
        raise ClaraError(f"{path} holds no rows.")


def _object(line: str, where: str) -> Any:
    try:
        return parse_json(line)
    except ClaraError as e:
        raise ClaraError(f"{where}: not valid JSON ({e}). Expected one object per line.") from e


def write_manifest(path: str | Path, rows: Iterable[Row]) -> int:
    """Write rows as JSONL, atomically; relative audio paths are rewritten relative to its folder. Returns the count.
    What UTF-8 lacks, in a file's name, is written as JSON escapes it."""
    path = Path(path)
    count = 0
    with whole_file(path) as part, part.open("w", encoding="utf-8", errors="backslashreplace") as file:
        for row in rows:
            audio = _moved(row.audio, lambda p: os.path.relpath(p, path.parent))
            line = json.dumps({**row_to_dict(row), "audio": audio}, ensure_ascii=False)
            row_from_dict(json.loads(line), f"row {count + 1}")  # what is written can be read back
            file.write(line + "\n")
            count += 1
    return count


def corpus_folders(near: Path | None = None) -> list[Path]:
    """Where plug-ins are looked for by name: beside the recipe file or folder `near`, then in the installed package."""
    beside = [] if near is None else [near / "corpora", near.parent / "corpora", near.parent.parent / "corpora"]
    return [p for p in (*beside, WHEEL_CORPORA) if p.is_dir()]


def corpus_names(near: Path | None = None) -> list[str]:
    """Names of the plug-ins that `load_corpus` finds."""
    return sorted({p.stem for folder in corpus_folders(near) for p in folder.glob("[!_]*.py")})


def load_corpus(name_or_path: str | Path, near: str | Path | None = None) -> ModuleType:
    """The plug-in module of a corpus: `INFO: Corpus` and `rows(folder) -> Iterator[Row]`. Runs the Python file named.

    A path ends in .py; a name is looked up beside the recipe `near`, then in the installed package.
    """
    near = None if near is None else Path(near)
    if str(name_or_path).endswith(".py"):
        path = Path(name_or_path)
        if not path.is_file() and near is not None:
            path = near.parent / path
        if not path.is_file():
            raise ClaraError(f"No such corpus file: {name_or_path}.")
    else:
        found = [f / f"{name_or_path}.py" for f in corpus_folders(near) if (f / f"{name_or_path}.py").is_file()]
        if not found or Path(str(name_or_path)).name != str(name_or_path):
            raise unknown("corpus", str(name_or_path), corpus_names(near))
        path = found[0]
    return _import(path)


def _import(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"clara_corpus_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # of a .py file
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as e:  # whatever a plug-in's own code raises is reported with its file
        raise ClaraError(f"{path} does not load: {type(e).__name__}: {e}") from e
    if not isinstance(getattr(module, "INFO", None), Corpus) or not callable(getattr(module, "rows", None)):
        raise ClaraError(f"{path} is not a corpus file: expected INFO = Corpus(...) and def rows(folder).")
    return module


def rows_from_corpus(name_or_path: str | Path, folder: str | Path, near: str | Path | None = None) -> Iterator[Row]:
    """The rows of a corpus in its official layout under `folder`, by its plug-in. ClaraError when it holds none."""
    module, folder = load_corpus(name_or_path, near), Path(folder)
    if not folder.exists():
        raise ClaraError(
            f"No such folder: {folder}. Expected the corpus {module.INFO.name!r} ({module.INFO.source_url})."
        )
    return _checked(module, folder)


def is_there(row: Row) -> bool:
    """Is there a file for the row? Of a member of a tar, the tar."""
    return os.path.exists(split_audio(row.audio)[0])


def _checked(module: ModuleType, folder: Path) -> Iterator[Row]:
    count, absent = 0, 0
    for row in module.rows(folder):
        if row.task is not None and row.task not in TASKS:
            raise unknown(f"task of {row.audio}", row.task, TASKS)
        if module.INFO.partial and not is_there(row):
            absent += 1
            continue
        count += 1
        yield row if row.license else dataclasses.replace(row, license=module.INFO.license)
    if absent:
        warnings.warn(f"{absent} clips of {module.INFO.name} are listed, but not below {folder}.", stacklevel=3)
    if not count:
        raise ClaraError(f"{folder} holds no clip of {module.INFO.name!r}: is this the folder of its official layout?")


def read_table(
    path: str | Path, columns: Sequence[str], delimiter: str = ",", quoted: bool = True, header: bool = True
) -> Iterator[dict[str, str]]:
    """As `numbered_table`, without the lines."""
    for _, record in numbered_table(path, columns, delimiter, quoted, header):
        yield record


def numbered_table(
    path: str | Path, columns: Sequence[str], delimiter: str = ",", quoted: bool = True, header: bool = True
) -> Iterator[tuple[int, dict[str, str]]]:
    """The records of a CSV file (for plug-ins), each with the line on which it begins. Without a header, `columns` are
    all its columns in their order. Quoting is strict: a quote that is not closed swallows no rows.

    Raises:
        ClaraError: a missing file, column or cell, a column named twice, a wrong quote.
    """
    path = Path(path)
    if not path.is_file():
        raise ClaraError(f"No such file: {path}. Expected a table with the columns {', '.join(columns)}.")
    names = None if header else list(columns)
    for line, cells in _records(path, delimiter, quoted):
        if names is None:
            names = cells
            check_columns(path, names, columns, delimiter)
            if twice := {n for n in names if n and names.count(n) > 1}:
                raise ClaraError(f"{path}: the column {min(twice)!r} is there twice: one of them would be lost.")
            continue
        if len(cells) != len(names):
            raise ClaraError(
                f"{path}:{line}: expected {len(names)} cells, got {len(cells)}. A cell with a {delimiter!r} in it "
                "needs quotes around it."
            )
        yield line, dict(zip(names, cells))
    if names is None:
        check_columns(path, (), columns, delimiter)


def _records(path: Path, delimiter: str, quoted: bool) -> Iterator[tuple[int, list[str]]]:
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    before, width = 0, 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, quoting=quoting, strict=True)
            try:
                for cells in reader:
                    width = width or len(cells)
                    # a cell may hold line breaks, but one that holds what looks like a row has eaten it
                    inner = [
                        x for c in cells if "\n" in c for x in c.splitlines() if x.count(delimiter) >= width - 1 > 0
                    ]
                    if inner:
                        raise csv.Error(f"a cell runs to line {reader.line_num} over what looks like a row")
                    if cells:
                        yield before + 1, cells
                    before = reader.line_num
            except csv.Error as e:
                raise ClaraError(
                    f"{path}:{before + 1}: {e}. Is a quote not closed? A quote within a quoted cell is doubled, and a "
                    f"cell holds at most {LONGEST_CELL:,} characters."
                ) from e
    except UnicodeDecodeError as e:
        raise ClaraError(f"{path} is not UTF-8 ({e.reason}): save the table as UTF-8.") from e


def clips_of_table(
    path: Path, records: Iterable[tuple[int, Mapping[str, str]]], several: Sequence[str] = ("text", "label")
) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """One clip for all records with the same path under `audio`, in order of the first: (file:line of it, cells).

    Cells of the columns `several` are put together; of any other column the records of a clip may leave some empty,
    and must otherwise agree.

    Raises:
        ClaraError: no `audio`, or records of one clip that differ in another column, with both lines.
    """
    clips: dict[str, dict[str, dict[str, int]]] = {}
    lines: dict[str, int] = {}
    for line, record in records:
        cells = {name: value.strip() for name, value in record.items() if value.strip()}
        if "audio" not in cells:
            raise ClaraError(f"{path}:{line}: the cell 'audio' is empty: expected the path of a clip.")
        audio = os.path.normpath(cells.pop("audio"))
        lines.setdefault(audio, line)
        clip = clips.setdefault(audio, {})
        for name, value in cells.items():
            values = clip.setdefault(name, {})
            if values and value not in values and name not in several:
                ((other, first),) = values.items()
                raise ClaraError(
                    f"{path}:{line}: {name} is {value!r}, and {other!r} on line {first}, of the same clip {audio}. "
                    f"Records of one clip may differ in {' and '.join(several)} alone: mend one of them."
                )
            values.setdefault(value, line)
    for audio, clip in clips.items():
        yield f"{path}:{lines[audio]}", {"audio": [audio], **{name: list(values) for name, values in clip.items()}}


def check_columns(path: Path, found: Sequence[str], wanted: Sequence[str], delimiter: str = ",") -> None:
    """ClaraError when a table lacks a column; one parted by something else than `delimiter` is told so."""
    if missing := [c for c in wanted if c not in found]:
        other = next((d for d in ";\t,|" if len(found) == 1 and d in found[0] and d != delimiter), None)
        hint = f" Its cells are parted by {other!r}: save it with {delimiter!r} instead." if other else ""
        raise ClaraError(f"{path}: no column {', '.join(missing)}; found {', '.join(found) or 'nothing'}.{hint}")


def find_files(folder: str | Path, pattern: str) -> list[Path]:
    """Files below `folder` that match a glob, sorted (for plug-ins). ClaraError when there is none."""
    found = sorted(p for p in Path(folder).glob(pattern) if p.is_file())
    if not found:
        raise ClaraError(f"{folder}: nothing matches {pattern!r}. Is this the folder of the corpus' official layout?")
    return found
