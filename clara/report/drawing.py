"""Pictures, by matplotlib: confusion matrices and maps of embeddings, as PNG files or as SVG within a page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clara.errors import require
from clara.results import MANY_LANGUAGES, Result
from clara.saving import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from clara.zoo.events import Timeline

ANNOTATED = 20  # classes up to which cells carry their number
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8c6d00", "#4d4d4d")  # for any sight


def confusion(counts_CC: np.ndarray, labels: Sequence[str], title: str = "") -> Figure:
    """Draw a confusion matrix: row = true class, color = share of the row; with few classes, the counts too."""
    share = counts_CC / np.maximum(1, counts_CC.sum(1, keepdims=True))
    side = 2.5 + max(0.22 * len(labels), 3.0)
    figure, axes = _canvas(side + 0.8, side)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    size = 9 if len(labels) <= ANNOTATED else 7
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=size)
    axes.set_yticks(range(len(labels)), labels, fontsize=size)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(title, fontsize=10)
    for (i, j), n in np.ndenumerate(counts_CC) if len(labels) <= ANNOTATED else ():
        if n:
            ink = "white" if share[i, j] > 0.5 else "black"
            axes.text(j, i, n, ha="center", va="center", fontsize=7, color=ink)
    return figure


def reliability(bins_C3: np.ndarray, title: str = "") -> Figure:
    """Draw how often predictions are right by how sure they are: `clara.metrics.reliability`, clips in each bin below.
    Bars under the diagonal are too sure."""
    figure, axes = _canvas(5.0, 4.6)
    width = 1 / len(bins_C3)
    places = (np.arange(len(bins_C3)) + 0.5) * width
    filled = bins_C3[:, 0] > 0
    axes.bar(places[filled], bins_C3[filled, 2], 0.92 * width, color=PALETTE[0], label="right")
    axes.plot((0, 1), (0, 1), color=PALETTE[3], linestyle="--", label="as sure as right")
    for place, (clips, _, right) in zip(places[filled], bins_C3[filled]):
        axes.text(place, right + 0.01, int(clips), ha="center", va="bottom", fontsize=7)
    axes.set(xlabel="probability of the label given", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.05))
    axes.set_title(title, fontsize=10)
    axes.legend(loc="upper left", fontsize=8, frameon=False)
    return figure


def embedding_map(places_N2: np.ndarray, labels: Sequence[str]) -> Figure:
    """Draw dots colored by label, with a legend."""
    figure, axes = _canvas(9.0, 6.0)
    names, truth = sorted(set(labels)), np.asarray(labels)
    for i, name in enumerate(names):
        color = PALETTE[i] if len(names) <= len(PALETTE) else f"C{i % 10}"
        marker = "os^Dv"[i // 10 % 5] if len(names) > len(PALETTE) else "o"
        axes.scatter(*places_N2[truth == name].T, s=9, color=color, marker=marker, alpha=0.75, label=name)
    axes.set(xticks=(), yticks=())
    columns = 1 + (len(names) - 1) // 25
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8, ncols=columns, frameon=False)
    return figure


def draw_reliability(out: Path, stem: str, result: Result) -> None:
    """Write how reliable probabilities are as `out/STEM.NAME.PLACE.reliability.png`, of many languages English's."""
    for where, bins in result.notes.get("reliability", {}).items():
        code, _, kind = where.partition("/")
        if kind == "plain" and (code == "en" or len(result.languages) <= MANY_LANGUAGES):
            told = f"{result.name} ({code}): calibration error {result.value(where, 'ece'):.3f}"
            drawn = reliability(np.array(bins), told)
            with whole_file(out / f"{stem}.{result.name}.{code}.reliability.png") as part:
                drawn.savefig(part, format="png")


def timeline(line: Timeline, title: str = "") -> Figure:
    """Draw the scores of each text over time, its events shaded, and the thresholds that make them."""
    figure, axes = _canvas(11.0, 1.2 + 1.1 * len(line.texts))
    events, steps = line.events(), range(len(line.texts))
    for i in steps:  # one strip above the other, the first text on top
        base, color = len(line.texts) - 1 - i, PALETTE[i % len(PALETTE)]
        axes.stairs(base + 0.9 * line.scores_QN[i], line.edges_N1, baseline=base, color=color, linewidth=0.9)
        for e in (e for e in events if e.text == line.texts[i]):
            axes.axvspan(
                e.start, e.end, base / len(line.texts), (base + 0.9) / len(line.texts), color=color, alpha=0.25
            )
            axes.text((e.start + e.end) / 2, base + 0.92, f"{e.score:.2f}", fontsize=7, ha="center", va="center")
        for level, style in ((line.config.threshold, "--"), (line.config.low_, ":")):
            axes.axhline(base + 0.9 * level, color="gray", linewidth=0.6, linestyle=style)
    axes.set_yticks([len(line.texts) - 0.55 - i for i in steps], line.texts, fontsize=9)
    axes.set(xlim=(0, line.edges_N1[-1]), ylim=(0, len(line.texts)), xlabel="seconds")
    axes.set_title(title, fontsize=10)
    return figure


def draw_confusions(out: Path, stem: str, result: Result) -> None:
    """Write the confusion matrices of the plain figures as `out/STEM.NAME.PLACE.png`, of many languages English's."""
    for where, outcomes in result.outcomes.items():
        code, _, kind = where.partition("/")
        shown = len(result.languages) <= MANY_LANGUAGES or code == "en"
        if outcomes.kind == "classes" and kind in ("", "plain") and (not kind or code in result.languages) and shown:
            rates = f"accuracy {result.value(where, 'accuracy'):.3f}, UAR {result.value(where, 'uar'):.3f}"
            drawn = confusion(result.confusion(where), result.classes(where), f"{result.name} ({code}): {rates}")
            with whole_file(out / f"{stem}.{result.name}.{code}.png") as part:
                drawn.savefig(part, format="png")


def svg(figure: Figure) -> str:
    """A figure as an SVG element, its text as text."""
    matplotlib = require("matplotlib", "demo")
    page = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "clara"}):
        figure.savefig(page, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return page.getvalue()[page.getvalue().index("<svg") :]


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    require("matplotlib", "demo")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()
