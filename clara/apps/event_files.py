"""Events as files of other programs: RTTM, labels of Audacity, CSV, JSON, a picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from clara.errors import ClaraError, unknown
from clara.report.text import csv_of
from clara.saving import whole_file
from clara.zoo.events import Event, Timeline

PICTURES = (".png", ".svg", ".pdf")


def records(found: Mapping[str, Sequence[Event]]) -> list[dict[str, Any]]:
    """Events by file name as plain data: file, start, end (seconds), score, text."""
    return [{"file": name, **asdict(e), "score": round(e.score, 4)} for name, events in found.items() for e in events]


def check_format(path: Path, sources: int = 1) -> None:
    """ClaraError where events of so many recordings cannot be written to a file of this name."""
    if path.suffix not in (*FORMATS, *PICTURES):
        raise unknown("suffix of a file of events", path.suffix, [*FORMATS, *PICTURES])
    if sources > 1 and path.suffix in (".txt", *PICTURES):
        raise ClaraError(
            f"{path}: {'labels' if path.suffix == '.txt' else 'a picture'} of {sources} recordings: expected one. "
            "RTTM, CSV and JSON name the recording of each event."
        )


def write_events(path: Path, timelines: Mapping[str, Timeline]) -> None:
    """Write the events of each recording, by its file name, in the format that the suffix of `path` names: .rttm, .txt
    (labels of Audacity), .csv, .json, or a picture of the scores (.png, .svg, .pdf; needs matplotlib).

    Raises:
        ClaraError: another suffix; labels or a picture of several recordings.
    """
    check_format(path, len(timelines))
    if path.suffix in PICTURES:
        from clara.report.drawing import timeline

        (name, line), *_ = timelines.items()
        drawing = timeline(line, Path(name).name)
        with whole_file(path) as part:
            drawing.savefig(part, format=path.suffix[1:])
        return
    found = {name: line.events() for name, line in timelines.items()}
    with whole_file(path) as part, part.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        FORMATS[path.suffix](file, found)


def _rttm(file: TextIO, found: Mapping[str, Sequence[Event]]) -> None:
    """NIST's Rich Transcription Time Marked; its fields hold no spaces. The type SPEAKER is the one that tools read."""
    for name, events in found.items():
        for e in events:
            fields = (_word(Path(name).stem), 1, f"{e.start:.3f}", f"{e.end - e.start:.3f}", "<NA>", "<NA>")
            print("SPEAKER", *fields, _word(e.text), f"{e.score:.4f}", "<NA>", file=file)


def _audacity(file: TextIO, found: Mapping[str, Sequence[Event]]) -> None:
    for events in found.values():
        for e in events:
            print(f"{e.start:.6f}\t{e.end:.6f}\t{' '.join(e.text.split())}", file=file)


def _csv(file: TextIO, found: Mapping[str, Sequence[Event]]) -> None:
    print(csv_of(records(found), ("file", "start", "end", "score", "text")), file=file)


def _json(file: TextIO, found: Mapping[str, Sequence[Event]]) -> None:
    print(json.dumps(records(found), ensure_ascii=False, indent=1), file=file)


def _word(text: str) -> str:
    return "_".join(text.split()) or "<NA>"


FORMATS: dict[str, Callable[[TextIO, Mapping[str, Sequence[Event]]], None]] = {
    ".rttm": _rttm,
    ".txt": _audacity,
    ".csv": _csv,
    ".json": _json,
}
