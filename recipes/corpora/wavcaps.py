"""WavCaps: github.com/XinhaoMei/WavCaps (tables), huggingface.co/datasets/cvssp/WavCaps (audio). For training.

Layout: `json_files/AudioSet_SL/as_final.json`, BBC_Sound_Effects/bbc_final.json, FreeSound/fsd_final.json,
SoundBible/sb_final.json, each {"data": [{"id", "caption", "duration", …}]}; clips named by id anywhere below, in a
folder called like the source. The blacklists in json_files/blacklist name the ids that test sets hold too: those rows
have the split `blacklisted`, not `train`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from clara.data.corpora import clip_paths, pick
from clara.data.manifest import Corpus, Row, find_files

INFO = Corpus(
    "wavcaps",
    "academic use only; each source its own licence",
    "https://github.com/XinhaoMei/WavCaps",
    "caption",
    ("en",),
    "Mei et al. 2024, doi:10.1109/TASLP.2024.3419446",
    {"source=AudioSet_SL": 108317, "source=BBC_Sound_Effects": 31201}
    | {"source=FreeSound": 262300, "source=SoundBible": 1232},
    partial=True,
    sources=("freesound", "audioset", "bbc", "soundbible"),
)


def rows(folder: Path) -> Iterator[Row]:
    """Rows of the tables that are there."""
    banned = blacklist(folder)
    for table in find_files(folder, "**/*_final.json"):
        source = table.parent.name
        places = [p for p in folder.rglob(source) if p.is_dir() and p != table.parent]
        clips = clip_paths(places[0] if places else folder)
        for entry in json.loads(table.read_text(encoding="utf-8"))["data"]:
            name = Path(str(entry["id"])).stem
            yield Row(
                pick(clips, folder / source, name),
                INFO.name,
                "blacklisted" if any(name in ids for key, ids in banned.items() if source.startswith(key)) else "train",
                seconds=float(entry["duration"]) if entry.get("duration") else None,
                text=(entry["caption"].strip(),),
                task="caption",
                original={"source": source, "id": name},
            )


def blacklist(folder: Path) -> dict[str, set[str]]:
    """Ids that any of the published blacklists names, by source (AudioSet stands for AudioSet_SL)."""
    banned: dict[str, set[str]] = {}
    for path in sorted(folder.glob("**/blacklist*.json")):
        for source, ids in json.loads(path.read_text(encoding="utf-8")).items():
            banned.setdefault(source, set()).update(Path(str(i)).stem for i in ids)
    return banned
