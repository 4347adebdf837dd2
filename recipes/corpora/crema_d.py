"""CREMA-D: github.com/CheyneyComputerScience/CREMA-D (git lfs). For scoring only.

Layout: `AudioWAV/1001_DFA_ANG_XX.wav`: actor, sentence, emotion, level; `VideoDemographics.csv`. No split.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.corpora import Names, named_rows
from clara.data.manifest import Corpus, Row, read_table

INFO = Corpus(
    "crema_d",
    "ODbL 1.0",
    "https://github.com/CheyneyComputerScience/CREMA-D",
    "emotion",
    ("en",),
    "Cao et al. 2014, doi:10.1109/TAFFC.2014.2336244",
    {"all": 7442},
)
FILES = Names(
    "AudioWAV/*.wav",
    r"(?P<actor>\d+)_(?P<transcript>[A-Z]+)_(?P<emotion>[A-Z]+)_(?P<level>[A-Z]+)",
    "1001_DFA_ANG_XX.wav: ACTOR_SENTENCE_EMOTION_LEVEL",
    {
        "emotion": {
            "ANG": "anger",
            "DIS": "disgust",
            "FEA": "fear",
            "HAP": "happiness",
            "NEU": "neutral",
            "SAD": "sadness",
        },
        "level": {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified", "X": "unspecified"},
        "transcript": {
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
        },
    },
)


def rows(folder: Path) -> Iterator[Row]:
    """Rows of `AudioWAV`; emotion is the one acted."""
    people = {
        r["ActorID"]: {"speaker": r["ActorID"], "gender": r["Sex"].strip().lower(), "age": r["Age"].strip()}
        for r in read_table(folder / "VideoDemographics.csv", ("ActorID", "Age", "Sex"))
    }
    return named_rows(folder, INFO, FILES, {"actor": people})
