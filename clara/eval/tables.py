"""Tables of a card from result files: what has too many figures for a line each.

Two sections of a card are written whole: figures by prompt language, and what a few labelled clips add.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clara.eval import languages
from clara.eval.languages import MANY as MANY_LANGUAGES

BY_TASK = {"emotion": "uar", "arousal": "uar"}  # what these tasks are judged by; others by the first of METRICS
METRICS = ("macro_map", "mAP", "map", "accuracy", "uar", "R@1")
NAMES = {"uar": "UAR", "macro_map": "mAP", "map": "mAP", "macro_f1": "macro-F1"}
LANGUAGES, FEW = "## Languages", "## Few labelled clips"
FIRST = ("multilingual", "few-shot", "linear-probe")  # recipes made for these tables, before others with the same clips


def judged_by(result: Mapping[str, Any], node: Mapping[str, Any]) -> str | None:
    """The metric that stands for a table of figures, None where `node` is none."""
    wanted = BY_TASK.get(result.get("config", {}).get("task", ""))
    names = (wanted, *METRICS) if wanted else METRICS
    return next((m for m in names if isinstance(node.get(m), int | float)), None)


def card_sections(files: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Heading -> text of the sections that result files fill; "" for one that they say nothing of."""
    order = {name: i for i, name in enumerate(FIRST)}
    files = sorted(files, key=lambda f: order.get(_stem(f), len(order)))
    pairs = [(file, result) for file in files for result in file["results"]]
    return {LANGUAGES: _languages(pairs), FEW: _few(pairs)}


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


def _stem(file: Mapping[str, Any]) -> str:
    return file["recipe"].removesuffix(".yaml")


def _languages(pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> str:
    """Figures by the language of the prompts, evaluations side by side."""
    shown: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
    for file, result in pairs:
        if len(result.get("languages", ())) > MANY_LANGUAGES and "plain" in next(iter(result["languages"].values())):
            shown.setdefault(result["name"], (file, result))
    if not shown:
        return ""
    columns = [(BY_TASK.get(r["config"]["task"], "accuracy"), r) for _, r in shown.values()]
    commands = dict.fromkeys(f"`{file['command']}`" for file, _ in shown.values())
    clips = "; ".join(f"{r['name']}, {r['clips']} clips, {len(r['labels'])} classes{_seen(r)}" for _, r in columns)
    said = [f"Zero-shot by labels in every language, {', '.join(commands)}: {clips}."]
    far = next((r["config"]["far"] for _, r in columns if r.get("far_languages")), None)
    if far:
        stem = far.rpartition("/")[2]
        said.append(f"Captions of the languages marked far were never paired with audio (`{stem}`).")
    return "\n".join([*said, "", *_markdown(languages.table(columns))])


def few_table(results: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Prototypes and probes by how many labelled clips a class they have: mean over draws ± standard deviation, and the
    interval. A head and a line each set, metric and method; empty where no result is of that kind."""
    lines: dict[tuple[str, str, str, str], dict[str, str]] = {}
    for result in results:
        for key, shots, cell in _taught(result):
            lines.setdefault(key, {}).setdefault(shots, cell)
    if not lines:
        return []
    shots = {s for cells in lines.values() for s in cells}
    shots = sorted(shots, key=lambda s: (s == "all", s.isdigit(), s.zfill(4)))
    names = {"text": "by text", "all": "all clips", "1": "1 clip"}
    table = [["clips of", "metric", "in training?", "method", *(names.get(s, f"{s} clips") for s in shots)]]
    return table + [[*key, *(cells.get(s, "not run") for s in shots)] for key, cells in lines.items()]


def _few(pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> str:
    table = few_table([result for _, result in pairs])
    commands = dict.fromkeys(f"`{file['command']}`" for file, result in pairs if next(_taught(result), None))
    said = f"By labelled clips a class, {', '.join(commands)}: mean over draws ± deviation, interval over clips."
    return "\n".join([said, "", *_markdown(table)]) if table else ""


def _taught(result: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str, str, str], str, str]]:
    """What labelled clips taught: (clips of, metric, in training?, method), how many clips a class, the cell."""
    seen = result.get("contamination", {}).get("status", "not stated")
    config = result.get("config", {})
    place = config.get("test", {}).get("folder", result["name"])
    if result["kind"] == "probe":
        metric = BY_TASK.get(config["task"], "accuracy")
        name = f"{place}, {len(result['labels'])} classes"
        shots = "all" if result.get("shots") is None else str(result["shots"])
        for method, found in result["methods"].items():
            yield (name, NAMES.get(metric, metric), seen, method), shots, _spread(found, metric)
    if result["kind"] == "keywords":
        for code, spoken in result["spoken"].items():
            name = f"{place}, {code}, {spoken['words']} words"
            key = (name, "accuracy", seen, "prototype")
            yield key, "text", _spread(spoken["zero_shot"]["plain"], "accuracy")
            for n, found in spoken["shots"].items():
                yield key, n, _spread(found, "accuracy")


def _spread(found: Mapping[str, Any], metric: str) -> str:
    std, ends = found.get(f"{metric}_std"), found.get(f"{metric}_95")
    cell = f"{found[metric]:.3f}" + (f" ± {std:.3f}" if std is not None else "")
    return cell + (" [{:.3f}, {:.3f}]".format(*ends) if ends else "")


def _seen(result: Mapping[str, Any]) -> str:
    status = result.get("contamination", {}).get("status")
    return f", {status}" if status else ""


def _markdown(lines: Sequence[Sequence[str]]) -> list[str]:
    rows = [f"| {' | '.join(line)} |" for line in lines]
    return [rows[0], "|" + "---|" * len(lines[0]), *rows[1:]] if rows else []
