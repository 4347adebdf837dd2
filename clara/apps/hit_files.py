"""Hits as text: a table for the terminal, JSON, CSV, and M3U for players."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clara.apps.query import Hit
from clara.errors import unknown
from clara.saving import whole_file

COLUMNS = ("file", "score", "start", "end", "fits")


def records(hits: Sequence[Hit], floor: float | None) -> list[dict[str, Any]]:
    """Hits as plain data, what an index knows of each beside it; `fits`: whether the score is at the floor or above,
    None where there is no floor."""
    return [
        {
            "file": h.path,
            "score": round(h.score, 4),
            "start": h.start,
            "end": h.end,
            "fits": None if floor is None else h.score >= floor,
            **h.about,
        }
        for h in hits
    ]


def as_table(hits: Sequence[Hit], floor: float | None) -> str:
    """Lines for the terminal. Hits below the floor are marked."""
    lines = []
    if floor is not None and hits and all(h.score < floor for h in hits):
        lines.append(f"nothing fits: all is below {floor:+.3f}, as with texts that have nothing to do with it")
    for h in hits:
        at = "" if h.start is None else f"  {h.start:.1f}–{h.end:.1f} s"
        lines.append(f"{h.score:+.3f}  {h.path}{at}{'  (does not fit)' if floor and h.score < floor else ''}")
    return "\n".join(lines)


def as_json(hits: Sequence[Hit], floor: float | None) -> str:
    """A list of objects."""
    return json.dumps(records(hits, floor), ensure_ascii=False, indent=1)


def as_csv(hits: Sequence[Hit], floor: float | None) -> str:
    """One line per hit; columns that an index has besides follow those of every index."""
    rows = records(hits, floor)
    names = list(dict.fromkeys([*COLUMNS, *(name for row in rows for name in row)]))
    text = io.StringIO()
    table = csv.DictWriter(text, names, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue().rstrip("\n")


def as_m3u(hits: Sequence[Hit], floor: float | None) -> str:
    """A playlist; VLC plays the window that was found, other players the whole file. What does not fit is left out."""
    lines = ["#EXTM3U"]
    for h in hits:
        if floor is not None and h.score < floor:
            continue
        known = h.start is not None and h.end is not None
        length = h.end - h.start if h.start is not None and h.end is not None else -1
        lines.append(f"#EXTINF:{length:.0f},{h.score:+.3f} {Path(h.path).name}")
        lines += [f"#EXTVLCOPT:start-time={h.start:.2f}", f"#EXTVLCOPT:stop-time={h.end:.2f}"] if known else []
        lines.append(str(Path(h.path).absolute()))
    return "\n".join(lines)


FORMATS = {".json": as_json, ".csv": as_csv, ".m3u": as_m3u, ".m3u8": as_m3u, ".txt": as_table}


def check_hit_file(path: Path) -> None:
    """ClaraError for a suffix that stands for no format."""
    if path.suffix.lower() not in FORMATS:
        raise unknown("format of hits", path.suffix, FORMATS)


def write_hits(path: Path, hits: Sequence[Hit], floor: float | None) -> None:
    """Write hits in the format that the suffix stands for. ClaraError for another suffix."""
    check_hit_file(path)
    with whole_file(path) as part:
        text = FORMATS[path.suffix.lower()](hits, floor)
        part.write_text(text + "\n", encoding="utf-8", errors="surrogateescape")  # a path stays the bytes that it is
