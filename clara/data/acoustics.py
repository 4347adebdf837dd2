"""What is measured of the voices of a corpus -> words that are clearly true of them ("low", "quiet", "slow").

A word is given where a clip lies in an outer quantile of its speaker's clips, or its corpus', and far enough from
their middle to be heard; in between nothing is said, and captions that claim it are undecided (clara.text.captions).
They are kept with the numbers in a row's `original.acoustics`, and spoken in every language by the task `voice`.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clara.audio import acoustics
from clara.audio.waveform import read
from clara.data.annotate import read_rows, work_through, write_rows
from clara.data.manifest import Row, split_audio
from clara.data.shards import read_member
from clara.errors import ClaraError

SECONDS = 30.0  # of a clip are measured
CHUNK = 32
SPEECH = ("emotion", "word", "language", "speaker", "arousal")
OF_THE_TEXT = ("effort_db", "rate", "brightness_db", "pitch_range")
LOWEST_HIGH_HZ, HIGHEST_LOW_HZ = 160.0, 190.0  # nobody calls a voice high below, or low above
Measured = dict[str, Any]


@dataclass(frozen=True)
class Scale:
    """One measure and the words for its ends. `of_speaker`: compared with the speaker's other clips, where there are
    enough; `least`: distance from their median that can be heard."""

    measure: str
    low: str | None
    high: str | None
    of_speaker: bool
    least: float


# A raised voice and haste are heard against a person's own; that a voice is high or bright, against other people's.
SCALES = (
    Scale("semitones", "low", "high", False, 2.0),
    Scale("effort_db", "quiet", "loud", True, 0.7),
    Scale("rate", "slow", "fast", True, 0.5),
    Scale("brightness_db", "dark", "bright", False, 1.5),
    Scale("pitch_range", "monotonous", "lively", False, 0.5),
    Scale("jitter", None, "trembling", False, 0.08),
)


@dataclass(frozen=True)
class AcousticConfig:
    """How measured voices are put into words."""

    outer: float = 0.2
    """Share of clips at each end of a scale that may get a word, above 0 and below 0.5."""
    least_clips: int = 20
    """A speaker or corpus with fewer clips does not define what is usual; at least 2."""
    workers: int = 1
    """Processes that measure clips."""

    def __post_init__(self) -> None:
        if not 0.0 < self.outer < 0.5 or self.least_clips < 2 or self.workers < 1:
            raise ClaraError(f"{self}: expected 0 < outer < 0.5, at least 2 clips and 1 worker.")


def annotate(source: str | Path, out: str | Path, config: AcousticConfig = AcousticConfig()) -> dict[str, int]:
    """Measure the voices of a manifest (.jsonl) or a folder of shards and write it again, with the words, to `out`.

    What is measured is kept in `OUT.measured.jsonl`: the same call after an interruption goes on from there. Audio of
    shards is copied as it is.

    Returns:
        How many clips were measured ("clips") and got each word.

    Raises:
        ClaraError: nothing to read, no speech in it, a clip that cannot be decoded, or `out` is `source`.
    """
    source, out = Path(source), Path(out)
    speech = [r for r in read_rows(source, out) if is_speech(r)]
    if not speech:
        raise ClaraError(f"{source} holds no speech: no row names an emotion, a language, a word or a speaker.")
    cache = out.with_name(out.name + ".measured.jsonl")
    measured = work_through([r.audio for r in speech], cache, _measure_chunk, CHUNK, config.workers)
    words = voices(speech, measured, config)
    found = {key: {**_rounded(measured[key]), "voice": list(words[key])} for key in measured}
    write_rows(source, out, {key: {"original": {"acoustics": value}} for key, value in found.items()})
    cache.unlink()
    return {"clips": len(speech), **Counter(w for r in speech for w in words[r.audio])}


def is_speech(row: Row) -> bool:
    """Whether a row's labels say that a voice is heard."""
    return bool(row.emotion or row.language or row.transcript or row.task in SPEECH)


