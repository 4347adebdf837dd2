"""Berlin EMO-DB: emodb.bilderbar.info, download.zip. For scoring only.

Layout: `wav/03a01Fa.wav`: speaker, sentence, emotion, version. No split.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.corpora import Names, named_rows
from clara.data.manifest import Corpus, Row

INFO = Corpus(
    "emodb",
    "freely available",
    "http://emodb.bilderbar.info",
    "emotion",
    ("de",),
    "Burkhardt et al., Interspeech 2005",
    {"all": 535},
)
MEN = {"03": 31, "10": 32, "11": 26, "12": 30, "15": 25}
WOMEN = {"08": 34, "09": 21, "13": 32, "14": 35, "16": 31}
FILES = Names(
    "wav/*.wav",
    r"(?P<person>\d\d)(?P<transcript>[ab]\d\d)(?P<emotion>[A-Z])(?P<version>[a-z]?)",
    "03a01Fa.wav: speaker, sentence, emotion and version",
    {
        "person": {
            code: {"speaker": code, "gender": gender, "age": str(age)}
            for gender, ages in (("male", MEN), ("female", WOMEN))
            for code, age in ages.items()
        },
        "emotion": {
            "W": "anger",
            "L": "boredom",
            "E": "disgust",
            "A": "fear",
            "F": "happiness",
            "T": "sadness",
            "N": "neutral",
        },
        "transcript": {
            "a01": "Der Lappen liegt auf dem Eisschrank.",
            "a02": "Das will sie am Mittwoch abgeben.",
            "a04": "Heute abend könnte ich es ihm sagen.",
            "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
            "a07": "In sieben Stunden wird es soweit sein.",
            "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
            "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
            "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
            "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
            "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
        },
    },
)


def rows(folder: Path) -> Iterator[Row]:
    """Rows of `wav`."""
    return named_rows(folder, INFO, FILES)
