"""AudioSet: research.google.com/audioset/download.html (tables) and github.com/audioset/ontology; clips of YouTube.

Layout: `eval_segments.csv`, `balanced_train_segments.csv`, `unbalanced_train_segments.csv`, `class_labels_indices.csv`,
`ontology.json` if wanted, and clips named by YouTube id as ID, YID, ID_START or ID_START-in-milliseconds, anywhere
below. `original.labels` holds a clip's classes by display name; `label` stays empty.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from clara.data.corpora import clip_paths, pick
from clara.data.manifest import Corpus, Row, read_table
from clara.errors import ClaraError, unknown

INFO = Corpus(
    "audioset",
    "tables CC BY 4.0, ontology CC BY-SA 4.0; audio of YouTube, not redistributable",
    "https://research.google.com/audioset/download.html",
    "sound",
    (),
    "Gemmeke et al. 2017, doi:10.1109/ICASSP.2017.7952261",
    {"train": 2041789, "balanced": 22160, "test": 20371},
    partial=True,
    sources=("youtube",),
)
SPLITS = {"unbalanced_train": "train", "balanced_train": "balanced", "eval": "test"}


def rows(folder: Path) -> Iterator[Row]:
    """Rows of the tables that are there."""
    names = {
        r["mid"]: r["display_name"] for r in read_table(folder / "class_labels_indices.csv", ("mid", "display_name"))
    }
    names = ontology(folder) | names
    tables = {s: folder / f"{n}_segments.csv" for n, s in SPLITS.items() if (folder / f"{n}_segments.csv").is_file()}
    if not tables:
        raise ClaraError(f"{folder}: none of {', '.join(f'{n}_segments.csv' for n in SPLITS)}.")
    clips = clip_paths(folder)
    for split, table in tables.items():
        with table.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(("\n" if x.startswith("#") else x for x in file), skipinitialspace=True, strict=True)
            for line in filter(None, reader):
                try:
                    video, start, mids = line[0], float(line[1]), line[3].split(",")
                except (ValueError, IndexError) as e:
                    where = f"{table}:{reader.line_num}"
                    raise ClaraError(f"{where}: {line}, expected id, start, end and quoted classes ({e}).") from e
                for mid in mids:
                    if mid not in names:
                        raise unknown(f"class in {table} of {video}", mid, names)
                stems = (video, f"Y{video}", f"{video}_{start:g}", f"{video}_{start * 1000:.0f}")
                yield Row(
                    pick(clips, folder, *stems),
                    INFO.name,
                    split,
                    task="sound",
                    original={"labels": [names[mid] for mid in mids], "start": start},
                )


def ontology(folder: Path) -> dict[str, str]:
    """Display names of all 632 classes by id, where `ontology.json` is there."""
    path = folder / "ontology.json"
    return {c["id"]: c["name"] for c in json.loads(path.read_text(encoding="utf-8"))} if path.is_file() else {}
