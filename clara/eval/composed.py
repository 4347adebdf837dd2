"""Retrieval on composed clips: two sound events of different classes in one clip, captioned by the language files.

No two clips hold the same two classes, so every caption belongs to one clip. Half a caption's words fit many clips:
only a model that hears both events finds the right one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch

from clara.audio import waveform
from clara.errors import ClaraError
from clara.eval.clips import Context, DataSpec, labelled, language_codes, source
from clara.eval.embeddings import CHUNK
from clara.eval.retrieval import caption_figures
from clara.eval.scores import shown
from clara.results import Result
from clara.text.prompts import load_language, term

FRAME_SECONDS = 0.02
SILENCE_DB = -40.0  # below the clip's loudest frame
LOUDNESS = 0.05  # root mean square of each event before mixing
PEAK = 0.95


@dataclass(frozen=True)
class ComposedConfig:
    """Retrieval of mixtures of two labelled sounds by a sentence that names both."""

    data: DataSpec
    """Clips that are mixed."""
    clips: int = 500
    """Number of mixtures."""
    seconds: float = 5.0
    """Length of a mixture, seconds."""
    offset: tuple[float, float] = (0.5, 2.5)
    """Range of the second sound's onset, seconds."""
    sample_rate: int = 16000
    """Hz."""
    languages: tuple[str, ...] = ("en",)
    """Languages of the captions; one caption per way the language joins two sounds."""
    chunk: int = 1024
    """Queries compared at a time."""


@dataclass(frozen=True)
class Mixture:
    """Which two clips (`Row.audio`) make a composed one, their labels, and when the second begins, in seconds."""

    first: str
    second: str
    labels: tuple[str, str]
    offset: float


def composed_retrieval(config: ComposedConfig, context: Context) -> Result:
    """The caption protocol on composed clips, by caption language: figures at "CODE/t2a" and "CODE/a2t"."""
    rows, labels = labelled(context.rows(config.data), "sound")
    plan = mixtures([row.audio for row in rows], labels, config, context.seed)
    parts, waves = [], _waves(plan, config)
    while chunk := [(wave, config.sample_rate) for _, wave in zip(range(CHUNK), waves)]:
        parts.append(context.zoo.embed_audio(chunk, batch_size=context.supply.batch_size))
    audio_AD, codes = torch.cat(parts), language_codes(config.languages)
    found = []
    for code in codes:
        primary, texts = "R@1" if shown(code, codes) else None, [captions(m.labels, code) for m in plan]
        found.append(caption_figures(context, audio_AD, texts, config.chunk, code, primary))
    return Result(
        len(plan),
        tuple(f for one in found for f in one.figures),
        languages=tuple(codes),
        outcomes={where: outcomes for one in found for where, outcomes in one.outcomes.items()},
        examples=found[0].examples,
        notes={"source_clips": len(rows), "languages": {code: one.notes for code, one in zip(codes, found)}},
    )


def mixtures(audio: Sequence[str], labels: Sequence[str], config: ComposedConfig, seed: int) -> list[Mixture]:
    """Draw the composed clips: distinct pairs of classes, each class's clips used in turn.

    Raises:
        ClaraError: fewer pairs of classes than clips asked for, or `offset` beyond `seconds`.
    """
    low, high = config.offset
    if not 0 <= low <= high < config.seconds:
        raise ClaraError(f"offset={config.offset}: expected two increasing times below seconds={config.seconds}.")
    by_label = {k: [a for a, x in zip(audio, labels) if x == k] for k in sorted(set(labels))}
    pairs = list(combinations(by_label, 2))
    if not 0 < config.clips <= len(pairs):
        raise ClaraError(f"clips={config.clips}: {len(by_label)} classes make 1 to {len(pairs)} different pairs.")
    rng = np.random.default_rng(seed)
    turns = {k: _in_turn(clips, rng) for k, clips in by_label.items()}
    out = []
    for i in rng.permutation(len(pairs))[: config.clips]:
        a, b = pairs[i] if rng.random() < 0.5 else pairs[i][::-1]
        out.append(Mixture(next(turns[a]), next(turns[b]), (a, b), float(rng.uniform(low, high))))
    return out


def _in_turn(clips: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    while True:
        for i in rng.permutation(len(clips)):
            yield clips[i]


def captions(labels: tuple[str, str], language: str) -> list[str]:
    """One caption for each `compose` line of the language, with the labels' canonical names."""
    a, b = (term("sound", label, language).names[0] for label in labels)
    return [line.replace("{a}", a).replace("{b}", b) for line in load_language(language).compose]


def _waves(plan: Sequence[Mixture], config: ComposedConfig) -> Iterator[np.ndarray]:
    events: dict[str, np.ndarray] = {}
    for m in plan:
        for audio in (m.first, m.second):
            if audio not in events:
                events[audio] = event(waveform.read(source(audio), config.sample_rate), config.sample_rate)
        size, start = round(config.seconds * config.sample_rate), round(m.offset * config.sample_rate)
        yield mix(events[m.first], events[m.second], start, size)


def event(wave_T: np.ndarray, rate: int) -> np.ndarray:
    """The sounding part of a clip at LOUDNESS: silence at both ends cut, loudness measured where there is sound."""
    step = max(1, round(FRAME_SECONDS * rate))
    padded = np.pad(wave_T.astype(np.float64), (0, -len(wave_T) % step))
    power_N = (padded.reshape(-1, step) ** 2).mean(1)
    loud = power_N > power_N.max() * 10 ** (SILENCE_DB / 10)
    if not loud.any():
        return wave_T.astype(np.float32)  # digital silence has no loudness to match
    first, last = np.flatnonzero(loud)[[0, -1]]
    gain = LOUDNESS / np.sqrt(power_N[loud].mean())
    return (wave_T[first * step : (last + 1) * step] * gain).astype(np.float32)


def mix(first_T: np.ndarray, second_T: np.ndarray, start: int, size: int) -> np.ndarray:
    """`first` from sample 0 on, `second` from `start`, cut or padded to `size`; scaled down where it would clip."""
    out_T = np.zeros(size, np.float32)
    for wave, at in ((first_T, 0), (second_T, start)):
        part = wave[: size - at]
        out_T[at : at + len(part)] += part
    peak = np.abs(out_T).max()
    return out_T * (PEAK / peak) if peak > PEAK else out_T