def voices(
    rows: Sequence[Row], measured: Mapping[str, Measured], config: AcousticConfig = AcousticConfig()
) -> dict[str, tuple[str, ...]]:
    """The words of each clip, by its `audio`. `measured`: fields of `Acoustics`, by the same."""
    values = {r.audio: measured[r.audio] | {"semitones": _semitones(measured[r.audio])} for r in rows}
    _take_out_texts(rows, values, config.least_clips)
    groups: dict[Any, dict[str, None]] = defaultdict(dict)  # each clip once, however many rows it has
    for r in rows:
        groups[r.corpus, r.language][r.audio] = None
        if r.speaker:
            groups[r.corpus, r.language, r.speaker][r.audio] = None
    ends = {
        (key, scale.measure): _ends([values[a][scale.measure] for a in clips], config)
        for key, clips in groups.items()
        for scale in (*SCALES, Scale("loudness_db", None, None, True, 0.0))
    }
    words = {}
    for r in rows:
        said = []
        for scale in SCALES:
            own, everyone = (r.corpus, r.language, r.speaker), (r.corpus, r.language)
            use = own if scale.of_speaker and ends.get((own, scale.measure)) else everyone
            word = _word(scale, values[r.audio], {m: ends[use, m] for m in (scale.measure, "loudness_db", "effort_db")})
            said += [word] if word else []
        words[r.audio] = tuple(said)
    return words


def _semitones(measured: Measured) -> float | None:
    hz = measured["pitch_hz"]
    return 12 * math.log2(hz / acoustics.LOWEST_HZ) if hz else None


def _take_out_texts(rows: Sequence[Row], values: Mapping[str, Measured], least_clips: int) -> None:
    """Shift what the words decide ("yes" is brighter than "go", whoever says it) by how far the clips of one text lie
    from their corpus, where a text has enough clips to tell. A clip of several rows has the text of the first."""
    everyone: dict[tuple[str, str | None], dict[str, None]] = defaultdict(dict)
    texts: dict[tuple[str, str | None, str], list[str]] = defaultdict(list)
    told: set[str] = set()
    for r in rows:
        everyone[r.corpus, r.language][r.audio] = None
        if (text := r.transcript or (r.label if r.task == "word" else None)) and r.audio not in told:
            told.add(r.audio)
            texts[r.corpus, r.language, text].append(r.audio)
    for measure in OF_THE_TEXT:
        usual = {key: _median(values, clips, measure) for key, clips in everyone.items()}
        for key, clips in texts.items():
            own, common = _median(values, clips, measure), usual[key[:2]]
            if len(clips) < least_clips or own is None or common is None:
                continue
            for audio in clips:
                if values[audio][measure] is not None:
                    values[audio][measure] -= own - common


def _median(values: Mapping[str, Measured], clips: Iterable[str], measure: str) -> float | None:
    known = [v for a in clips if (v := values[a][measure]) is not None]
    return float(np.median(known)) if known else None


def _ends(values: Iterable[float | None], config: AcousticConfig) -> tuple[float, float, float] | None:
    """Lower quantile, median and upper quantile; None where too few clips have a value."""
    known = [v for v in values if v is not None]
    if len(known) < config.least_clips:
        return None
    low, middle, high = (float(q) for q in np.quantile(known, (config.outer, 0.5, 1 - config.outer)))
    return low, middle, high


def _word(scale: Scale, clip: Measured, ends: Mapping[str, tuple[float, float, float] | None]) -> str | None:
    value = clip[scale.measure]
    found = ends[scale.measure]
    if found is None or value is None:
        return None
    low, middle, high = found
    up = value >= high and value - middle >= scale.least
    down = value <= low and middle - value >= scale.least
    if scale.measure == "semitones":
        up, down = up and clip["pitch_hz"] >= LOWEST_HIGH_HZ, down and clip["pitch_hz"] <= HIGHEST_LOW_HZ
    if scale.measure == "effort_db" and (loudness := ends["loudness_db"]):  # its level must not say the opposite
        up, down = up and clip["loudness_db"] >= loudness[1], down and clip["loudness_db"] <= loudness[1]
    if scale.measure == "jitter" and (effort := ends["effort_db"]):  # a hoarse shout jitters too, and does not tremble
        up = up and clip["effort_db"] <= effort[1]
    return scale.high if up else scale.low if down else None


def _measure_chunk(chunk: Sequence[str]) -> list[tuple[str, Measured]]:
    out = []
    for audio in chunk:
        path, member = split_audio(audio)
        try:
            wave_T = read(path if member is None else read_member(path, member), acoustics.RATE, seconds=SECONDS)
        except ClaraError as e:
            raise ClaraError(f"{audio}: {e}") from e
        out.append((audio, dataclasses.asdict(acoustics.measure(wave_T, acoustics.RATE))))
    return out


def _rounded(measured: Measured) -> Measured:
    return {k: None if v is None else round(v, 3) for k, v in measured.items()}
