"""Figures as text: how a number and its metric are written, and the lines that an evaluation prints."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clara.results import Figure, Result

NAMES = {
    "uar": "UAR",
    "macro_map": "mAP",
    "macro_f1": "macro-F1",
    "median_rank": "median rank",
    "ece": "calibration error",
}
SHOWN = ("accuracy", "uar", "macro_f1", "macro_map", "R@1", "R@5", "R@10", "mAP@10", "median_rank", "ece")


def csv_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> str:
    """Rows as CSV with a header, without the last line's end: these columns, then others as they come."""
    names = list(dict.fromkeys([*columns, *(name for row in rows for name in row)]))
    text = io.StringIO()
    table = csv.DictWriter(text, names, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue().rstrip("\n")


def metric_name(metric: str) -> str:
    """A metric in words: "UAR", or "UAR, share of English"."""
    name, of, whole = metric.partition(" of ")
    return NAMES.get(name, name) + (f", share of {whole}" if of else "")


def number(figure: Figure | None, interval: bool = True) -> str:
    """A figure's value, its deviation over draws and its interval: "0.438 ± 0.020 [0.398, 0.479]"; a dash for None."""
    if figure is None:
        return "–"
    share = " of " in figure.metric
    digits = ".0f" if figure.metric == "median_rank" else ".3f"
    cells = [f"{100 * x:.0f} %" if share else f"{x:{digits}}" for x in (figure.value, *(figure.interval or ()))]
    spread = f" ± {figure.std:.3f}" if figure.std is not None else ""
    return cells[0] + spread + (f" [{', '.join(cells[1:])}]" if interval and figure.interval else "")


def headline(result: Result) -> list[str]:
    """A line for each place with a primary figure, and what a reader must know of the clips."""
    claim = f" | {result.contamination['claim']}" if result.contamination else ""
    trial = f" | a trial on at most {result.limit} clips" if result.limit is not None else ""
    lines = []
    for _, figures in result.places():
        if any(f.primary for f in figures):
            told = ", ".join(f"{metric_name(f.metric)} {number(f)}" for f in figures)
            lines.append(f"{result.name} {figures[0].what}: {told}{claim}{trial}")
    return lines + [f"{result.name}: {note}" for note in _notes(result)]


def _notes(result: Result) -> Iterator[str]:
    """Some clips are missing, or there are too many."""
    for part in result.data:
        there, wanted = part["clips"], part.get("published", part["clips"] + part["missing"])
        corpora = ", ".join(part["corpora"])
        if there < wanted:
            yield f"{there} of the {wanted} clips of {corpora} are there: do not compare the figures with others'"
        elif there > wanted:
            yield f"{there} clips of {corpora}, which publishes {wanted}: are there copies among them?"
