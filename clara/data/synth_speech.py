"""Languages with text but no recordings: words, labels and sentences of the language files, spoken by espeak-ng.

Voice, rate and pitch of a clip are drawn from (seed, language, text, take) alone; its samples differ by a fraction of a
millisecond with what espeak-ng spoke before, whose oscillators go on from where they stopped. What comes out is a
manifest like any other; a synthetic voice tells nothing of a speaker or a feeling, so its rows claim neither.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import soxr
from tqdm.auto import tqdm

from clara.audio.augment import add_noise
from clara.data.espeak import Manner, espeak
from clara.data.manifest import Row, row_from_dict, row_to_dict, write_manifest
from clara.data.parallel import run_jobs
from clara.errors import ClaraError, unknown
from clara.saving import whole_file
from clara.text.prompts import Term, fill, language_code, languages, load_language

KINDS = ("words", "labels", "sentences")
CORPUS = "espeak"


@dataclass(frozen=True)
class SpeechConfig:
    """Speech synthesised by espeak-ng."""

    languages: tuple[str, ...] = ()
    """Language codes; empty = every language file that espeak-ng has a voice for."""
    kinds: tuple[str, ...] = ("words",)
    """'words' (digits and commands, labelled), 'labels' (label names read aloud), 'sentences' (filled templates)."""
    only: tuple[str, ...] = ()
    """Keys of the words to speak; empty = all."""
    takes: int = 8
    """Clips per text, each with a voice, rate and pitch of its own."""
    rate: tuple[int, int] = (110, 220)
    """Range of the speaking rate, words per minute, 80 to 450."""
    pitch: tuple[int, int] = (20, 80)
    """Range of espeak-ng's pitch, 0 to 99."""
    range: tuple[int, int] = (30, 80)
    """Range of espeak-ng's pitch range, 0 to 99."""
    pause: tuple[float, float] = (0.05, 0.45)
    """Range of the pause before and after the speech, seconds, 0 to 10."""
    snr_db: tuple[float, float] = (15.0, 50.0)
    """Range of the distance of the noise floor below the speech, dB, -20 to 100."""
    sample_rate: int = 16000
    """Hz."""
    seed: int = 0
    """Seed of all draws."""
    workers: int = 1
    """Processes that synthesise."""

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                raise unknown("kind of text", kind, KINDS)
        if not self.kinds or min(self.takes, self.workers, self.sample_rate) < 1:
            raise ClaraError(f"{self}: expected at least one kind, take and worker.")
        bounds = (("rate", 80, 450), ("pitch", 0, 99), ("range", 0, 99), ("pause", 0, 10), ("snr_db", -20, 100))
        for name, least, most in bounds:
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise ClaraError(f"{name}={low, high}: expected two values from {least} to {most}, the lower first.")


@dataclass(frozen=True)
class Text:
    """What is read aloud, and the columns of its row."""

    spoken: str
    columns: dict[str, Any]


@dataclass(frozen=True)
class _Job:
    out: Path
    language: str
    config: SpeechConfig


