"""What `clara captions acoustic` found, by emotion and gender: medians, words, how well a measure ranks two groups.

    python benchmarks/acoustics.py voices.jsonl

`voices.jsonl`: a manifest that the command wrote. Prints one JSON line a group and a measure. Needs clara[dev].
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from sklearn.metrics import roc_auc_score

from clara.data.manifest import Row, read_manifest

MEASURES = ("pitch_hz", "pitch_range", "loudness_db", "effort_db", "rate", "brightness_db", "jitter")
PAIRS = (("emotion", "anger", "sadness", True), ("gender", "female", "male", False))


def groups(rows: list[Row], key: str) -> None:
    """Medians and words, in percent of clips, of each value of a column."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if value := getattr(row, key):
            found[value].append(row.original["acoustics"])
    for value, measured in sorted(found.items()):
        known = {m: [a[m] for a in measured if a[m] is not None] for m in MEASURES}
        medians = {m: round(float(np.median(v)), 2) for m, v in known.items() if v}
        words = Counter(w for a in measured for w in a["voice"])
        percent = {w: round(100 * n / len(measured)) for w, n in sorted(words.items())}
        print(json.dumps({key: value, "clips": len(measured), "medians": medians, "words_percent": percent}))


def rank(rows: list[Row], pair: tuple[str, str, str, bool], measure: str) -> None:
    """AUC of one value of a column against another; within speakers: less each speaker's median."""
    key, first, second, within = pair
    known = [(r, r.original["acoustics"][measure]) for r in rows if r.original["acoustics"][measure] is not None]
    by_speaker: dict[str | None, list[float]] = defaultdict(list)
    for row, value in known:
        by_speaker[row.speaker if within else None].append(value)
    usual = {s: float(np.median(v)) for s, v in by_speaker.items()}
    chosen = [(r, v - usual[r.speaker if within else None]) for r, v in known if getattr(r, key) in (first, second)]
    truth = [getattr(r, key) == first for r, _ in chosen]
    if 0 < sum(truth) < len(truth):
        auc = round(float(roc_auc_score(truth, [v for _, v in chosen])), 3)
        where = "within speakers" if within else "over all"
        print(json.dumps({"auc": f"{first} over {second}", "where": where, "measure": measure, "value": auc}))


def main(manifest: Annotated[Path, typer.Argument(help="Manifest with original.acoustics.")]) -> None:
    """Read and print."""
    rows = [r for r in read_manifest(manifest) if "acoustics" in r.original]
    for key in ("emotion", "gender"):
        groups(rows, key)
    for pair in PAIRS:
        for measure in MEASURES:
            rank(rows, pair, measure)


if __name__ == "__main__":
    typer.run(main)
