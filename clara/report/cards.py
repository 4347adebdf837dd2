"""Figures of a card from result files: what `clara eval` wrote is what the card says.

The results, without what is long, are kept beside the cards as `results/NAME/RECIPE.json`. Every figure of the card
names its place there, `result: RECIPE/EVALUATION/place/metric`: a number without a result file cannot stand in it.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from clara.config import without_defaults
from clara.errors import ClaraError, unknown
from clara.report.tables import FIRST, card_sections, write_sections
from clara.report.text import metric_name
from clara.results import HOW, Figure, Result, ResultFile, read_results
from clara.saving import whole_file
from clara.zoo import catalog
from clara.zoo.factory import CARD, load_checkpoint

STATUS = r"^(?:unseen|same-source|unknown|seen)(?:: |$)"  # of clara.eval.contamination, before a card's own words
IN_TABLES = ("probe", "keywords")  # kinds whose figures stand in a table of their own, a line each where chosen
LONG_LIST, LONG_TEXT = 64, 300
HEADING = "## Figures"
TABLE_HEAD = "| what | metric | value | interval | chance | in training? | command |"
Place = tuple[str, str, str]  # recipe, evaluation, "where/metric"


def fill_card(
    name: str, results: Sequence[Path | str], every: bool = False, log: Callable[[str], None] = print
) -> list[dict[str, Any]]:
    """State the results in the card of a checkpoint of this package, and in the copy beside its weights.

    What an older figure of the same place is called, and what it says of the training data, is kept. An evaluation
    that the card knows keeps the choice of its figures; of a new one the primary figures are taken, unless it is on
    data seen in training, or stands in a table of its own: prompt languages and few labelled clips have one each, after
    the figures (`card_sections`). Results of other weights are removed, with what was said of them.

    Args:
        results: JSON files of `clara eval`; none to state anew what is kept beside the cards already.
        every: take the primary figures of all evaluations, whatever the card chose and training saw.

    Returns:
        The figures, as they stand in the front matter.

    Raises:
        ClaraError: no such card, a file that is not a result, or a result of other weights.
    """
    path = catalog.CARDS.resolve() / f"{name}.md"
    if name not in catalog.CHECKPOINTS:
        raise unknown("checkpoint", name, catalog.CHECKPOINTS)
    if catalog.checkpoint(name).source != "package":
        raise ClaraError(f"{name} is another project's checkpoint: its card states published scores, not results.")
    copy = catalog.CHECKPOINT_FOLDER / name
    loaded = load_checkpoint(copy)
    kept, made = path.parent / "results" / name, {}
    for file in map(Path, results):
        data = _checked(file, name, loaded.sha256)
        if data.stem in made:
            raise ClaraError(f"Two of the files are results of the recipe {data.stem}: give one, {file} or the other.")
        made[data.stem] = slim(data, name)
    for stem, data in made.items():
        _replace(
            kept / f"{stem}.json", json.dumps(without_defaults(data), ensure_ascii=False, separators=(",", ":")) + "\n"
        )
    for file in sorted(kept.glob("*.json")):
        if read_results(file).checkpoint["sha256"] != loaded.sha256:
            file.unlink()
            log(f"removed {file.name}: other weights")
    text = path.read_text(encoding="utf-8")
    old = yaml.safe_load(text.split("---\n", 2)[1]).get("figures") or []
    files = kept_results(kept)
    figures = card_figures(files, old, every)
    for result in {f.get("result", f["what"]) for f in old} - {f["result"] for f in figures}:
        log(f"no longer stated: {result}")
    facts = {"sha256": loaded.sha256, "parameters": sum(p.numel() for p in loaded.model.parameters())}
    text = write_sections(write_figures(text, figures, facts), card_sections(files))
    _replace(path, text)
    _replace(copy / CARD, text)
    catalog.card.cache_clear()
    return figures


def _checked(file: Path, name: str, sha256: str) -> ResultFile:
    """A result file of these weights, and not of a trial."""
    data = read_results(file)
    found = data.checkpoint["sha256"]
    if found != sha256:
        raise ClaraError(f"{file} is of weights {found[:12]}…, {name} has {sha256[:12]}…: evaluate these.")
    if limits := [r.name for r in data.results if r.limit]:
        raise ClaraError(f"{file} is a trial on some of the clips ({', '.join(limits)}): run it without --limit.")
    return data


def _replace(path: Path, text: str) -> None:
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def kept_results(folder: Path) -> list[ResultFile]:
    """The result files kept beside the cards, sorted by recipe."""
    return [read_results(file) for file in sorted(folder.glob("*.json"))]


def slim(data: ResultFile, name: str) -> ResultFile:
    """A result file without what is long and what belongs to one machine, for the folder beside the cards."""
    known = (catalog.PACKAGE / "_recipes" / "eval" / data.recipe).is_file()
    command = ["clara", "eval", data.stem if known else data.recipe, "--model", name]
    settings = [o for o in data.overrides if o.split("=")[0] not in HOW]
    return dataclasses.replace(
        data,
        command=shlex.join([*command, "--data", "DATA", *(x for o in settings for x in ("--set", o))]),
        checkpoint={**data.checkpoint, "name": name},
        overrides=(),
        faults=(),
        not_found=tuple({"name": missing["name"]} for missing in data.not_found),  # why names a folder of one machine
        results=tuple(map(_slim, data.results)),
    )


def _slim(result: Result) -> Result:
    def rounded(f: Figure) -> Figure:
        ends = f.interval and (round(f.interval[0], 6), round(f.interval[1], 6))
        value, chance, std = (x if x is None else round(x, 6) for x in (f.value, f.chance, f.std))
        return dataclasses.replace(f, value=value, interval=ends, chance=chance, std=std)

    return dataclasses.replace(
        result,
        figures=tuple(rounded(f) for f in result.figures if f.metric != "average_precision"),
        outcomes={},
        prompts={},
        examples=(),
        manifest={},
        embeddings={},
        **{k: _short(getattr(result, k)) for k in ("config", "notes", "data", "contamination", "speed")},
    )


def _short(x: Any) -> Any:
    """Plain data without long lists and texts, and without the folders of one machine."""
    if isinstance(x, dict):
        kept = {k: _short(v) for k, v in x.items() if k != "templates"}
        return {k: v for k, v in kept.items() if v is not None and not _long(v)}
    if isinstance(x, list | tuple):
        return type(x)(_short(v) for v in x)
    return Path(x).name if isinstance(x, str) and x.startswith("/") else x


def _long(x: Any) -> bool:
    return len(x) > (LONG_TEXT if isinstance(x, str) else LONG_LIST) if isinstance(x, str | list | tuple) else False


def figures_by_place(files: Sequence[ResultFile]) -> dict[Place, tuple[Figure, Result, ResultFile]]:
    """Every figure of result files by its place."""
    return {
        (file.stem, result.name, f"{f.where}/{f.metric}".lstrip("/")): (f, result, file)
        for file in files
        for result in file.results
        for f in result.figures
    }


def card_figures(
    files: Sequence[ResultFile], old: Sequence[Mapping[str, Any]], every: bool = False
) -> list[dict[str, Any]]:
    """The figures of a card from result files, in the order of the old ones, then the new."""
    found = figures_by_place(files)
    chosen: dict[Place, Mapping[str, Any]] = {}
    for figure in old:
        place = tuple(figure.get("result", "").split("/", 2))
        if place in found:
            chosen[place] = figure
    known = set() if every else {place[:2] for place in chosen}
    new = [p for p, (f, r, _) in found.items() if f.primary and (every or _belongs(p[0], r)) and p[:2] not in known]
    order = list(dict.fromkeys([*chosen, *new]))
    rank = {p[:2]: i for i, p in reversed(list(enumerate(order)))}
    order.sort(key=lambda p: rank[p[:2]])
    trained = {p[:2]: f["training"] for p, f in chosen.items() if "training" in f}
    return [_figure(p, found[p], chosen.get(p, {}), trained.get(p[:2])) for p in order]


def _belongs(stem: str, result: Result) -> bool:
    seen = result.contamination.get("status") == "seen"
    return not (seen or result.kind in IN_TABLES or stem in FIRST)


def _figure(
    place: Place, found: tuple[Figure, Result, ResultFile], old: Mapping[str, Any], training: str | None
) -> dict[str, Any]:
    figure, result, file = found
    code = f" ({result.members[figure.where][0]})" if figure.where == "worst_language" else ""
    words = re.sub(STATUS, "", old.get("training") or training or "")
    return {
        "what": old.get("what") or f"{result.name}, {figure.what}",
        "metric": metric_name(figure.metric) + code,
        "value": round(figure.value, 3),
        "interval": "[{:.3f}, {:.3f}]".format(*figure.interval) if figure.interval else "not computed",
        "chance": f"{figure.chance:.3f}" if figure.chance else "not computed",
        "training": ": ".join(filter(None, (result.contamination.get("status", ""), words))) or "not stated",
        "checkpoint": file.checkpoint["name"],
        "command": file.command,
        "result": "/".join(place),
    }


def write_figures(text: str, figures: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> str:
    """A card's text with its `figures`, the lines of `facts` in the front matter, and the table under HEADING, new."""
    _, head, body = text.split("---\n", 2)
    for key, value in facts.items():
        head, count = re.subn(rf"^{key}:.*$", f"{key}: {value}", head, flags=re.M)
        if count != 1:
            raise ClaraError(f"The card's front matter has {count} lines {key!r}, expected one.")
    block = yaml.safe_dump({"figures": [dict(f) for f in figures]}, sort_keys=False, allow_unicode=True, width=1000)
    head = re.sub(r"^figures:.*\n(?:[ -].*\n)*", "", head, flags=re.M) + block
    if f"{HEADING}\n" not in body:
        raise ClaraError(f"The card has no heading {HEADING!r} to put its table under.")
    before, _, after = body.partition(f"{HEADING}\n")
    old = re.search(rf"^{re.escape(TABLE_HEAD)}\n(?:\|.*\n)*", after, flags=re.M)
    table = "\n".join([TABLE_HEAD, "|---|---|---|---|---|---|---|", *map(_line, figures)]) + "\n"
    start, end = old.span() if old else (0, 0)
    gap = "" if old else "\n"
    return f"---\n{head}---\n{before}{HEADING}\n{after[:start]}{gap}{table}{after[end:]}"


def _line(figure: Mapping[str, Any]) -> str:
    cells = [figure["what"], figure["metric"], f"{figure['value']:.3f}"]
    cells += [figure[k] for k in ("interval", "chance", "training")]
    return f"| {' | '.join(cells)} | `{figure['command']}` |"
