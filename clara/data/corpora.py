"""What corpus files share: clips whose names tell what they are, a look at what is there, and finding a corpus in a
folder whether it lies there as published, packed or in shards. Imports no torch.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from clara.audio.sources import EXTENSIONS, walk
from clara.data.manifest import FIELDS, Corpus, Row, find_files, is_there, load_corpus, rows_from_corpus
from clara.data.samples import read_index, scan_rows
from clara.data.tars import tars_below
from clara.errors import ClaraError
from clara.text.prompts import task_labels

Codes = Mapping[str, Mapping[str, Any]]
PACKED = ("audio.tar", "manifest.csv")
LOOK_CLIPS, LOOK_FOLDERS = 40, 200  # how much of a folder is looked at to know a corpus by its clips


@dataclass(frozen=True)
class Names:
    """Clips whose path says what they are, as data.

    `glob` finds them. `pattern` is a regular expression for the end of a path, suffix left out, with a named group for
    each thing it says. `codes[group][text]` is what a text stands for: a value, or several fields of a Row; a group
    without codes stands for itself. Groups named like a field of Row fill it, others go to `original`. Case is ignored.
    """

    glob: str
    pattern: str
    example: str
    codes: Codes = field(default_factory=dict)


def named_rows(folder: Path, info: Corpus, names: Names, codes: Codes | None = None, **fixed: Any) -> Iterator[Row]:
    """The rows of a corpus by its files' names, sorted by path; split "test" unless a group or `fixed` says otherwise.

    Args:
        codes: more of them, read from the corpus' own tables.
        fixed: fields that all rows have.

    Raises:
        ClaraError: no clip, or a name that the pattern or the codes do not know.
    """
    known = {group: _folded(table) for group, table in {**names.codes, **(codes or {})}.items()}
    pattern = re.compile(f"(?:^|.*?/)(?:{names.pattern})$", re.IGNORECASE)
    fixed = {"split": "test", "task": info.task} | fixed
    if len(info.languages) == 1:
        fixed = {"language": info.languages[0]} | fixed
    for path in find_files(folder, names.glob):
        found = pattern.match(path.relative_to(folder).with_suffix("").as_posix())
        if found is None:
            raise ClaraError(f"{path}: expected a name as in {names.example}.")
        yield row_of({k: v for k, v in found.groupdict().items() if v}, known, path, info, fixed)


def _folded(table: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key).lower(): value for key, value in table.items()}


def row_of(said: Mapping[str, str], codes: Codes, path: Path, info: Corpus, fixed: Mapping[str, Any]) -> Row:
    """One Row from what a name says. An emotion that has no key of ours stays in `original` as the corpus calls it."""
    values: dict[str, Any] = dict(fixed)
    original: dict[str, Any] = dict(values.pop("original", {}))
    for group, text in said.items():
        table = codes.get(group)
        if table is not None and text.lower() not in table:
            raise ClaraError(f"{path}: {group} {text!r} is none of {', '.join(sorted(table))}.")
        value = text if table is None else table[text.lower()]
        for name, part in (value if isinstance(value, Mapping) else {group: value}).items():
            (values if name in FIELDS else original)[name] = part
    if values.get("emotion") not in (None, *task_labels("emotion")):
        original["emotion"] = values.pop("emotion")
    return Row(str(path), info.name, original=original, **values)


def emotion(word: str, table: Mapping[str, str], where: object) -> dict[str, Any]:
    """The fields `emotion` and `original` of a Row for a word of a corpus' table of labels; ClaraError for another."""
    if word not in table:
        raise ClaraError(f"{where}: emotion {word!r} is none of {', '.join(sorted(table))}.")
    key = table[word]
    return {"emotion": key} if key in task_labels("emotion") else {"original": {"emotion": key}}


def clip_paths(folder: str | Path) -> dict[str, Path]:
    """Every audio file below `folder` by its name without suffix."""
    return {p.stem: p for p in sorted(walk(Path(folder))) if p.suffix.lower() in EXTENSIONS}


def pick(clips: Mapping[str, Path], folder: Path, *stems: str) -> str:
    """The path of the first of `stems` that is among `clips`; of none, where the first would lie."""
    return str(next((clips[s] for s in stems if s in clips), folder / f"{stems[0]}.wav"))


# is all of it there?


