"""VGGSound: robots.ox.ac.uk/~vgg/data/vggsound; clips of YouTube. 309 classes, one a clip.

Layout: `vggsound.csv` without a header: YouTube id, start in seconds, label, train or test; clips named ID_START, START
in six digits (000030) or not, or ID, anywhere below. Labels are the corpus' own words.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.corpora import clip_paths, pick
from clara.data.manifest import Corpus, Row, read_table

INFO = Corpus(
    "vggsound",
    "list CC BY 4.0; audio of YouTube, not redistributable",
    "https://www.robots.ox.ac.uk/~vgg/data/vggsound",
    "sound",
    (),
    "Chen et al. 2020, arXiv:2004.14368",
    partial=True,
    sources=("youtube",),
)


def rows(folder: Path) -> Iterator[Row]:
    """Rows in the order of the table."""
    clips = clip_paths(folder)
    for r in read_table(folder / "vggsound.csv", ("id", "start", "label", "split"), header=False):
        start = int(r["start"])
        yield Row(
            pick(clips, folder, f"{r['id']}_{start:06d}", f"{r['id']}_{start}", r["id"]),
            INFO.name,
            r["split"],
            label=r["label"],
            task="sound",
        )
