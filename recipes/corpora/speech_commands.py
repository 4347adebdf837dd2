"""Speech Commands v0.02, official layout: `WORD/SPEAKER_nohash_N.wav`, `validation_list.txt`, `testing_list.txt`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.manifest import Corpus, Row, find_files
from clara.errors import ClaraError

INFO = Corpus(
    "speech_commands",
    "CC BY 4.0",
    "https://www.tensorflow.org/datasets/catalog/speech_commands",
    "word",
    ("en",),
    "Warden 2018, arXiv:1804.03209",
)
LISTS = {"validation_list.txt": "valid", "testing_list.txt": "test"}


def rows(folder: Path) -> Iterator[Row]:
    """Rows of all words, split by the official lists; `_background_noise_` is left out."""
    splits: dict[str, str] = {}
    for name, split in LISTS.items():
        if not (folder / name).is_file():
            raise ClaraError(f"{folder}: no {name}; without it speakers would be in more than one split.")
        splits |= dict.fromkeys((folder / name).read_text(encoding="utf-8").split(), split)
    for path in find_files(folder, "[!_]*/*_nohash_*.wav"):
        word = path.parent.name
        yield Row(
            str(path),
            INFO.name,
            splits.get(f"{word}/{path.name}", "train"),
            language="en",
            label=word,
            task="word",
            speaker=path.stem.partition("_")[0],
            transcript=word,
        )
