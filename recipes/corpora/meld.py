"""MELD, dialogues of the series Friends: github.com/declare-lab/MELD, MELD.Raw.tar.gz.

Layout: `train_sent_emo.csv`, `dev_sent_emo.csv`, `test_sent_emo.csv` and clips `dia0_utt0.mp4` in train_splits,
dev_splits_complete and output_repeated_splits_test, anywhere below the folder; .wav made of them by the same name will
do.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.corpora import clip_paths, emotion, pick
from clara.data.manifest import Corpus, Row, find_files, read_table
from clara.errors import ClaraError

INFO = Corpus(
    "meld",
    "GPL-3.0 (annotations); audio of a television series",
    "https://github.com/declare-lab/MELD",
    "emotion",
    ("en",),
    "Poria et al. 2019, doi:10.18653/v1/P19-1050",
    {"train": 9989, "valid": 1109, "test": 2610},
    partial=True,  # a few clips of the release are broken or absent
)
SPLITS = {"train": ("train", "train_splits"), "dev": ("valid", "dev_splits_complete")}
SPLITS["test"] = ("test", "output_repeated_splits_test")
EMOTIONS = {e: e for e in ("anger", "disgust", "fear", "neutral", "sadness", "surprise")} | {"joy": "happiness"}
COLUMNS = ("Utterance", "Speaker", "Emotion", "Dialogue_ID", "Utterance_ID")


def rows(folder: Path) -> Iterator[Row]:
    """Rows in the order of the tables that are there."""
    tables = {p.name.partition("_")[0]: p for p in find_files(folder, "**/*_sent_emo.csv")}
    for name, (split, clips) in SPLITS.items():
        if name not in tables:
            continue
        places = [p for p in folder.rglob(clips) if p.is_dir()]
        if not places:
            raise ClaraError(f"{folder}: {tables[name].name} without the folder {clips}.")
        found = clip_paths(places[0])
        for r in read_table(tables[name], COLUMNS):
            yield Row(
                pick(found, places[0], f"dia{r['Dialogue_ID']}_utt{r['Utterance_ID']}"),
                INFO.name,
                split,
                language="en",
                task="emotion",
                speaker=r["Speaker"],
                transcript=r["Utterance"],
                **emotion(r["Emotion"], EMOTIONS, tables[name]),
            )
