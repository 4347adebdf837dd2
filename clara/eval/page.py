"""Result files -> one page, as Markdown or as HTML that needs nothing else: tables, differences, pictures, examples."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from clara.errors import ClaraError
from clara.eval.cards import HOW, NO_FIGURES, read_result
from clara.eval.compare import differences
from clara.eval.drawing import confusion_svg, map_svg
from clara.eval.languages import table
from clara.eval.maps import places, read_sample
from clara.eval.tables import BY_TASK, MANY_LANGUAGES, NAMES, few_table, judged_by
from clara.saving import sha256_of, whole_file

SHOWN = ("accuracy", "uar", "macro_f1", "macro_map", "R@1", "R@5", "R@10", "mAP@10", "median_rank")
MISTAKES = 8  # confusions listed
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:1280px;margin:2em auto;padding:0 1.2em}
h1{font-size:1.7em}h2{margin-top:2em;border-bottom:1px solid #ddd}h3{margin-bottom:.3em}
table{border-collapse:collapse;margin:.6em 0;font-size:13px;display:block;overflow-x:auto}
th,td{padding:.25em .7em;border-bottom:1px solid #e4e4e4;text-align:left;white-space:nowrap}
td.long{white-space:normal;min-width:16em}
th{background:#f5f6f8}td.n{text-align:right;font-variant-numeric:tabular-nums}
.note{color:#555}svg{max-width:100%;height:auto;margin:.4em 0}summary{cursor:pointer;color:#0060a0;margin:.4em 0}
"""


@dataclass(frozen=True)
class Table:
    """A table; `folded` is the line that opens it in HTML, None for one that stands open."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    folded: str | None = None


@dataclass(frozen=True)
class Picture:
    """An SVG and what it shows. Markdown has no pictures: a table beside it says what matters."""

    svg: str
    shows: str


@dataclass(frozen=True)
class Heading:
    """A heading of level 1, 2 or 3."""

    level: int
    text: str


Block = Heading | Table | Picture | str


def write_report(
    results: Sequence[Path | str], out: Path | str, method: str = "pca", log: Callable[[str], None] | None = None
) -> Path:
    """Write the report of result files to `out`, as HTML (.html) or Markdown (.md).

    An evaluation that several files have of the same weights and settings is taken from the newest; `log` gets a line
    for each that is left out.

    Args:
        method: of the map of embeddings: 'pca' or 'tsne' (needs scikit-learn). Maps are of HTML only, and only where
            the embeddings that clara eval kept lie beside the result file.

    Raises:
        ClaraError: no results, a file that is none, another ending of `out`.
    """
    out, paths = Path(out), list(dict.fromkeys(Path(r) for r in results))
    if out.suffix not in (".html", ".md"):
        raise ClaraError(f"{out}: expected a name that ends in .html or .md.")
    if not paths:
        raise ClaraError("No result files: give the JSON files that clara eval wrote.")
    files, left = _newest([read_result(p) for p in paths], paths)
    for line in left if log else ():
        log(line)
    paths = [p for p, f in zip(paths, files) if f["results"]]
    files = [f for f in files if f["results"]]
    blocks = list(_blocks(files, paths, method if out.suffix == ".html" else None))
    text = _html(blocks) if out.suffix == ".html" else _markdown(blocks)
    with whole_file(out) as part:
        part.write_text(text, encoding="utf-8")
    return out


def _newest(files: Sequence[dict[str, Any]], paths: Sequence[Path]) -> tuple[list[dict[str, Any]], list[str]]:
    """The files with every evaluation of one checkpoint and settings in the newest of them alone, and what that left
    out. Of two made at one time the longer file is taken: the other is a card's copy."""
    order = sorted(range(len(files)), key=lambda i: (files[i].get("date", ""), paths[i].stat().st_size))
    newest = {_identity(files[i], r["name"]): i for i in order for r in files[i]["results"]}
    out, left = [], []
    for i, file in enumerate(files):
        mine = [r for r in file["results"] if newest[_identity(file, r["name"])] == i]
        out.append({**file, "results": mine})
        for other in sorted({newest[_identity(file, r["name"])] for r in file["results"]} - {i}):
            names = [r["name"] for r in file["results"] if newest[_identity(file, r["name"])] == other]
            left.append(f"{paths[i]}: {', '.join(names)} left out, {paths[other]} is newer")
    return out, left


