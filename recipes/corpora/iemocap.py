"""IEMOCAP: by request from sail.usc.edu/iemocap. Five sessions of one woman and one man each.

Layout: `Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav`, and in `Session1/dialog` the labels
(`EmoEvaluation/Ses01F_impro01.txt`) and words (`transcriptions/Ses01F_impro01.txt`). No split; folds are sessions.
Excitement, frustration, other and unknown have no key and stay in `original`; the four-class protocol of the literature
merges excitement into happiness.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from clara.data.corpora import emotion
from clara.data.manifest import Corpus, Row, find_files

INFO = Corpus(
    "iemocap",
    "by request, research only",
    "https://sail.usc.edu/iemocap",
    "emotion",
    ("en",),
    "Busso et al. 2008, doi:10.1007/s10579-008-9076-6",
    {"all": 10039},
)
EMOTIONS = {
    "ang": "anger",
    "dis": "disgust",
    "exc": "excitement",
    "fea": "fear",
    "fru": "frustration",
    "hap": "happiness",
    "neu": "neutral",
    "oth": "other",
    "sad": "sadness",
    "sur": "surprise",
    "xxx": "unknown",
}
LABEL = re.compile(r"^\[[\d.]+ - [\d.]+\]\t(\w+)\t(\w+)\t")
WORDS = re.compile(r"^(\w+) \[[\d.-]+\]:\s*(.*)$")


def rows(folder: Path) -> Iterator[Row]:
    """Rows of all labelled turns; `speaker` is session and gender, so Ses01F."""
    for table in find_files(folder, "Session*/dialog/EmoEvaluation/Ses*.txt"):
        session = table.parents[2]
        script = session / "dialog" / "transcriptions" / table.name
        lines = script.read_text(encoding="latin-1").splitlines() if script.is_file() else []
        words = dict(found.groups() for line in lines if (found := WORDS.match(line.strip())))
        for line in table.read_text(encoding="latin-1").splitlines():
            if not (found := LABEL.match(line)):
                continue
            turn, label = found.groups()
            gender = turn.rpartition("_")[2][0]
            said = emotion(label, EMOTIONS, f"{table}: {turn}")
            said["original"] = {**said.get("original", {}), "session": session.name}
            yield Row(
                str(session / "sentences" / "wav" / turn.rpartition("_")[0] / f"{turn}.wav"),
                INFO.name,
                "test",
                language="en",
                task="emotion",
                speaker=f"{turn[:5]}{gender}",
                gender={"F": "female", "M": "male"}[gender],
                transcript=words.get(turn),
                **said,
            )
