"""Tables of what has too many figures for a line each: prompt languages side by side, a few labelled clips, and how far
probabilities can be believed.

They are sections of a card, written whole, and stand in the report and, the first, in the terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from clara.report.text import metric_name, number
from clara.results import MANY_LANGUAGES, Result, ResultFile
from clara.text.prompts import load_language

LANGUAGES, FEW, CALIBRATION = "## Languages", "## Few labelled clips", "## Calibration"
SURE = 5  # ranges of confidence that a table has a column for
FIRST = ("multilingual", "few-shot", "linear-probe")  # recipes made for these tables, before others with the same clips
GROUPS = {
    "other_languages": "mean of all others",
    "far_languages": "mean of those far from audio",
    "worst_language": "worst",
}


def has_many(result: Result) -> bool:
    """Whether a result's prompt languages are shown as a table."""
    return result.kind == "zero_shot" and len(result.languages) > MANY_LANGUAGES


def languages_table(results: Iterable[Result]) -> list[list[str]]:
    """Results with many prompt languages side by side: a head, a line per language (English first), then the mean of
    the others, of those far from audio, and the worst, with their shares of English. Intervals only in these last
    lines: they are alike in all languages. Empty where no result has many."""
    shown = [r for r in results if has_many(r)]
    if not shown:
        return []
    codes = sorted({code for r in shown for code in r.languages}, key=lambda c: (c != "en", c))
    far = {code for r in shown for code in r.members.get("far_languages", ())}
    lines = [["language", "code", *(f"{r.name} {metric_name(r.primary.metric)}" for r in shown)]]
    for code in codes:
        cells = [number(r.find(f"{code}/plain", r.primary.metric), interval=False) for r in shown]
        lines.append([load_language(code).english_name + (" (far)" if code in far else ""), code, *cells])
    for where, title in GROUPS.items():
        if not any(where in r.members for r in shown):
            continue
        worst = where == "worst_language"
        count = "one" if worst else str(max(len(r.members.get(where, ())) for r in shown))
        codes = [f" ({r.members[where][0]})" if worst and where in r.members else "" for r in shown]
        values = [number(r.find(where, r.primary.metric)) + code for r, code in zip(shown, codes)]
        shares = [number(r.find(where, f"{r.primary.metric} of English")) for r in shown]
        lines += [[title, count, *values], [f"{title}, share of English", count, *shares]]
    return lines


def language_lines(results: Iterable[Result]) -> list[str]:
    """`languages_table` for a terminal, the columns aligned."""
    lines = languages_table(results)
    widths = [max(map(len, column)) for column in zip(*lines)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]


def few_table(results: Iterable[Result]) -> list[list[str]]:
    """Prototypes and probes by how many labelled clips per class they have: mean over draws ± standard deviation, and
    the interval. A head and a line per set, metric and method; empty where no result is of that kind."""
    lines: dict[tuple[str, str, str, str], dict[str, str]] = {}
    for result in results:
        for key, shots, cell in _few_cells(result):
            lines.setdefault(key, {}).setdefault(shots, cell)
    if not lines:
        return []
    shots = {s for cells in lines.values() for s in cells}
    shots = sorted(shots, key=lambda s: (s == "all", s.isdigit(), s.zfill(4)))
    names = {"text": "by text", "all": "all clips", "1": "1 clip"}
    table = [["clips of", "metric", "in training?", "method", *(names.get(s, f"{s} clips") for s in shots)]]
    return table + [[*key, *(cells.get(s, "not run") for s in shots)] for key, cells in lines.items()]


def _few_cells(result: Result) -> Iterator[tuple[tuple[str, str, str, str], str, str]]:
    """(clips of, metric, in training?, method), how many clips per class, the cell."""
    seen = result.contamination.get("status", "not stated")
    name = result.config.get("test", {}).get("folder", result.name)
    if result.kind == "probe":
        for f in result.figures:
            if f.primary:
                key = (f"{name}, {len(result.labels)} classes", metric_name(f.metric), seen, f.where)
                yield key, str(result.notes.get("shots") or "all"), number(f)
    if result.kind == "keywords":
        for f in result.figures:
            code, _, shots = f.where.removesuffix("/plain").partition("/")
            if f.metric == "accuracy" and code in result.notes["spoken"] and shots != "text/calibrated":
                words = result.notes["spoken"][code]["words"]
                key = (f"{name}, {code}, {words} words", f.metric, seen, "prototype")
                yield key, shots.removesuffix("-shot"), number(f)


