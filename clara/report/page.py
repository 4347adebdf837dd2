"""Result files -> one page, as Markdown or as HTML that needs nothing else: tables, differences, pictures, examples."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jinja2
import numpy as np

from clara.errors import ClaraError
from clara.report import drawing
from clara.report.compare import differences
from clara.report.maps import places, read_sample
from clara.report.tables import calibration_table, few_table, languages_table
from clara.report.text import SHOWN, metric_name, number
from clara.results import Figure, Result, ResultFile, read_results
from clara.saving import sha256_of, whole_file

MISTAKES = 8  # confusions listed
TEMPLATE = Path(__file__).with_name("page.html")


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
        method: of the map of embeddings: 'pca' or 'tsne' (needs scikit-learn). Only HTML has maps, and only where
            the embeddings that clara eval kept lie beside the result file.

    Raises:
        ClaraError: no results, a file that is not one, another ending of `out`; for HTML, no matplotlib.
    """
    out, paths = Path(out), list(dict.fromkeys(Path(r) for r in results))
    if out.suffix not in (".html", ".md"):
        raise ClaraError(f"{out}: expected a name that ends in .html or .md.")
    if not paths:
        raise ClaraError("No result files: give the JSON files that clara eval wrote.")
    files, left = _newest([read_results(p) for p in paths], paths)
    for line in left if log else ():
        log(line)
    paths = [p for p, f in zip(paths, files) if f.results]
    files = [f for f in files if f.results]
    blocks = list(_blocks(files, paths, method if out.suffix == ".html" else None))
    text = _html(blocks) if out.suffix == ".html" else _markdown(blocks)
    with whole_file(out) as part:
        part.write_text(text, encoding="utf-8")
    return out


def _newest(files: Sequence[ResultFile], paths: Sequence[Path]) -> tuple[list[ResultFile], list[str]]:
    """The files with every evaluation of one checkpoint and settings in the newest of them alone, and what that left
    out. Of two made at one time the longer file is taken: the other is a card's copy."""
    order = sorted(range(len(files)), key=lambda i: (files[i].date, paths[i].stat().st_size))
    newest = {_identity(files[i], r): i for i in order for r in files[i].results}
    out, left = [], []
    for i, file in enumerate(files):
        out.append(replace(file, results=tuple(r for r in file.results if newest[_identity(file, r)] == i)))
        for other in sorted({newest[_identity(file, r)] for r in file.results} - {i}):
            names = [r.name for r in file.results if newest[_identity(file, r)] == other]
            left.append(f"{paths[i]}: {', '.join(names)} left out, {paths[other]} is newer")
    return out, left


def _identity(file: ResultFile, result: Result) -> tuple[object, ...]:
    return file.recipe, file.checkpoint["sha256"], file.settings(), result.name


def _blocks(files: Sequence[ResultFile], paths: Sequence[Path], method: str | None) -> Iterator[Block]:
    models = _models(files)
    yield Heading(1, "Evaluation report")
    yield (
        "Intervals are 95 % bootstraps over clips. “Calibrated” subtracts each label's mean score over the evaluated "
        "clips, unlabelled: another figure than the plain one."
    )
    yield Table(
        ("model", "weights", "recipe", "date", "command"),
        tuple((m, f.checkpoint["sha256"][:12], f.stem, f.date, f.command) for m, f in zip(models, files)),
    )
    if compared := _difference_table(files, models):
        yield Heading(2, "Differences between models")
        yield (
            "Paired bootstrap on the same clips, second less first; p is twice the share of resamples beyond zero. "
            "Many comparisons are made at once: a p of 0.05 is to be expected among twenty."
        )
        yield compared
    every = [(f.stem, r.name, m, p, r) for m, p, f in zip(models, paths, files) for r in f.results]
    for stem, name in dict.fromkeys(one[:2] for one in every):
        yield Heading(2, f"{stem}: {name}")
        yield from _evaluation([one[2:] for one in every if one[:2] == (stem, name)], method)
    for model in dict.fromkeys(models):
        yield from _side_by_side(model, [r for *_, m, _, r in every if m == model])
    if speed := _speed(files, models):
        yield Heading(2, "Speed")
        yield "Clips embedded anew and how fast, decoding included, on the machine and the load of the day."
        yield speed


def _side_by_side(model: str, results: Sequence[Result]) -> Iterator[Block]:
    """One checkpoint's evaluations as one table: by the language of the prompts, and by labelled clips."""
    found = {"Languages": languages_table(results), "Few labelled clips": few_table(results)}
    found["Calibration"] = calibration_table(results)
    for title, (head, *lines) in ((title, lines) for title, lines in found.items() if lines):
        yield Heading(2, f"{title}: {model}")
        yield Table(tuple(head), tuple(map(tuple, lines)))


def _models(files: Sequence[ResultFile]) -> list[str]:
    """Names of the files' checkpoints; with their hash where one name has several weights, and with the settings where
    one checkpoint was evaluated by a recipe in several ways."""
    kinds = {(f.checkpoint["name"], f.checkpoint["sha256"]) for f in files}
    several = {n for n, _ in kinds if sum(n == m for m, _ in kinds) > 1}
    ways = {(f.recipe, f.checkpoint["sha256"], f.settings()) for f in files}
    out = []
    for f in files:
        name, sha256 = f.checkpoint["name"], f.checkpoint["sha256"]
        more = [sha256[:8]] if name in several else []
        more += f.settings() if sum(w[:2] == (f.recipe, sha256) for w in ways) > 1 else ()
        out.append(f"{name} ({', '.join(more)})" if more else name)
    return out


