"""AudioCaps: `train.csv`, `val.csv`, `test.csv` as published, and a folder of clips named by YouTube id.

A clip is looked for as ID, YID or ID_START with any audio suffix, anywhere below the folder.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

from clara.audio.waveform import list_audio
from clara.data.manifest import Corpus, Row, read_table
from clara.errors import ClaraError

INFO = Corpus(
    "audiocaps",
    "captions MIT; audio of YouTube, not redistributable",
    "https://github.com/cdjkim/audiocaps",
    "caption",
    ("en",),
    "Kim et al. 2019, doi:10.18653/v1/N19-1011",
)
SPLITS = {"train": "train", "val": "valid", "test": "test"}
COLUMNS = ("audiocap_id", "youtube_id", "start_time", "caption")


def rows(folder: Path) -> Iterator[Row]:
    """One row a clip, with all its captions. Clips that are gone from YouTube are counted in one warning."""
    clips = {p.stem: p for p in list_audio(folder)}
    tables = {s: folder / f"{s}.csv" for s in SPLITS if (folder / f"{s}.csv").is_file()}
    if not tables:
        raise ClaraError(f"{folder}: none of train.csv, val.csv, test.csv of AudioCaps.")
    absent = 0
    for name, table in tables.items():
        captions: dict[tuple[str, str], list[dict[str, str]]] = {}
        for r in read_table(table, COLUMNS):
            captions.setdefault((r["youtube_id"], r["start_time"]), []).append(r)
        for (video, start), records in captions.items():
            path = next((clips[k] for k in (video, f"Y{video}", f"{video}_{start}") if k in clips), None)
            if path is None:
                absent += 1
                continue
            yield Row(
                str(path),
                INFO.name,
                SPLITS[name],
                text=tuple(r["caption"] for r in records),
                task="caption",
                original={"youtube_id": video, "start_time": start, "ids": [r["audiocap_id"] for r in records]},
            )
    if absent:
        warnings.warn(f"{absent} clips of AudioCaps are in its tables, but not below {folder}.", stacklevel=2)
