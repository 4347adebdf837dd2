"""RAVDESS, official layout: `Actor_NN/MM-VV-EE-II-SS-RR-AA.wav`, speech and song. For scoring only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.manifest import Corpus, Row, find_files
from clara.errors import ClaraError

INFO = Corpus(
    "ravdess",
    "CC BY-NC-SA 4.0",
    "https://zenodo.org/record/1188976",
    "emotion",
    ("en",),
    "Livingstone and Russo 2018, doi:10.1371/journal.pone.0196391",
)
EMOTIONS = dict(enumerate(["neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise"], start=1))
VOICES = {1: "speech", 2: "song"}
INTENSITIES = {1: "normal", 2: "strong"}
STATEMENTS = {1: "Kids are talking by the door", 2: "Dogs are sitting by the door"}


def rows(folder: Path) -> Iterator[Row]:
    """Rows of all audio-only clips below `folder`."""
    for path in find_files(folder, "**/Actor_*/*.wav"):
        try:
            _, voice, emotion, intensity, statement, take, actor = map(int, path.stem.split("-"))
            known = VOICES[voice], EMOTIONS[emotion], INTENSITIES[intensity], STATEMENTS[statement]
        except (ValueError, KeyError) as e:
            raise ClaraError(f"{path}: expected seven numbers as in 03-01-05-02-01-01-12.wav.") from e
        yield Row(
            str(path),
            INFO.name,
            "test",
            language="en",
            emotion=known[1],
            task="emotion",
            speaker=f"{actor:02d}",
            gender="male" if actor % 2 else "female",
            transcript=known[3],
            original={"vocal_channel": known[0], "intensity": known[2], "repetition": take},
        )
