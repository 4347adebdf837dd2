"""Speech Commands v0.01 and v0.02: download.tensorflow.org/data/speech_commands_v0.02.tar.gz.

Layout: `WORD/SPEAKER_nohash_N.wav`, `validation_list.txt`, `testing_list.txt` (the official split). The version is seen
by the words: v0.02 alone has forward, backward, follow, learn and visual.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from clara.data.corpora import Names, named_rows
from clara.data.manifest import Corpus, Row
from clara.errors import ClaraError

INFO = Corpus(
    "speech_commands",
    "CC BY 4.0",
    "https://www.tensorflow.org/datasets/catalog/speech_commands",
    "word",
    ("en",),
    "Warden 2018, arXiv:1804.03209",
    {"version=v0.01": 64721, "version=v0.02": 105829},
)
FILES = Names(
    "[!_]*/*_nohash_*.wav",  # not _background_noise_
    r"(?P<label>[a-z]+)/(?P<speaker>[0-9a-z]+)_nohash_\d+",
    "yes/0a7c2a8d_nohash_0.wav: word, speaker, number",
)
LISTS = {"validation_list.txt": "valid", "testing_list.txt": "test"}


def rows(folder: Path) -> Iterator[Row]:
    """Rows of all words, split by the official lists."""
    splits: dict[str, str] = {}
    for name, split in LISTS.items():
        if not (folder / name).is_file():
            raise ClaraError(f"{folder}: no {name}; without it speakers would be in more than one split.")
        splits |= dict.fromkeys((folder / name).read_text(encoding="utf-8").split(), split)
    version = {"version": "v0.02" if (folder / "forward").is_dir() else "v0.01"}
    for row in named_rows(folder, INFO, FILES, split="train", original=version):
        split = splits.get(Path(row.audio).relative_to(folder).as_posix(), "train")
        yield replace(row, split=split, transcript=row.label)
