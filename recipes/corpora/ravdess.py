"""RAVDESS: zenodo.org/record/1188976, Audio_Speech_Actors_01-24.zip and Audio_Song_Actors_01-24.zip. For scoring only.

Layout: `Actor_NN/MM-VV-EE-II-SS-RR-AA.wav`: modality, voice, emotion, intensity, statement, repetition, actor. No
split.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.corpora import Names, named_rows
from clara.data.manifest import Corpus, Row

INFO = Corpus(
    "ravdess",
    "CC BY-NC-SA 4.0",
    "https://zenodo.org/record/1188976",
    "emotion",
    ("en",),
    "Livingstone and Russo 2018, doi:10.1371/journal.pone.0196391",
    {"vocal_channel=speech": 1440, "vocal_channel=song": 1012},
)
EMOTIONS = ("neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise")
FILES = Names(
    "**/Actor_*/*.wav",
    r"\d\d-(?P<vocal_channel>\d\d)-(?P<emotion>\d\d)-(?P<intensity>\d\d)-(?P<transcript>\d\d)-(?P<repetition>\d\d)"
    r"-(?P<actor>\d\d)",
    "03-01-05-02-01-01-12.wav: seven numbers",
    {
        "vocal_channel": {"01": "speech", "02": "song"},
        "emotion": {f"{i:02d}": e for i, e in enumerate(EMOTIONS, 1)},
        "intensity": {"01": "normal", "02": "strong"},
        "transcript": {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"},
        "repetition": {"01": 1, "02": 2},
        "actor": {f"{i:02d}": {"speaker": f"{i:02d}", "gender": ("female", "male")[i % 2]} for i in range(1, 25)},
    },
)


def rows(folder: Path) -> Iterator[Row]:
    """Rows of all audio-only clips below `folder`."""
    return named_rows(folder, INFO, FILES)