def synthesise(out: str | Path, config: SpeechConfig = SpeechConfig()) -> dict[str, Any]:
    """Speak the texts into `OUT/LANGUAGE/*.flac` and write `OUT/manifest.jsonl`. Clips that are there are kept, so an
    interrupted call goes on where it stopped.

    Returns:
        "clips", "seconds", and "skipped": {language: texts that its voices cannot read}.

    Raises:
        ClaraError: espeak-ng is not installed, a language has no file or no voice, or nothing is left to speak.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    voiced = [code for code in languages() if espeak().voices_of(code)]
    chosen = [language_code(language) for language in config.languages] or voiced
    for code in chosen:
        if code not in voiced:
            raise unknown("language of espeak-ng", code, voiced)
    rows: dict[str, list[Row]] = {}
    skipped: dict[str, list[str]] = {}
    jobs = (_Job(out, code, config) for code in chosen)
    with tqdm(total=len(chosen), unit="language", desc=str(out), disable=None) as bar:
        for code, spoken, unread in run_jobs(_speak_language, jobs, config.workers):
            rows[code] = [row_from_dict(r, code) for r in spoken]
            skipped |= {code: unread} if unread else {}
            bar.update(1)
    ordered = [r for code in chosen for r in rows[code]]
    if not ordered:
        raise ClaraError(f"Nothing to speak: no text of {config.kinds} can be read by the voices of {chosen}.")
    write_manifest(out / "manifest.jsonl", ordered)
    return {"clips": len(ordered), "seconds": sum(r.seconds for r in ordered), "skipped": skipped}


def texts(language: str, config: SpeechConfig) -> list[Text]:
    """What is to be read in one language, without doubles. ClaraError: a key in `only` that is not a word."""
    lang = load_language(language)
    for key in config.only:
        if key not in lang.terms["word"]:
            raise unknown(f"word of {language!r}", key, lang.terms["word"])
    found: dict[str, Text] = {}
    if "words" in config.kinds:
        for key in config.only or lang.terms["word"]:
            for name in lang.terms["word"][key].names:
                found.setdefault(name, Text(name, {"task": "word", "label": key}))
    if "labels" in config.kinds:
        for task in ("emotion", "sound", "instrument", "voice"):
            for term in lang.terms[task].values():
                found.setdefault(term.names[0], _quoted(term.names[0], language))
    if "sentences" in config.kinds:
        lines = [t for t in lang.templates["emotion"] if ":" not in t and "：" not in t]
        for i, term in enumerate(lang.terms["emotion"].values()):
            line = fill(lines[i % len(lines)], term)
            found.setdefault(line, _quoted(line, language))
    return list(found.values())


def _quoted(spoken: str, language: str) -> Text:
    """A text that is read aloud: its caption says so, in its language and in English."""
    captions = []
    for code in dict.fromkeys((language, "en")):
        line = next(t for t in load_language(code).templates["word"] if t != "{}")
        captions.append(fill(line, Term((spoken,), {})))
    return Text(spoken, {"task": "language", "text": captions})


def _speak_language(job: _Job) -> tuple[str, list[dict[str, Any]], list[str]]:
    """The rows of one language, as plain values, and the texts left out."""
    folder, rows, skipped = job.out / job.language, [], []
    folder.mkdir(exist_ok=True)
    voices = espeak().voices_of(job.language)
    for text in texts(job.language, job.config):
        # a word that is read in English is not a word of this language
        readable = [v for v in voices if job.language == "en" or "(" not in espeak().phonemes(text.spoken, v)]
        if not readable:
            skipped.append(text.spoken)
            continue
        for take, (path, manner, rng) in enumerate(_takes(job, text, readable)):
            seconds = _speak_file(path, text.spoken, manner, job.config, rng)
            about = {"voice": manner.voice, "variant": manner.variant, "rate": manner.rate, "pitch": manner.pitch}
            row = Row(os.path.relpath(path), CORPUS, seconds=seconds, language=job.language, transcript=text.spoken)
            rows.append(row_to_dict(row) | text.columns | {"original": about | {"take": take, "synthetic": True}})
    return job.language, rows, skipped


def _takes(job: _Job, text: Text, voices: list[str]) -> Iterator[tuple[Path, Manner, np.random.Generator]]:
    """Files and manners of one text, and what draws the rest. A name is a digest of all that the sound depends on."""
    c = job.config
    for take in range(c.takes):
        seed = hashlib.sha256(f"{c.seed}|{job.language}|{text.spoken}|{take}".encode()).digest()
        rng = np.random.default_rng(list(seed))
        variants = espeak().variants()
        bounds = (c.rate, c.pitch, c.range)
        drawn = [int(rng.integers(low, high + 1)) for low, high in bounds]
        manner = Manner(voices[rng.integers(len(voices))], variants[rng.integers(len(variants))], *drawn)
        about = f"{text.spoken}|{manner}|{c.sample_rate}|{c.pause}|{c.snr_db}|{seed.hex()}"
        name = hashlib.sha256(about.encode()).hexdigest()[:16]
        yield job.out / job.language / f"{name}.flac", manner, rng


def _speak_file(path: Path, spoken: str, manner: Manner, config: SpeechConfig, rng: np.random.Generator) -> float:
    """Speak into a file that is not there yet; its length in seconds."""
    if not path.is_file():
        wave = soxr.resample(espeak().speak(spoken, manner), espeak().sample_rate, config.sample_rate)
        data = io.BytesIO()
        sf.write(data, as_recorded(wave, config, rng), config.sample_rate, format="FLAC", subtype="PCM_16")
        with whole_file(path) as part:
            part.write_bytes(data.getvalue())
    stored = sf.info(str(path))
    return round(stored.frames / stored.samplerate, 4)


def as_recorded(wave_T: np.ndarray, config: SpeechConfig, rng: np.random.Generator) -> np.ndarray:
    """Speech with a pause before and after it and a noise floor under all, as a microphone gives it: float32 (T',)."""
    before, after = (int(x * config.sample_rate) for x in rng.uniform(*config.pause, 2))
    loud = add_noise(np.pad(wave_T.astype(np.float32), (before, after)), rng.uniform(*config.snr_db), rng)
    return loud / max(1.0, float(np.abs(loud).max()))


def summary(skipped: dict[str, list[str]]) -> str:
    """One line on what could not be read: "ja 25, ga 2"."""
    return ", ".join(f"{code} {n}" for code, n in Counter({c: len(t) for c, t in skipped.items()}).most_common())
