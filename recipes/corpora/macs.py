"""MACS: captions of zenodo.org/record/5114771 for clips of TAU Urban Acoustic Scenes 2019, zenodo.org/record/2589280.

Layout: `MACS.yaml` (files: filename, annotations: annotator_id, sentence, tags) and the clips anywhere below the
folder. Two to five captions a clip. No split.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.config import load_yaml
from clara.data.corpora import clip_paths, pick
from clara.data.manifest import Corpus, Row
from clara.errors import ClaraError

INFO = Corpus(
    "macs",
    "captions non-commercial with attribution; audio Tampere University, non-commercial",
    "https://zenodo.org/record/5114771",
    "caption",
    ("en",),
    "Martin-Morato and Mesaros 2021, DCASE 2021",
    {"all": 3930},
    sources=("tau_urban_acoustic_scenes",),
)


def rows(folder: Path) -> Iterator[Row]:
    """Rows in the order of the file; `original.scene` is the scene and city in the clip's name."""
    clips = clip_paths(folder)
    for entry in load_yaml(folder / "MACS.yaml").get("files", ()):
        if "filename" not in entry or not entry.get("annotations"):
            raise ClaraError(f"{folder / 'MACS.yaml'}: expected filename and annotations, got {entry!r:.80}.")
        stem, notes = Path(entry["filename"]).stem, entry["annotations"]
        yield Row(
            pick(clips, folder, stem),
            INFO.name,
            text=tuple(str(a["sentence"]).strip() for a in notes),
            task="caption",
            original={"scene": stem.split("-")[0], "tags": sorted({t for a in notes for t in a.get("tags", ())})},
        )
