"""EMNS, one British speaker telling stories: openslr.org/136, metadata.csv and cleaned_webm.tar.xz (or raw_webm).

Layout: `metadata.csv`, columns parted by `|`, whose `audio_recording` is a path such as wavs/x.webm; clips anywhere
below the folder, any suffix. No split. Excitement and sarcasm have no key and stay in `original`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.corpora import clip_paths, emotion, pick
from clara.data.manifest import Corpus, Row, read_table

INFO = Corpus(
    "emns",
    "Apache-2.0",
    "https://www.openslr.org/136",
    "emotion",
    ("en",),
    "Noriy et al. 2023, arXiv:2305.13137",
)
EMOTIONS = {
    "Angry": "anger",
    "Disgust": "disgust",
    "Excited": "excitement",
    "Happy": "happiness",
    "Neutral": "neutral",
    "Sad": "sadness",
    "Sarcastic": "sarcasm",
    "Surprised": "surprise",
}
COLUMNS = ("user_id", "utterance", "description", "emotion", "gender", "level", "audio_recording")


def rows(folder: Path) -> Iterator[Row]:
    """Rows in the order of the table; the published description of how a line is spoken is the text."""
    clips = clip_paths(folder)
    for r in read_table(folder / "metadata.csv", COLUMNS, delimiter="|"):
        said = emotion(r["emotion"].strip(), EMOTIONS, r["audio_recording"])
        said["original"] = {**said.get("original", {}), "level": r["level"]}
        yield Row(
            pick(clips, folder, Path(r["audio_recording"]).stem),
            INFO.name,
            "test",
            language="en",
            text=(r["description"].strip(),) if r["description"].strip() else (),
            task="emotion",
            speaker=r["user_id"],
            gender=r["gender"].strip().lower() or None,
            transcript=r["utterance"],
            **said,
        )
