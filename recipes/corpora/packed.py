"""Packed sets: a folder with `audio.tar` and `manifest.csv`, or a folder of such folders. One row of INFOS a set.

The columns of manifest.csv are COLUMNS; an empty cell is unknown. Clips are read from audio.tar where they lie.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clara.data.manifest import Corpus, Row, read_table
from clara.errors import ClaraError, unknown

COLUMNS = (
    "file",
    "seconds",
    "split",
    "language",
    "speaker",
    "gender",
    "age",
    "emotion",
    "label",
    "transcript",
    "caption",
)
GITHUB, HUB = "https://github.com", "https://huggingface.co/datasets"
NC_SA = "CC BY-NC-SA 4.0"
INFO = Corpus("packed", "see each set", "a folder with audio.tar and manifest.csv", "caption")
INFOS = {
    c.name: c
    for c in (
        Corpus("nemo", NC_SA, f"{HUB}/amu-cai/nEMO", "emotion", ("pl",), "Christop 2024, arXiv:2404.06292"),
        Corpus("emospeech_in", NC_SA, f"{HUB}/RakshakTeam/emospeech-dataset-v1", "word", ("en", "hi")),
        Corpus("korean_emotional", f"{NC_SA}, research", f"{GITHUB}/emotiontts/emotiontts_open_db", "emotion", ("ko",)),
        Corpus("ased", "none stated", f"{GITHUB}/Ethio2021/ASED_V1", "emotion", ("am",), "Retta et al. 2022"),
        Corpus(
            "baved",
            "none stated, free for research",
            f"{GITHUB}/40uf411/Basic-Arabic-Vocal-Emotions-Dataset",
            "arousal",
            ("ar",),
        ),
        Corpus("emodb", "freely available", "http://emodb.bilderbar.info", "emotion", ("de",), "Burkhardt et al. 2005"),
        Corpus("esc50", "CC BY-NC 3.0", f"{GITHUB}/karolpiczak/ESC-50", "sound", (), "Piczak 2015"),
        Corpus(
            "sound_effects",
            "CC BY-SA 3.0, CC0, CC BY 4.0, per-mod CC, CC BY/CC0 (by source)",
            "OpenSFX, Sonic Pi, OpenSoundEffects, Minetest, MAX",
            "caption",
        ),
        Corpus("donateacry", "ODbL 1.0", f"{GITHUB}/gveres/donateacry-corpus", "sound"),
        Corpus(
            "philharmonia",
            "CC BY-SA 3.0, not to be passed on as samples",
            f"{GITHUB}/skratchdot/philharmonia-samples",
            "instrument",
        ),
        Corpus(
            "arabic_speech_commands",
            "CC BY 4.0",
            f"{GITHUB}/abdulkaderghandoura/arabic-speech-commands-dataset",
            "word",
            ("ar",),
        ),
        Corpus(
            "english_words",
            "CC BY-SA 4.0 (FSDD), CC BY 4.0 (others)",
            "FSDD, Speech Commands, custom commands",
            "word",
            ("en",),
        ),
        Corpus("mandarin_words", "CC BY-SA", f"{GITHUB}/hugolpz/audio-cmn", "word", ("zh",)),
        Corpus(
            "lithuanian_words",
            "none; made for academic research",
            f"{GITHUB}/kolesov93/lt_speech_commands",
            "word",
            ("lt",),
        ),
        Corpus(
            "read_speech",
            "MIT",
            f"{GITHUB}/ogunlao/yoruba_speech_project, {GITHUB}/CateGitau/Swahili-Speech",
            "language",
            ("yo", "sw"),
        ),
    )
}
# Labels that are no class: a sentence or source id, a style, the rest class. They stay in `original`.
NOT_CLASSES = {"ased", "korean_emotional", "sound_effects"}
NO_LABELS = {("emospeech_in", "unknown"), ("emospeech_in", "background")}
# The packed manifest has these two the wrong way round: its sentences of mourning are labelled anger and are the quiet,
# low and slow ones, its reproaches sadness. The label as found stays in `original`.
EXCHANGED = {"korean_emotional": {"anger": "sadness", "sadness": "anger"}}


def rows(folder: Path) -> Iterator[Row]:
    """Rows of one packed set, or of every packed set in `folder`, in the order of their manifests."""
    folder = Path(folder).resolve()
    sets = [folder] if (folder / "manifest.csv").is_file() else sorted(p.parent for p in folder.glob("*/manifest.csv"))
    if not sets:
        raise ClaraError(f"{folder}: no manifest.csv here or one level below; expected packed sets.")
    for one in sets:
        if one.name not in INFOS:
            raise unknown("packed set (add its licence to INFOS of packed.py)", one.name, INFOS)
        if not (one / "audio.tar").is_file():
            raise ClaraError(f"{one}: manifest.csv without audio.tar.")
        for record in read_table(one / "manifest.csv", COLUMNS):
            yield packed_row(one, INFOS[one.name], record)


def packed_row(folder: Path, info: Corpus, record: dict[str, str]) -> Row:
    """One line of a manifest.csv as a Row."""
    cell = {k: v.strip() or None for k, v in record.items()}
    label, original = cell["label"], {"file": record["file"]}
    if label and (info.name in NOT_CLASSES or (info.name, label) in NO_LABELS):
        original["label"], label = label, None
    emotion = EXCHANGED.get(info.name, {}).get(cell["emotion"] or "", cell["emotion"])
    if emotion != cell["emotion"]:
        original["emotion"] = cell["emotion"]
    if info.task == "arousal" and label:
        label = label.removesuffix(" arousal")
    return Row(
        audio=f"{folder / 'audio.tar'}::{record['file']}",
        corpus=info.name,
        split=cell["split"] or "train",
        seconds=float(record["seconds"]),
        language=cell["language"],
        text=caption_texts(info.name, label, cell["caption"]),
        emotion=emotion,
        label=label,
        task=info.task,
        speaker=cell["speaker"],
        gender=cell["gender"],
        age=cell["age"],
        transcript=cell["transcript"],
        license=info.license,
        original=original,
    )


def caption_texts(corpus: str, label: str | None, caption: str | None) -> tuple[str, ...]:
    """The caption column as texts: names of sound effects cleaned, an instrument's technique behind its name."""
    if not caption:
        return ()
    if corpus == "philharmonia":
        return (f"{label}, {caption.removesuffix(' normal')}",)
    for prefix in ("default ", "static ", "toyland: "):
        caption = caption.removeprefix(prefix)
    return (caption.replace("/", " or "),)
