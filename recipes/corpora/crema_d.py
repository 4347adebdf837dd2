"""CREMA-D, official layout: `AudioWAV/1001_DFA_ANG_XX.wav`, `VideoDemographics.csv`. For scoring only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.manifest import Corpus, Row, find_files, read_table
from clara.errors import ClaraError

INFO = Corpus(
    "crema_d",
    "ODbL 1.0",
    "https://github.com/CheyneyComputerScience/CREMA-D",
    "emotion",
    ("en",),
    "Cao et al. 2014, doi:10.1109/TAFFC.2014.2336244",
)
EMOTIONS = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happiness",
    "NEU": "neutral",
    "SAD": "sadness",
}
LEVELS = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified", "X": "unspecified"}
SENTENCES = {
    "IEO": "It's eleven o'clock",
    "TIE": "That is exactly what happened",
    "IOM": "I'm on my way to the meeting",
    "IWW": "I wonder what this is about",
    "TAI": "The airplane is almost full",
    "MTI": "Maybe tomorrow it will be cold",
    "IWL": "I would like a new alarm clock",
    "ITH": "I think I have a doctor's appointment",
    "DFA": "Don't forget a jacket",
    "ITS": "I think I've seen this before",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}


def rows(folder: Path) -> Iterator[Row]:
    """Rows of `AudioWAV`; emotion is the one acted."""
    people = {r["ActorID"]: r for r in read_table(folder / "VideoDemographics.csv", ("ActorID", "Age", "Sex"))}
    for path in find_files(folder, "AudioWAV/*.wav"):
        try:
            actor, sentence, emotion, level = path.stem.split("_")
            who, key, words, how = people[actor], EMOTIONS[emotion], SENTENCES[sentence], LEVELS[level]
        except (ValueError, KeyError) as e:
            raise ClaraError(f"{path}: expected ACTOR_SENTENCE_EMOTION_LEVEL.wav of known codes, no {e}.") from e
        yield Row(
            str(path),
            INFO.name,
            "test",
            language="en",
            emotion=key,
            task="emotion",
            speaker=actor,
            gender=who["Sex"].strip().lower(),
            age=who["Age"].strip(),
            transcript=words,
            original={"level": how},
        )
