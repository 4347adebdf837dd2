"""TESS, official layout: `.../OAF_back_angry.wav`, the speaker's age group, word and emotion. For scoring only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.manifest import Corpus, Row, find_files
from clara.errors import ClaraError

INFO = Corpus(
    "tess",
    "CC BY-NC-ND 4.0",
    "https://doi.org/10.5683/SP2/E8H2MF",
    "emotion",
    ("en",),
    "Pichora-Fuller and Dupuis 2020",
)
EMOTIONS = {
    "angry": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happiness",
    "neutral": "neutral",
    "ps": "surprise",
    "sad": "sadness",
}
SPEAKERS = {"OAF": ("OAF", "64"), "OA": ("OAF", "64"), "YAF": ("YAF", "26")}  # OA_bite_neutral.wav is spelt so upstream


def rows(folder: Path) -> Iterator[Row]:
    """Rows of all clips below `folder`, whatever its subfolders are called."""
    for path in find_files(folder, "**/*.wav"):
        try:
            who, word, emotion = path.stem.split("_")
            (speaker, age), key = SPEAKERS[who], EMOTIONS[emotion.lower()]
        except (ValueError, KeyError) as e:
            raise ClaraError(f"{path}: expected SPEAKER_word_emotion.wav as in OAF_back_angry.wav.") from e
        yield Row(
            str(path),
            INFO.name,
            "test",
            language="en",
            emotion=key,
            task="emotion",
            speaker=speaker,
            gender="female",
            age=age,
            transcript=f"Say the word {word}",
        )
