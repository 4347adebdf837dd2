"""AudioCaps 1.0 and 2.0: captions of github.com/cdjkim/audiocaps; the clips are ten seconds of YouTube videos.

Layout: `train.csv`, `val.csv`, `test.csv` as published (AudioCaps 2.0's in a folder of their own), and clips named by
YouTube id as ID, YID or ID_START, with any audio suffix, anywhere below the folder. `test957.csv` (file_name, caption_1
… caption_5, the set of ACT and WavCaps) and `test883.csv` (columns of test.csv, the set of MTEB) are splits of those
names.

Translated captions are splits of their own, "valid-ja": `captions/ja/val.csv` as github.com/sarulab-speech/ml-audiocaps
publishes them, or `val_ja.csv` beside val.csv.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.corpora import clip_paths, pick
from clara.data.manifest import Corpus, Row, read_table
from clara.errors import ClaraError

INFO = Corpus(
    "audiocaps",
    "captions MIT; audio of YouTube, not redistributable",
    "https://github.com/cdjkim/audiocaps",
    "caption",
    ("en",),
    "Kim et al. 2019, doi:10.18653/v1/N19-1011",
    {"train": 49838, "valid": 495, "test": 975},
    partial=True,
    sources=("audioset",),
)
SPLITS = {"train": "train", "val": "valid", "test": "test", "test883": "test883"}
COLUMNS = ("audiocap_id", "youtube_id", "start_time", "caption")
WIDE = tuple(f"caption_{i}" for i in range(1, 6))


def tables_of(folder: Path) -> dict[str, Path]:
    """Split -> its table: the English ones, then those of other languages, "valid-ja"."""
    found = {split: folder / f"{name}.csv" for name, split in SPLITS.items()}
    for name, split in SPLITS.items():
        for path in sorted(folder.glob(f"{name}_*.csv")):
            found[f"{split}-{path.stem.removeprefix(f'{name}_')}"] = path
        for path in sorted(folder.glob(f"captions/*/{name}.csv")):
            found[f"{split}-{path.parent.name}"] = path
    return {split: path for split, path in found.items() if path.is_file()}


def rows(folder: Path) -> Iterator[Row]:
    """One row per clip and language, with all its captions; clips that are gone have the path where one would lie."""
    clips = clip_paths(folder)
    tables = tables_of(folder)
    if not tables and not (folder / "test957.csv").is_file():
        raise ClaraError(f"{folder}: none of train.csv, val.csv, test.csv, test957.csv of AudioCaps.")
    for split, table in tables.items():
        captions: dict[tuple[str, str], list[dict[str, str]]] = {}
        for r in read_table(table, COLUMNS):
            captions.setdefault((r["youtube_id"], r["start_time"]), []).append(r)
        for (video, start), records in captions.items():
            yield Row(
                pick(clips, folder, video, f"Y{video}", f"{video}_{start}"),
                INFO.name,
                split,
                text=tuple(r["caption"] for r in records),
                task="caption",
                original={"youtube_id": video, "start_time": start, "ids": [r["audiocap_id"] for r in records]},
            )
    if (folder / "test957.csv").is_file():
        for r in read_table(folder / "test957.csv", ("file_name", *WIDE)):
            video = Path(r["file_name"]).stem.removeprefix("Y")
            path = pick(clips, folder, video, f"Y{video}")
            text = tuple(r[c] for c in WIDE)
            yield Row(path, INFO.name, "test957", text=text, task="caption", original={"youtube_id": video})
