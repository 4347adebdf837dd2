"""Berlin EMO-DB, official layout: `wav/03a01Fa.wav`: speaker, sentence, emotion, version. For scoring only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.manifest import Corpus, Row, find_files
from clara.errors import ClaraError

INFO = Corpus(
    "emodb", "freely available", "http://emodb.bilderbar.info", "emotion", ("de",), "Burkhardt et al., Interspeech 2005"
)
EMOTIONS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "T": "sadness",
    "N": "neutral",
}
SPEAKERS = {
    "03": ("male", "31"),
    "08": ("female", "34"),
    "09": ("female", "21"),
    "10": ("male", "32"),
    "11": ("male", "26"),
    "12": ("male", "30"),
    "13": ("female", "32"),
    "14": ("female", "35"),
    "15": ("male", "25"),
    "16": ("female", "31"),
}
SENTENCES = {
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
}


def rows(folder: Path) -> Iterator[Row]:
    """Rows of `wav`."""
    for path in find_files(folder, "wav/*.wav"):
        speaker, sentence, emotion = path.stem[:2], path.stem[2:5], path.stem[5:6]
        if speaker not in SPEAKERS or sentence not in SENTENCES or emotion not in EMOTIONS:
            raise ClaraError(f"{path}: expected speaker, sentence, emotion and version as in 03a01Fa.wav.")
        gender, age = SPEAKERS[speaker]
        yield Row(
            str(path),
            INFO.name,
            "test",
            language="de",
            emotion=EMOTIONS[emotion],
            task="emotion",
            speaker=speaker,
            gender=gender,
            age=age,
            transcript=SENTENCES[sentence],
            original={"version": path.stem[6:]},
        )
