"""Hits as text: a table for the terminal, JSON, CSV, and M3U for players."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clara.apps.query import Hits
from clara.errors import unknown
from clara.report.text import csv_of
from clara.saving import whole_file

COLUMNS = ("file", "score", "start", "end", "fits")


def records(hits: Hits) -> list[dict[str, Any]]:
    """Hits as plain data, with what an index knows of each, and `fits` as of `Hits.fits`."""
    return [
        {"file": h.path, "score": round(h.score, 4), "start": h.start, "end": h.end, "fits": hits.fits(h), **h.about}
        for h in hits
    ]


def as_table(hits: Hits) -> str:
    """Lines for the terminal. Hits below the floor are marked."""
    lines = []
    if hits and all(hits.fits(h) is False for h in hits):
        lines.append(f"nothing fits: all is below {hits.floor:+.3f}, as with texts that have nothing to do with it")
    for h in hits:
        at = "" if h.start is None else f"  {h.start:.1f}–{h.end:.1f} s"
        lines.append(f"{h.score:+.3f}  {h.path}{at}{'  (does not fit)' if hits.fits(h) is False else ''}")
    return "\n".join(lines)


def as_json(hits: Hits) -> str:
    """A list of objects."""
    return json.dumps(records(hits), ensure_ascii=False, indent=1)


def as_csv(hits: Hits) -> str:
    """One line per hit; columns that an index has besides follow those of every index."""
    return csv_of(records(hits), COLUMNS)


def as_m3u(hits: Hits) -> str:
    """A playlist; VLC plays the window that was found, other players the whole file. What does not fit is left out."""
    lines = ["#EXTM3U"]
    for h in hits:
        if hits.fits(h) is False:
            continue
        window = None if h.start is None or h.end is None else (h.start, h.end)
        length = -1 if window is None else window[1] - window[0]
        lines.append(f"#EXTINF:{length:.0f},{h.score:+.3f} {Path(h.path).name}")
        if window is not None:
            lines += [f"#EXTVLCOPT:start-time={window[0]:.2f}", f"#EXTVLCOPT:stop-time={window[1]:.2f}"]
        lines.append(str(Path(h.path).absolute()))
    return "\n".join(lines)


FORMATS = {".json": as_json, ".csv": as_csv, ".m3u": as_m3u, ".m3u8": as_m3u, ".txt": as_table}


def check_hit_file(path: Path) -> None:
    """ClaraError for a suffix that stands for no format."""
    if path.suffix.lower() not in FORMATS:
        raise unknown("format of hits", path.suffix, FORMATS)


def write_hits(path: Path, hits: Hits) -> None:
    """Write hits in the format that the suffix stands for. ClaraError for another suffix."""
    check_hit_file(path)
    with whole_file(path) as part:
        text = FORMATS[path.suffix.lower()](hits)
        part.write_text(text + "\n", encoding="utf-8", errors="surrogateescape")  # a path stays the bytes that it is