def calibration_table(results: Iterable[Result]) -> list[list[str]]:
    """How far probabilities can be believed: calibration error, and how often predictions are right by how sure they
    are, with the clips. A head and a line for each evaluation, by its plain English (or first) prompts; empty where
    none measured it."""
    lines = []
    for result in results:
        bins = result.notes.get("reliability", {})
        plain = [w for w in bins if w.endswith("/plain") and result.find(w, "ece")]
        if not plain:
            continue
        where = "en/plain" if "en/plain" in plain else plain[0]
        cells = []
        for part in np.array_split(np.array(bins[where]), SURE):
            clips = part[:, 0].sum()
            cells.append(f"{part[:, 0] @ part[:, 2] / clips:.2f} ({clips:.0f})" if clips else "–")
        seen = result.contamination.get("status", "not stated")
        ece, accuracy = (number(result.find(where, m), interval=False) for m in ("ece", "accuracy"))
        lines.append([f"{result.name}, {len(result.labels)} classes", seen, ece, accuracy, *cells])
    ranges = [f"{i / SURE:.1f}–{(i + 1) / SURE:.1f} sure" for i in range(SURE)]
    return [["clips of", "in training?", "calibration error", "accuracy", *ranges], *lines] if lines else []


def card_sections(files: Sequence[ResultFile]) -> dict[str, str]:
    """Heading -> text of the sections that result files fill; "" for one that they say nothing of."""
    files = sorted(files, key=lambda f: FIRST.index(f.stem) if f.stem in FIRST else len(FIRST))
    pairs = [(file, result) for file in files for result in file.results]
    return {LANGUAGES: _languages(pairs), FEW: _few(pairs), CALIBRATION: _calibration(pairs)}


def write_sections(text: str, sections: Mapping[str, str]) -> str:
    """A card's text with these sections new, each where it stood, else before the section that follows the figures."""
    text += "" if text.endswith("\n") else "\n"
    for heading, body in reversed(sections.items()):  # new ones are put in at one place
        block = f"{heading}\n\n{body}\n\n" if body else ""
        old = re.search(rf"^{re.escape(heading)}\n(?:(?!## ).*\n)*", text, flags=re.M)
        if old is None:
            figures = re.search(r"^## Figures\n(?:(?!## ).*\n)*", text, flags=re.M)
            at = figures.end() if figures else len(text)
            start, end = at, at
        else:
            start, end = old.span()
        text = text[:start] + block + text[end:]
    return text


def _languages(pairs: Sequence[tuple[ResultFile, Result]]) -> str:
    """Figures by the language of the prompts, evaluations side by side."""
    shown: dict[str, tuple[ResultFile, Result]] = {}
    for file, result in pairs:
        if has_many(result):
            shown.setdefault(result.name, (file, result))
    if not shown:
        return ""
    results = [r for _, r in shown.values()]
    commands = dict.fromkeys(f"`{file.command}`" for file, _ in shown.values())
    clips = "; ".join(f"{r.name}, {r.clips} clips, {len(r.labels)} classes{_seen(r)}" for r in results)
    lines = [f"Zero-shot by labels in every language, {', '.join(commands)}: {clips}."]
    far = next((r.config["far"] for r in results if "far_languages" in r.members), None)
    if far:
        stem = far.rpartition("/")[2]
        lines.append(f"Captions of the languages marked far were never paired with audio (`{stem}`).")
    return "\n".join([*lines, "", *markdown(languages_table(results))])


def _few(pairs: Sequence[tuple[ResultFile, Result]]) -> str:
    table = few_table(result for _, result in pairs)
    commands = dict.fromkeys(f"`{file.command}`" for file, result in pairs if next(_few_cells(result), None))
    head = f"By labelled clips per class, {', '.join(commands)}: mean over draws ± deviation, interval over clips."
    return "\n".join([head, "", *markdown(table)]) if table else ""


def _calibration(pairs: Sequence[tuple[ResultFile, Result]]) -> str:
    shown: dict[str, tuple[ResultFile, Result]] = {}
    for file, result in pairs:
        if result.kind == "zero_shot":
            shown.setdefault(result.name, (file, result))
    table = calibration_table(result for _, result in shown.values())
    commands = dict.fromkeys(f"`{file.command}`" for file, r in shown.values() if r.notes.get("reliability"))
    head = f"Probabilities of `Classifier` and the share that was right, clips in brackets, {', '.join(commands)}."
    return "\n".join([head, "", *markdown(table)]) if table else ""


def _seen(result: Result) -> str:
    return f", {result.contamination['status']}" if result.contamination else ""


def markdown(lines: Sequence[Sequence[str]]) -> list[str]:
    """A head and rows of cells as a Markdown table."""
    rows = [f"| {' | '.join(line)} |" for line in lines]
    return [rows[0], "|" + "---|" * len(lines[0]), *rows[1:]] if rows else []