def _settings(file: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(sorted(o for o in file.get("overrides", ()) if o.split("=")[0] not in HOW))


def _identity(file: Mapping[str, Any], name: str) -> tuple[Any, ...]:
    return file["recipe"], file["checkpoint"]["sha256"], _settings(file), name


def _blocks(files: Sequence[dict[str, Any]], paths: Sequence[Path], method: str | None) -> Iterator[Block]:
    models = _models(files)
    yield Heading(1, "Evaluation report")
    yield (
        "Intervals are 95 % bootstraps over clips. “Calibrated” subtracts each label's mean score over the evaluated "
        "clips, unlabelled: another figure than the plain one."
    )
    yield Table(
        ("model", "weights", "recipe", "date", "command"),
        tuple(
            (m, f["checkpoint"]["sha256"][:12], f["recipe"].removesuffix(".yaml"), f.get("date", ""), f["command"])
            for m, f in zip(models, files)
        ),
    )
    if compared := _difference_table(files, models):
        yield Heading(2, "Differences between models")
        yield (
            "Paired bootstrap on the same clips, second less first; p is twice the share of resamples beyond zero. "
            "Many comparisons are made at once: a p of 0.05 is to be expected among twenty."
        )
        yield compared
    order = dict.fromkeys((f["recipe"], r["name"]) for f in files for r in f["results"])
    for recipe, name in order:
        mine = [(m, p, r) for m, p, f in zip(models, paths, files) for r in f["results"]
                if f["recipe"] == recipe and r["name"] == name]  # fmt: skip
        yield Heading(2, f"{recipe.removesuffix('.yaml')}: {name}")
        yield from _evaluation(mine, method)
    for model in dict.fromkeys(models):
        yield from _side_by_side(model, [r for m, f in zip(models, files) for r in f["results"] if m == model])
    if speed := _speed(files, models):
        yield Heading(2, "Speed")
        yield "Clips embedded anew and how fast, decoding included, on the machine and the load of the day."
        yield speed


def _side_by_side(model: str, results: Sequence[Mapping[str, Any]]) -> Iterator[Block]:
    """One checkpoint's evaluations as one table: by the language of the prompts, and by labelled clips."""
    zero = [r for r in results if r["kind"] == "zero_shot"]
    found = {
        "Languages": table([(BY_TASK.get(r["config"]["task"], "accuracy"), r) for r in zero]),
        "Few labelled clips": few_table(results),
    }
    for title, (head, *lines) in ((title, lines) for title, lines in found.items() if lines):
        yield Heading(2, f"{title}: {model}")
        yield Table(tuple(head), tuple(map(tuple, lines)))


def _models(files: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the files' checkpoints; with their hash where one name has several weights, and with the settings where
    one checkpoint was evaluated by a recipe in several ways."""
    kinds = {(f["checkpoint"]["name"], f["checkpoint"]["sha256"]) for f in files}
    several = {n for n, _ in kinds if sum(n == m for m, _ in kinds) > 1}
    ways = {(f["recipe"], f["checkpoint"]["sha256"], _settings(f)) for f in files}
    out = []
    for f in files:
        name, sha256 = f["checkpoint"]["name"], f["checkpoint"]["sha256"]
        said = [sha256[:8]] if name in several else []
        said += _settings(f) if sum(w[:2] == (f["recipe"], sha256) for w in ways) > 1 else ()
        out.append(f"{name} ({', '.join(said)})" if said else name)
    return out


def _difference_table(files: Sequence[Mapping[str, Any]], models: Sequence[str]) -> Table | None:
    rows = tuple(
        (d.evaluation, _place(d.place.split()), d.metric, d.first, d.second, f"{d.difference:+.3f}",
         f"[{d.low:+.3f}, {d.high:+.3f}]", f"{d.p:.3f}", str(d.clips))
        for d in differences(files, models)
    )  # fmt: skip
    head = ("evaluation", "figures", "metric", "first", "second", "difference", "interval", "p", "clips or queries")
    return Table(head, rows) if rows else None


def _evaluation(mine: Sequence[tuple[str, Path, dict[str, Any]]], method: str | None) -> Iterator[Block]:
    rows = [(model, *found) for model, _, result in mine for found in _figures(result, result)]
    metrics = [m for m in SHOWN if any(m in found for *_, found in rows)]
    lines = [(m, place, *(_number(found, k) for k in metrics)) for m, place, found in rows]
    head = ("model", "figures", *(NAMES.get(m, m) for m in metrics))
    many = any(len(r.get("languages", ())) > MANY_LANGUAGES for *_, r in mine)
    codes = {code for *_, r in mine for code in r.get("languages", ())} - {"en"} if many else ()
    first = [line for line, (_, place, _) in zip(lines, rows) if place.split()[0] not in codes]
    result = mine[0][2]
    seen = dict.fromkeys(r["contamination"]["claim"] for *_, r in mine if "contamination" in r)
    yield (
        f"{result.get('clips', '?')} clips"
        + (f", {len(result['labels'])} classes" if "labels" in result else "")
        + (f". By the cards: {'; '.join(seen)}." if seen else ".")
        + (" A trial on some of the clips." if any("limit" in r for *_, r in mine) else "")
    )
    yield Table(head, tuple(first))
    if len(first) < len(lines):
        yield Table(head, tuple(line for line in lines if line not in first), "All languages")
    for model, path, result in mine:
        yield from _confusions(model, result)
        if method and (kept := _map_of(path, result)):
            vectors, labels = read_sample(kept)
            yield Heading(3, f"Map of embeddings: {model}")
            yield f"{len(labels)} clips, {'t-SNE' if method == 'tsne' else 'two main components'}."
            yield Picture(map_svg(places(vectors, method), labels), "map of embeddings")
        yield from _examples(model, result)


def _map_of(path: Path, result: Mapping[str, Any]) -> Path | None:
    """The embeddings that were kept with a result; those of another run under the same name are not its own."""
    kept = path.with_name(f"{path.stem}.{result['name']}.npz")
    stated = result.get("embeddings", {}).get("sha256")
    return kept if kept.is_file() and stated == sha256_of(kept) else None


def _figures(result: Mapping[str, Any], node: Mapping[str, Any], keys: tuple[str, ...] = ()) -> Iterator[Any]:
    if judged_by(result, node):
        yield _place(keys), node
    for key, value in node.items():
        if isinstance(value, dict) and key not in NO_FIGURES:
            yield from _figures(result, value, (*keys, key))


def _place(keys: Sequence[str]) -> str:
    """Where a figure stands, in words: "en plain", "prompts of mteb plain", "other languages"."""
    words = {"languages": "", "methods": "", "spoken": "", "wordings": "", "prompt_sets": "prompts of"}
    return " ".join(filter(None, (words.get(k, k.replace("_", " ")) for k in keys))) or "all"


def _number(found: Mapping[str, Any], key: str) -> str:
    if key not in found:
        return "–"
    spread = found.get(f"{key}_95")
    digits = f"{found[key]:.0f}" if key == "median_rank" else f"{found[key]:.3f}"
    return digits + (" [{:.3f}, {:.3f}]".format(*spread) if spread else "")


def _confusions(model: str, result: Mapping[str, Any]) -> Iterator[Block]:
    """The confusion matrix of the first table that has one, English where there are several languages."""
    tables = [(place, found) for place, found in _figures(result, result) if "confusion" in found]
    if not tables:
        return
    place, found = next((t for t in tables if t[0].startswith("en ")), tables[0])
    counts, labels = np.asarray(found["confusion"]), list(result["labels"])
    yield Heading(3, f"Confusions: {model}, {place}")
    yield Picture(confusion_svg(counts, labels), "confusion matrix: rows are true classes, columns predicted ones")
    off = counts - np.diag(counts.diagonal())
    worst = [divmod(int(i), len(labels)) for i in np.argsort(-off, axis=None, kind="stable")[:MISTAKES]]
    rows = [(labels[i], labels[j], f"{off[i, j]} of {counts[i].sum()}") for i, j in worst if off[i, j]]
    if rows:
        yield Table(("true", "named", "clips"), tuple(rows), "Most frequent confusions")


def _examples(model: str, result: Mapping[str, Any]) -> Iterator[Block]:
    tables = [result, *result.get("languages", {}).values()]
    found = next((t["examples"] for t in tables if isinstance(t, dict) and t.get("examples")), None)
    if not found:
        return
    rows = tuple(
        (
            e["query"],
            str(e["rank"]),
            "; ".join(("✓ " if f["clip"] == e["clip"] else "") + f["caption"] for f in e["found"]),
        )
        for e in found
    )
    yield Heading(3, f"Captions and what they find: {model}")
    yield Table(("caption", "rank of its clip", "first captions of the clips found (✓ its own)"), rows)


def _speed(files: Sequence[Mapping[str, Any]], models: Sequence[str]) -> Table | None:
    rows = tuple(
        (model, f"{f['recipe'].removesuffix('.yaml')} / {r['name']}", str(s["embedded"]), str(s["cached"]),
         f"{s['seconds']:.1f}", f"{s['clips_per_second']:.1f}")
        for model, f in zip(models, files) for r in f["results"]
        if "clips_per_second" in (s := r.get("speed", {}))
    )  # fmt: skip
    return (
        Table(("model", "evaluation", "embedded", "from the cache", "seconds", "clips a second"), rows)
        if rows
        else None
    )


def _markdown(blocks: Sequence[Block]) -> str:
    def cell(text: str) -> str:
        return text.replace("|", "\\|").replace("\n", " ") or " "

    out = []
    for block in blocks:
        if isinstance(block, Heading):
            out.append(f"{'#' * block.level} {block.text}")
        elif isinstance(block, Table):
            lines = [block.head, ("---",) * len(block.head), *block.rows]
            table = "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)
            out.append(f"{block.folded}:\n\n{table}" if block.folded else table)
        elif isinstance(block, str):
            out.append(block)
    return "\n\n".join(out) + "\n"


def _html(blocks: Sequence[Block]) -> str:
    def cell(text: str) -> str:
        number = re.fullmatch(r"[+\-–]?[\d.]*( \[.*\])?", text)
        kind = ' class="n"' if number else ' class="long"' if len(text) > 60 else ""
        return f"<td{kind}>{escape(text)}</td>"

    out = []
    for block in blocks:
        if isinstance(block, Heading):
            out.append(f"<h{block.level}>{escape(block.text)}</h{block.level}>")
        elif isinstance(block, Picture):
            out.append(f'<figure role="img" aria-label="{escape(block.shows)}" style="margin:0">{block.svg}</figure>')
        elif isinstance(block, Table):
            head = "".join(f"<th>{escape(h)}</th>" for h in block.head)
            rows = "".join(f"<tr>{''.join(map(cell, row))}</tr>\n" for row in block.rows)
            table = f"<table><tr>{head}</tr>\n{rows}</table>"
            folded = block.folded
            out.append(f"<details><summary>{escape(folded)}</summary>{table}</details>" if folded else table)
        else:
            out.append(f'<p class="note">{escape(block)}</p>')
    head = f'<meta charset="utf-8"><title>Evaluation report</title><style>{STYLE}</style>'
    body = "\n".join(out)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'
