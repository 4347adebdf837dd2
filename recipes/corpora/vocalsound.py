"""VocalSound: github.com/YuanGongND/vocalsound, vs_release_16k.zip or vs_release_44k.zip.

Layout: `audio_16k/f0003_0_cough.wav` (or audio_44k): gender and speaker, recording, class; `meta/te_meta.json` and
tr_meta, val_meta: rows of speaker, gender, age, country, native language, health. The official split is by speaker.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from clara.data.corpora import Names, named_rows
from clara.data.manifest import Corpus, Row
from clara.errors import ClaraError

INFO = Corpus(
    "vocalsound",
    "CC BY-SA 4.0",
    "https://github.com/YuanGongND/vocalsound",
    "sound",
    (),
    "Gong et al. 2022, arXiv:2205.03433",
    {"train": 15570, "valid": 1860, "test": 3594},
)
FILES = Names(
    "audio_*/*.wav",
    r"(?P<person>(?P<gender>[mf])\d+)_\d+_(?P<label>[a-z]+)",
    "f0003_0_cough.wav: speaker, recording, class",
    {
        "gender": {"f": "female", "m": "male"},
        "label": {
            "laughter": "laughing",
            "sigh": "sighing",
            "cough": "coughing",
            "throatclearing": "throat clearing",
            "sneeze": "sneezing",
            "sniff": "sniffing",
        },
    },
)
SPLITS = {"tr": "train", "val": "valid", "te": "test"}


def rows(folder: Path) -> Iterator[Row]:
    """Rows of all clips; where both sample rates are there, those at 44.1 kHz too."""
    people = {}
    for name, split in SPLITS.items():
        path = folder / "meta" / f"{name}_meta.json"
        if not path.is_file():
            raise ClaraError(f"{path} is missing: the official split by speaker stands in it.")
        for speaker, _, age, *_ in json.loads(path.read_text(encoding="utf-8")):
            people[str(speaker)] = {"speaker": str(speaker), "age": str(age), "split": split}
    return named_rows(folder, INFO, FILES, {"person": people})