@dataclass(frozen=True)
class Inventory:
    """What `take_inventory` found: (part, clips found, clips published or None), files that the tables name but that
    are not there, and codes that no file has."""

    corpus: Corpus
    counts: tuple[tuple[str, int, int | None], ...]
    missing: tuple[str, ...]
    unheard: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Every part that is there at all has the published number of clips, and no file is missing."""
        parts = [(n, want) for name, n, want in self.counts if n or "=" not in name]
        return not self.missing and all(want is None or n == want for n, want in parts)

    def lines(self, most: int = 10) -> list[str]:
        """The findings, a line each, at most `most` names of missing files."""
        out = [f"{name}: {n} clips" + (f" of {want} published" if want else "") for name, n, want in self.counts]
        if self.missing:
            more = f" and {len(self.missing) - most} more" if len(self.missing) > most else ""
            out.append(f"missing: {len(self.missing)} files: {', '.join(self.missing[:most])}{more}")
        return [*out, *(f"no clip with {what}" for what in self.unheard)]


def take_inventory(corpus: str | Path, folder: str | Path, near: str | Path | None = None) -> Inventory:
    """Count the clips of a corpus in its official layout against the published numbers, and name what is missing."""
    module, folder = load_corpus(corpus, near), corpus_folder(corpus, folder, near)
    if not folder.exists():
        raise ClaraError(f"No such folder: {folder}. Expected {module.INFO.name} ({module.INFO.source_url}).")
    rows, missing = list[Row](), list[Row]()
    for row in module.rows(folder):
        (rows if is_there(row) else missing).append(row)
    found = Counter(row.split for row in rows)
    published = module.INFO.clips
    names = [*published, *(s for s in sorted(found) if s not in published and "all" not in published)]
    counts = tuple((name, sum(_is_part(row, name) for row in rows), published.get(name)) for name in names)
    return Inventory(module.INFO, counts, tuple(Path(r.audio).name for r in missing), tuple(_unheard(module, rows)))


def _is_part(row: Row, name: str) -> bool:
    key, equals, value = name.partition("=")
    if not equals:
        return name in ("all", row.split)
    return told(row, key) == value


def told(row: Row, name: str) -> str | None:
    """What a row says of a thing, as text: a field of its own, or of `original`."""
    value = getattr(row, name) if name in FIELDS else row.original.get(name)
    return None if value is None else str(value)


def published(info: Corpus, splits: Sequence[str] = (), where: Mapping[str, str] | None = None) -> int | None:
    """How many clips a corpus publishes of some splits, or with a value of one field; None where it does not say."""
    if where:
        return None if splits or len(where) > 1 else info.clips.get("=".join(next(iter(where.items()))))
    if splits:
        return sum(info.clips[s] for s in splits) if all(s in info.clips for s in splits) else None
    if "all" in info.clips:
        return info.clips["all"]
    return None if any("=" in name for name in info.clips) else sum(info.clips.values()) or None


def _unheard(module: ModuleType, rows: Sequence[Row]) -> Iterator[str]:
    """Values of the codes of a corpus named by its files that no row has, and speakers with fewer clips than most."""
    names = getattr(module, "FILES", None)
    if not isinstance(names, Names):
        return
    for group, table in names.codes.items():
        for code, value in table.items():
            parts = value.items() if isinstance(value, Mapping) else [(group, value)]
            if not any(all(_says(row, k, v) for k, v in parts) for row in rows):
                yield f"{group} {code!r}"
    clips = Counter(row.speaker for row in rows if row.speaker)
    usual = Counter(clips.values()).most_common(1)
    if usual and usual[0][1] > len(clips) / 2:
        for speaker, n in sorted(clips.items()):
            if n < usual[0][0]:
                yield f"speaker {speaker!r} beyond {n}; the others have {usual[0][0]}"


def _says(row: Row, name: str, value: Any) -> bool:
    return row.original.get(name) == value or (name in FIELDS and getattr(row, name) == value)


# a corpus in a folder, whatever its layout


@dataclass(frozen=True)
class Found:
    """The clips of a corpus below a folder: `rows` that are there and `missing` that its tables name; `layout` is
    official, packed or shards."""

    rows: list[Row]
    missing: list[Row]
    folder: Path
    layout: str


def corpus_folder(corpus: str | Path, data: str | Path, near: str | Path | None = None) -> Path:
    """The folder of a corpus in its official layout: `data` itself, or the one of the corpus' name in `data`, as
    `find_corpus` has it."""
    name, data = load_corpus(corpus, near).INFO.name, Path(data)
    if not data.is_dir() or _plain(data.absolute().name) == _plain(name):
        return data
    inner = (p for p in sorted(data.iterdir()) if p.is_dir() and _plain(p.name) == _plain(name))
    return next(inner, data)


def layout_of(folder: Path) -> str:
    """How clips lie in a folder: 'shards' (of `clara shards`), 'packed' (audio.tar, manifest.csv) or 'official'."""
    if (folder / "index.json").is_file() and any(folder.glob("*.tar")):
        return "shards"
    return "packed" if all((folder / name).is_file() for name in PACKED) else "official"


def find_corpus(corpus: str, data: Path, folder: str = ".", near: Path | str | None = None) -> Found | None:
    """The clips of a corpus below `data`, or None where it is not found.

    Looked for as `data/folder`, then a folder of `data`, or `data` itself, of that name but for case, punctuation and
    the ending of GitHub's archives, then by the names of the clips in them (`looks_like`); or `data` is a folder of
    shards. Whether the clips lie there as published, packed or in shards is seen, not asked.
    """
    name = load_corpus(corpus, near).INFO.name
    wanted = Path(folder).name or name  # a folder of another name than the corpus' is another part of it
    if layout_of(data) == "shards" and not (folder != "." and (data / folder).exists()):
        rows = list(shard_rows(data, None if wanted == "packed" else [wanted]))
        return Found(rows, [], data, "shards") if rows else None
    place = _place(data, folder, wanted, load_corpus(corpus, near))
    if place is None:
        return None
    layout = layout_of(place)
    if layout == "shards":
        return Found(list(shard_rows(place, None)), [], place, layout)
    if layout == "packed":
        return Found(list(rows_from_corpus("packed", place, near)), [], place, layout)
    module = load_corpus(corpus, near)
    told_rows = module.rows(place) if module.INFO.partial else rows_from_corpus(corpus, place, near)
    rows, missing = list[Row](), list[Row]()
    for row in told_rows:
        row = row if row.license else replace(row, license=module.INFO.license)
        (rows if is_there(row) else missing).append(row)
    return Found(rows, missing, place, layout)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", re.sub(r"-(master|main)$", "", name.lower()))


def _place(data: Path, folder: str, wanted: str, module: ModuleType) -> Path | None:
    if (data / folder).exists():
        return data / folder
    near = [p for p in sorted(data.iterdir()) if p.is_dir()] if data.is_dir() else []
    for place in (*near, data.absolute()):
        if _plain(place.name) == _plain(wanted) and place.exists():
            return place
    if wanted != module.INFO.name or not isinstance(getattr(module, "FILES", None), Names):
        return None
    return next((p for p in (data, *near) if looks_like(p, module.FILES)), None)


def looks_like(folder: Path, names: Names) -> bool:
    """Does a folder hold clips of a corpus in its official layout? The first clips below it all have such names, with
    known codes; names that codes do not tell from any others prove nothing."""
    pattern = re.compile(f"(?:^|.*?/)(?:{names.pattern})$", re.IGNORECASE)
    known = {group: _folded(table) for group, table in names.codes.items()}
    some = list(_first_clips(folder))
    for path in some:
        found = pattern.match(path.relative_to(folder).with_suffix("").as_posix())
        coded = {group: text for group, text in found.groupdict().items() if group in known and text} if found else {}
        if not coded or any(text.lower() not in known[group] for group, text in coded.items()):
            return False
    return bool(some) and next(folder.glob(names.glob), None) is not None


def _first_clips(folder: Path) -> Iterator[Path]:
    """A few clips of the first folders below a folder: enough to know a corpus by, however large it is."""
    seen = 0
    for number, (place, below, files) in enumerate(os.walk(folder)):
        below.sort()
        clips = [f for f in sorted(files) if Path(f).suffix.lower() in EXTENSIONS and not f.startswith(".")]
        yield from (Path(place) / f for f in clips[:LOOK_CLIPS])
        seen += len(clips[:LOOK_CLIPS])
        if seen >= LOOK_CLIPS or number >= LOOK_FOLDERS:
            return


def shard_rows(folder: str | Path, corpora: Iterable[str] | None = None) -> Iterator[Row]:
    """The rows of the shards below a folder, read without their audio; only those of `corpora`, where given.

    Raises:
        ClaraError: a tar that cannot be read, or a clip without JSON.
    """
    folder, wanted = Path(folder), None if corpora is None else set(corpora)
    paths = tars_below(folder)
    if wanted is not None and (folder / "index.json").is_file():  # our own shards bear their corpus' name
        names = {e["name"] for e in read_index(folder)["shards"]}
        paths = [p for p in paths if p.name in names and any(p.name.startswith(f"{c}-") for c in wanted)]
    for path in paths:
        for _, _, row in scan_rows(path):
            if wanted is None or row.corpus in wanted:
                yield row
