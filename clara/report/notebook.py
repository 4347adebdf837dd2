"""What notebooks show of answers about recordings: a table with a player for each."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from html import escape
from typing import Any

import soundfile as sf

from clara.audio import waveform
from clara.errors import ClaraError

RATE = 16000  # Hz of what is played
LONGEST = 10.0  # seconds of it
UNPLAYABLE = "cannot be played"
MOST_PLAYERS = 20  # in one table: each is up to 0.4 MB of the notebook


def player(source: Any, start: float | None = None, end: float | None = None) -> str:
    """HTML that plays a source from `start` to `end` seconds, at most ten of them; its samples are part of the page, so
    that a notebook sounds wherever it is opened. A source that cannot be read (any more) is said to be so."""
    if isinstance(source, str | os.PathLike) and not os.path.isfile(source):  # '-' would wait for standard input
        return UNPLAYABLE
    begin = start or 0.0
    seconds = LONGEST if end is None else max(0.1, min(LONGEST, end - begin))
    try:
        wave_T = waveform.read(source, RATE, start=begin, seconds=seconds)
    except ClaraError:
        return UNPLAYABLE
    buffer = io.BytesIO()
    sf.write(buffer, wave_T, RATE, format="WAV", subtype="PCM_16")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<audio controls preload="none" src="data:audio/wav;base64,{data}"></audio>'


def table(names: Sequence[str], rows: Sequence[Sequence[Any]], players: Sequence[str] = ()) -> str:
    """An HTML table of texts and numbers, escaped; `players` are the last cells of its first rows."""
    head = "".join(f"<th>{escape(name)}</th>" for name in [*names, *([""] if players else [])])
    lines = []
    for i, row in enumerate(rows):
        cells = "".join(f"<td>{escape(_text(cell))}</td>" for cell in row)
        lines.append(f"<tr>{cells}{f'<td>{players[i]}</td>' if i < len(players) else ''}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _text(cell: Any) -> str:
    return "" if cell is None else f"{cell:.3f}" if isinstance(cell, float) else str(cell)