def _difference_table(files: Sequence[ResultFile], models: Sequence[str]) -> Table | None:
    rows = tuple(
        (d.evaluation, d.what, d.metric, d.first, d.second, f"{d.difference:+.3f}",
         f"[{d.low:+.3f}, {d.high:+.3f}]", f"{d.p:.3f}", str(d.clips))
        for d in differences(files, models)
    )  # fmt: skip
    head = ("evaluation", "figures", "metric", "first", "second", "difference", "interval", "p", "clips or queries")
    return Table(head, rows) if rows else None


def _evaluation(mine: Sequence[tuple[str, Path, Result]], method: str | None) -> Iterator[Block]:
    """One evaluation of several models: the primary figures' places, the others folded, then pictures and examples."""
    result = mine[0][2]
    seen = dict.fromkeys(r.contamination["claim"] for *_, r in mine if r.contamination)
    yield (
        f"{result.clips} clips"
        + (f", {len(result.labels)} classes" if result.labels else "")
        + (f". By the cards: {'; '.join(seen)}." if seen else ".")
        + (" A trial on some of the clips." if any(r.limit is not None for *_, r in mine) else "")
    )
    rows = [(model, figures) for model, _, r in mine for _, figures in r.places()]
    for primary, folded in ((True, None), (False, "Other figures")):
        if table := _figure_table([row for row in rows if any(f.primary for f in row[1]) == primary], folded):
            yield table
    for model, path, result in mine:
        yield from _confusions(model, result, draw=method is not None)
        if method and (bins := result.notes.get("reliability")):
            where = next((w for w in bins if w == "en/plain"), next(iter(bins)))
            yield Heading(3, f"Reliability: {model}, {where.replace('/', ' ')}")
            yield Picture(drawing.svg(drawing.reliability(np.array(bins[where]))), "share right by probability given")
        if method and (kept := _map_of(path, result)):
            vectors, labels = read_sample(kept)
            yield Heading(3, f"Map of embeddings: {model}")
            yield f"{len(labels)} clips, {'t-SNE' if method == 'tsne' else 'two main components'}."
            drawn = drawing.embedding_map(places(vectors, method), labels)
            yield Picture(drawing.svg(drawn), "map of embeddings")
        yield from _examples(model, result)


def _figure_table(rows: Sequence[tuple[str, Sequence[Figure]]], folded: str | None) -> Table | None:
    """A row per model and place, a column per metric."""
    cells = [(model, figures[0].what, {f.metric: f for f in figures}) for model, figures in rows]
    metrics = [m for m in SHOWN if any(m in found for *_, found in cells)]
    metrics += dict.fromkeys(m for *_, found in cells for m in found if " of " in m)
    lines = [(m, what, *(number(found.get(k)) for k in metrics)) for m, what, found in cells if found.keys() & metrics]
    return Table(("model", "figures", *map(metric_name, metrics)), tuple(lines), folded) if lines else None


def _map_of(path: Path, result: Result) -> Path | None:
    """The embeddings that were kept with a result; those of another run under the same name are not its own."""
    kept = path.with_name(f"{path.stem}.{result.name}.npz")
    return kept if kept.is_file() and result.embeddings.get("sha256") == sha256_of(kept) else None


def _confusions(model: str, result: Result, draw: bool) -> Iterator[Block]:
    """The confusion matrix of the first place that has one, English where there are several languages."""
    found = [where for where, outcomes in result.outcomes.items() if outcomes.kind == "classes"]
    if not found:
        return
    where = next((w for w in found if w.startswith("en/")), found[0])
    counts, labels = result.confusion(where), result.classes(where)
    yield Heading(3, f"Confusions: {model}, {where.replace('/', ' ')}")
    if draw:
        shows = "confusion matrix: rows are true classes, columns predicted ones"
        yield Picture(drawing.svg(drawing.confusion(counts, labels)), shows)
    off = counts - np.diag(counts.diagonal())
    worst = [divmod(int(i), len(labels)) for i in np.argsort(-off, axis=None, kind="stable")[:MISTAKES]]
    rows = [(labels[i], labels[j], f"{off[i, j]} of {counts[i].sum()}") for i, j in worst if off[i, j]]
    if rows:
        yield Table(("true", "named", "clips"), tuple(rows), "Most frequent confusions")


def _examples(model: str, result: Result) -> Iterator[Block]:
    rows = tuple(
        (
            e["query"],
            str(e["rank"]),
            "; ".join(("✓ " if f["clip"] == e["clip"] else "") + f["caption"] for f in e["found"]),
        )
        for e in result.examples
    )
    if rows:
        yield Heading(3, f"Captions and what they find: {model}")
        yield Table(("caption", "rank of its clip", "first captions of the clips found (✓ its own)"), rows)


def _speed(files: Sequence[ResultFile], models: Sequence[str]) -> Table | None:
    rows = tuple(
        (model, f"{f.stem} / {r.name}", str(s["embedded"]), str(s["cached"]), f"{s['seconds']:.1f}",
         f"{s['clips_per_second']:.1f}")
        for model, f in zip(models, files) for r in f.results if "clips_per_second" in (s := r.speed)
    )  # fmt: skip
    head = ("model", "evaluation", "embedded", "from the cache", "seconds", "clips a second")
    return Table(head, rows) if rows else None


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
    def kind(cell: str) -> str:
        return "n" if re.fullmatch(r"[+\-–]?[\d.]*( \[.*\])?", cell) else "long" if len(cell) > 60 else ""

    template = jinja2.Environment(autoescape=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(blocks=[(type(b).__name__, b) for b in blocks], kind=kind)
