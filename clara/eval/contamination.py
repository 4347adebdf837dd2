"""Has a checkpoint heard the corpus it is evaluated on? Its card's training corpora against one small table.

`seen`: the corpus, or a part of it, is among the training corpora. `same-source`: its recordings come from where
training recordings came from (AudioCaps is cut from AudioSet; ESC-50 from Freesound). `unseen`: neither, by the card.
`unknown`: the card does not say what it was trained on, or the table does not know the corpus. Only an unseen result is
called zero-shot.

Folds: where the card's `touches` names the folds that were trained on ("folds 1 to 4") and all clips evaluated are of
others, the result is `same-source`: ESC-50 and UrbanSound8K keep all clips of one recording in one fold, so none was
heard, but they were collected and labelled together. A split of a corpus by speakers stays `seen`: its sentences, room
and microphone were heard.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from clara.zoo.lineage import statement

FOLD = re.compile(r"fold\d+")
NOT_FOLDS = re.compile(r"\b(?:but|except|without|not|no|never|other than|left out|held out|excluding)\b", re.IGNORECASE)
STATUSES = ("unseen", "same-source", "unknown", "seen")  # from best to worst
CLAIMS = {
    "unseen": "zero-shot",
    "same-source": "same source as training data",
    "unknown": "training data not known",
    "seen": "seen in training",
}
# corpus -> how cards spell it (a regular expression), for corpora that can be evaluated or trained on
SPELT = {
    "animals": "Animal-sound-recognition",
    "arabic_speech_commands": "Arabic Speech Commands",
    "ased": "ASED",
    "audiocaps": "AudioCaps",
    "audioset": "AudioSet",
    "audiosetcaps": "AudioSetCaps",
    "auto_acd": "Auto-?ACD",
    "baved": "BAVED",
    "bengali_digits": "Bengali (?:spoken )?digits",
    "cafe": "CaFE",
    "cc_sounds": "CC-Sounds|CDDA-Soundpacks",
    "clotho": "Clotho",
    "common_voice": "Common ?Voice",
    "crema_d": "CREMA-?D",
    "crema_d_subset": "CREMA-?D",
    "crema_d_more": "CREMA-?D",
    "eyase": "EYASE",
    "donateacry": "donate-?a-?cry[- ]?corpus|donateacry",
    "emns": "EMNS",
    "emodb": "EMO-?DB",
    "emospeech_in": "emospeech-dataset-v1",
    "emov_db": "EmoV-?DB",
    "emovo": "EMOVO",
    "english_words": "FSDD, Speech Commands and custom",
    "esc10": "ESC-?10",
    "esc50": "ESC-?50",
    "esd": "ESD",
    "fleurs": "FLEURS",
    "freesound": "Freesound",
    "fsd50k": "FSD-?50k",
    "fsdd": "FSDD",
    "iemocap": "IEMOCAP",
    "korean_emotional": "emotiontts_open_db",
    "ktuberling_words": "KTuberling",
    "laion_630k": "LAION-Audio-630K",
    "lithuanian_words": "lt_speech_commands|Lithuanian words",
    "macs": "MACS",
    "mandarin_words": "audio-cmn",
    "meld": "MELD",
    "msp_podcast": "MSP-?Podcast",
    "mswc": "MSWC",
    "musiccaps": "MusicCaps",
    "nemo": "nEMO",
    "philharmonia": "Philharmonia",
    "ravdess": "RAVDESS",
    "read_speech": "Yoruba and Swahili read speech",
    "savee": "SAVEE",
    "shemo": "ShEMO",
    "sound_effects": "OpenSFX",
    "sound_vecaps": "Sound-?VECaps",
    "speech_commands": "(?<!Arabic )Speech Commands",
    "subesco": "SUBESCO",
    "tess": "TESS",
    "turev_db": "TurEV-?DB",
    "ukrainian_digits": "Ukrainian (?:spoken )?digits",
    "urbansound8k": "UrbanSound-?8k|US8K",
    "urdu": "URDU-Dataset",
    "vggsound": "VGG-?Sound",
    "vocalsound": "VocalSound",
    "wavcaps": "WavCaps",
    "wavtext5k": "WavText-?5k",
}
# corpus -> where its recordings come from
SOURCES = {
    "animals": ("esc50",),  # upstream it holds clips of ESC-50; those with other names cannot be told
    "audiocaps": ("audioset",),
    "audioset": ("youtube",),
    "audiosetcaps": ("audioset", "vggsound"),
    "auto_acd": ("audioset", "vggsound"),
    "cc_sounds": ("freesound",),
    "clotho": ("freesound",),
    "crema_d_subset": ("crema_d",),
    "crema_d_more": ("crema_d",),
    "english_words": ("fsdd", "speech_commands"),
    "esc10": ("esc50",),
    "esc50": ("freesound",),
    "fsd50k": ("freesound",),
    "laion_630k": ("freesound", "bbc"),
    "macs": ("tau_urban_acoustic_scenes",),
    "mswc": ("common_voice",),
    "musiccaps": ("audioset",),
    "sound_vecaps": ("audioset",),
    "urbansound8k": ("freesound",),
    "vggsound": ("youtube",),
    "wavcaps": ("freesound", "audioset", "bbc", "soundbible"),
    "wavtext5k": ("soundbible", "bigsoundbank"),
}
UNSTATED = re.compile(r"not retrieved|not published", re.IGNORECASE)
LEFT_OUT = re.compile(r"not named|not in training|on a blacklist|its clips were removed|held out", re.IGNORECASE)


@dataclass(frozen=True)
class Training:
    """What a card says of training: its corpora by their names there, and `touches`: benchmark -> how it is touched."""

    names: tuple[str, ...]
    touches: Mapping[str, str]


@dataclass(frozen=True)
class Verdict:
    """A status, and why."""

    status: str
    because: str


def training_of(name: str) -> Training | None:
    """The training corpora that the card of a checkpoint states (`clara.zoo.lineage`); None where it states none."""
    said = statement(name)
    return Training(tuple(c.name for c in said.corpora), said.touches) if said and said.corpora else None


def judge(corpus: str, training: Training | None, parts: Iterable[str | None] = ()) -> Verdict:
    """The verdict on one corpus, as `Row.corpus` names it, or on some `parts` of it: `Row.speaker` of the clips, which
    holds the fold where there are folds."""
    if training is None:
        return Verdict("unknown", "the checkpoint has no card that states its training corpora")
    if corpus in training.names:  # as clips name it: whatever a note says of folds, this training had its own
        return Verdict("seen", f"trained on {corpus}")
    if corpus not in SPELT:
        return Verdict("unknown", f"{corpus!r} is not in the table of corpora")
    note = next((f"{k}: {v}" for k, v in training.touches.items() if _names(corpus, k)), "")
    if _heard(corpus, training):
        taught, folds = folds_of(note), set(parts)
        if taught and folds and all(part and FOLD.fullmatch(part) and part not in taught for part in folds):
            return Verdict("same-source", f"{', '.join(sorted(folds))} of the same corpus; {note}")
        return Verdict("seen", note or next(f"trained on {name}" for name in training.names if _names(corpus, name)))
    shared = sorted(_origins(corpus) & set().union(*(_origins(c) for c in SPELT if _heard(c, training))))
    if shared:
        return Verdict("same-source", f"training holds {', '.join(shared)}" + (f"; {note}" if note else ""))
    vague = next((text for text in (note, *training.names) if UNSTATED.search(text)), "")
    if vague:
        return Verdict("unknown", f"the card says: {vague}")
    return Verdict("unseen", note or "not among the training corpora of the card")


def folds_of(text: str) -> set[str]:
    """The folds that a note says were trained on, as `Row.speaker` spells them: "folds 1 to 3", "folds 1, 2 and 4",
    "fold 5". None where it also says which were not ("all but fold 5"): that is not read."""
    out: set[str] = set()
    if NOT_FOLDS.search(text):
        return out
    for found in re.findall(r"\bfolds? ((?:\d+(?:, | and | to |[–-])?)+)", text, re.IGNORECASE):
        for first, last in re.findall(r"(\d+)(?:(?: to |[–-])(\d+))?", found):
            out |= {f"fold{i}" for i in range(int(first), int(last or first) + 1)}
    return out


def _heard(corpus: str, training: Training) -> bool:
    """Is the corpus among the training corpora, or does a note on it say so, and not that it was left out?"""
    if any(_names(corpus, name) for name in training.names):
        return True
    notes = [v for k, v in training.touches.items() if _names(corpus, k)]
    return any(not LEFT_OUT.match(v) and not UNSTATED.search(v) for v in notes)


def _names(corpus: str, text: str) -> bool:
    spelt = f"{SPELT[corpus]}|{re.escape(corpus)}"
    return re.search(rf"(?<![A-Za-z0-9])(?:{spelt})(?![A-Za-z0-9])", text, re.IGNORECASE) is not None


def _origins(corpus: str) -> set[str]:
    return {corpus}.union(*map(_origins, SOURCES.get(corpus, ())))


def contamination(
    corpora: Iterable[str] | Mapping[str, Iterable[str | None]], training: Training | None, taught: str | None = None
) -> dict[str, Any]:
    """What stands in a result: {"status": the worst, "claim": its words, "corpora": {name: {"status", "because"}}}.

    Args:
        corpora: names, or name -> the `parts` evaluated.
        taught: how labelled clips of the corpus taught the classes (few-shot, probe), which makes no result zero-shot.
    """
    parts = corpora if isinstance(corpora, Mapping) else dict.fromkeys(corpora, ())
    verdicts = {name: judge(name, training, parts[name]) for name in sorted(parts)}
    worst = max((v.status for v in verdicts.values()), key=STATUSES.index, default="unknown")
    found = {name: {"status": v.status, "because": v.because} for name, v in verdicts.items()}
    claim = f"unseen by the encoder, {taught}" if taught and worst == "unseen" else CLAIMS[worst]
    return {"status": worst, "claim": claim, "corpora": found}
