"""Results as files: JSON that says how every figure was made, and a confusion matrix as a picture."""

from __future__ import annotations

import datetime
import hashlib
import json
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import clara
from clara.errors import ClaraError, require
from clara.eval.clips import AudioTextEmbedder
from clara.eval.languages import table
from clara.eval.tables import MANY_LANGUAGES, NAMES, judged_by
from clara.eval.wordings import lines as wording_lines
from clara.saving import whole_file

SPREADS = {
    "other_languages": "mean of {} other languages",
    "far_languages": "mean of {} languages far from audio",
    "worst_language": "worst language [{1}]",
}
ANNOTATED = 20  # classes up to which cells carry their number


def provenance(zoo: AudioTextEmbedder, seed: int) -> dict[str, Any]:
    """Command, checkpoint and its sha256, seed, versions, date (UTC)."""
    import torch

    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "checkpoint": {"name": zoo.name, "sha256": zoo.sha256},
        "seed": seed,
        "versions": {
            "clara": clara.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def write_json(path: Path, data: Any) -> None:
    """Write JSON atomically: a reader finds the old file or the new one whole. NaN is an error. What UTF-8 lacks, in a
    file's name, is written as JSON escapes it."""
    try:
        text = json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False)
    except ValueError as e:
        raise ClaraError(f"{path}: a figure is NaN or infinite ({e}); nothing was written.") from e
    with whole_file(path) as part:
        part.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def confusion_picture(path: Path, counts_CC: Sequence[Sequence[int]], labels: Sequence[str], title: str) -> None:
    """Draw a confusion matrix as PNG: row = true class, colour = share of the row; with few classes, the counts too."""
    require("matplotlib", "demo")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = np.asarray(counts_CC)
    share = counts / np.maximum(1, counts.sum(1, keepdims=True))
    side = 2.5 + max(0.22 * len(labels), 3.0)
    figure = Figure(figsize=(side + 0.8, side), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    size = 9 if len(labels) <= ANNOTATED else 7
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=size)
    axes.set_yticks(range(len(labels)), labels, fontsize=size)
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(title, fontsize=10)
    if len(labels) <= ANNOTATED:
        for (i, j), n in np.ndenumerate(counts):
            if n:
                axes.text(
                    j, i, n, ha="center", va="center", fontsize=7, color="white" if share[i, j] > 0.5 else "black"
                )
    with whole_file(path) as part:
        figure.savefig(part, format="png")


def headline(result: dict[str, Any]) -> list[str]:
    """A result's main figures, a line each."""
    lines, name = [], result["name"]
    claim = f" | {result['contamination']['claim']}" if "contamination" in result else ""
    codes = result.get("languages", {})
    for code, found in codes.items():
        if len(codes) > MANY_LANGUAGES and code != "en":
            continue  # told as a table
        if "plain" in found:
            lines.append(f"{name} [{code}] {_rates(found['plain'])} | calibrated {_rates(found['calibrated'], False)}")
        else:
            lines.append(f"{name} [{code}] {_recalls(found)}")
    for key, words in SPREADS.items():
        if found := result.get(key):
            who = words.format(len(found.get("languages", ())), found.get("language"))
            lines.append(f"{name} {who}: {_rates(found)}{_of_english(result, found)}")
    for method, found in result.get("methods", {}).items():
        spread = f" ± {found['accuracy_std']:.3f}" if "accuracy_std" in found else ""
        lines.append(f"{name} {method}: {_rates(found)}{spread}")
    for code, found in result.get("languages", {}).items():
        if "per" in found:
            lines.append(
                f"{name} [{code}] mean of {len(found['per']['groups'])} {found['per']['field']}s: "
                f"{_rates(found['per'], False)} ± {found['per']['accuracy_std']:.3f}"
            )
    lines += wording_lines(result)
    for code, found in result.get("prompt_sets", {}).items():
        lines.append(f"{name} [prompts of {code}] {_rates(found['plain'])}")
    for code, found in result.get("spoken", {}).items():
        few = ", ".join(f"{n}-shot {v['accuracy']:.3f}" for n, v in found["shots"].items())
        lines.append(f"{name} [{code}] {found['words']} words: {_rates(found['zero_shot']['plain'])}, {few}")
    if "macro_map" in result:
        span = "[{:.3f}, {:.3f}]".format(*result["macro_map_95"])
        lines.append(f"{name} macro mAP {result['macro_map']:.3f} {span}, {len(result['labels'])} classes")
    if "t2a" in result:
        lines.append(f"{name} {_recalls(result)}")
    if "t2a" in result.get("duplicates", {}):
        lines.append(f"{name} equal captions count as right: {_recalls(result['duplicates'])}")
    trial = f" | a trial on at most {result['limit']} clips" if "limit" in result else ""
    return [line + claim + trial for line in lines] + [f"{name}: {note}" for note in _notes(result)]


def _notes(result: dict[str, Any]) -> list[str]:
    """What a reader must know of the clips: some are missing, or there are too many."""
    notes = []
    for part in result.get("data", ()):
        there, wanted = part["clips"], part.get("published", part["clips"] + part["missing"])
        corpora = ", ".join(part["corpora"])
        if there < wanted:
            notes.append(f"{there} of the {wanted} clips of {corpora} are there: no figure to compare with others'")
        elif there > wanted:
            notes.append(f"{there} clips of {corpora}, which publishes {wanted}: are there copies among them?")
    return notes


def _of_english(result: dict[str, Any], found: dict[str, Any]) -> str:
    metric = judged_by(result, found)
    share = found.get("of_english", {}).get(metric)
    return "" if share is None else f", {100 * share:.0f} % of English by {NAMES.get(metric, metric)}"


def languages_table(results: Sequence[dict[str, Any]]) -> list[str]:
    """Results with many prompt languages as lines of one table, the columns aligned; none where no result has many."""
    lines = table([(judged_by(r, next(iter(r["languages"].values()))["plain"]), r) for r in results
                   if r["kind"] == "zero_shot"])  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*lines)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]


def write_clips(path: Path, clips: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Write the clips of an evaluation as JSON Lines: {"file", "found", "missing", "sha256"}; the hash is of the clips'
    names and contents, so that two results with one hash were made on the same audio."""
    lines = sorted(json.dumps(clip, ensure_ascii=False, sort_keys=True) for clip in clips)
    with whole_file(path) as part:
        part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="backslashreplace")
    heard = [line for line in lines if json.loads(line)["found"]]
    digest = hashlib.sha256("\n".join(heard).encode(errors="backslashreplace")).hexdigest()
    return {"file": path.name, "found": len(heard), "missing": len(lines) - len(heard), "sha256": digest}


def _rates(found: dict[str, Any], interval: bool = True) -> str:
    def one(name: str) -> str:
        ends = found.get(f"{name}_95") if interval else None
        return f"{NAMES.get(name, name)} {found[name]:.3f}" + (" [{:.3f}, {:.3f}]".format(*ends) if ends else "")

    return f"{one('accuracy')} {one('uar')}"


def _recalls(found: dict[str, Any]) -> str:
    parts = [f"{way.upper()} R@1 {found[way]['R@1']:.3f} R@10 {found[way]['R@10']:.3f}" for way in ("t2a", "a2t")]
    return ", ".join(parts)
