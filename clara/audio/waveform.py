"""The only reader of audio: file, bytes or array, also as `plain` finds them -> mono float32 at one rate.

Stereo is averaged, never concatenated. Any sample rate is resampled here (soxr, HQ) and nowhere else. Files are read by
libsndfile, and what it does not know (m4a, mp4, webm …) by FFmpeg, whatever they are named.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr

from clara.audio.arrays import mono, samples
from clara.audio.files import open_audio
from clara.audio.sources import audio_file, describe, plain
from clara.errors import ClaraError


@dataclass(frozen=True)
class AudioInfo:
    """Length in seconds, sample rate in Hz and channel count of a source as it is stored."""

    seconds: float
    sample_rate: int
    channels: int


def read(source: Any, sample_rate: int, *, start: float = 0.0, seconds: float | None = None) -> np.ndarray:
    """Read `source` as mono float32 (T,) at `sample_rate` Hz, from `start` seconds for at most `seconds`.

    Raises:
        ClaraError: missing or empty file, not audio, less audio than the header states (`clara.audio.files`), NaN or
            infinite samples, no samples in the span, a bare array.
    """
    name, source = describe(source), plain(source)
    wave, rate = _decode(source, start, seconds)
    return _finish(wave, rate, sample_rate, name)


def info(source: Any) -> AudioInfo:
    """Length, rate and channels, without decoding the samples where the header states them. Raises ClaraError as `read`
    does."""
    source = plain(source)
    if isinstance(source, tuple):
        wave, rate = samples(source)
        return AudioInfo(wave.shape[0] / rate, rate, wave.shape[1])
    with open_audio(_handle(source), describe(source)) as file:
        return AudioInfo(file.length() / file.rate, file.rate, file.channels)


def stream(source: Any, sample_rate: int, *, window: float, hop: float) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (start in seconds, mono float32 window at `sample_rate`) in bounded memory, whatever the length.

    The last window may be shorter; a tail already covered by the window before it is not yielded again.
    """
    if window <= 0 or hop <= 0:
        raise ClaraError(f"window={window} and hop={hop} must both be above 0 seconds.")
    size, step = int(round(window * sample_rate)), max(1, int(round(hop * sample_rate)))
    buffer, offset, yielded = np.zeros(0, np.float32), 0, False
    for block in _resampled_blocks(source, sample_rate):
        buffer = np.concatenate([buffer, block])
        while len(buffer) > size:
            yield offset / sample_rate, buffer[:size].copy()
            yielded = True
            buffer, offset = buffer[step:], offset + step
    covered = size - step if yielded else 0
    if len(buffer) > max(0, covered) or not yielded:
        # shorter than one output sample: keep one, as `read` does
        yield offset / sample_rate, buffer if len(buffer) else np.zeros(1, np.float32)


def _handle(source: Any) -> Any:
    """What soundfile opens: a path string or a buffer. Checks what can be checked before decoding."""
    if isinstance(source, bytes | bytearray):
        if not source:
            raise ClaraError("Audio of 0 bytes: expected an encoded file (wav, flac, ogg, opus, mp3).")
        return io.BytesIO(source)
    if not isinstance(source, str | os.PathLike):
        raise ClaraError(
            f"Audio of type {type(source).__name__}: expected a path, encoded bytes, an open file, or (array, "
            "sample_rate). A bare array has no sample rate: pass (array, rate)."
        )
    path = audio_file(source)
    try:
        str(path).encode()
    except UnicodeEncodeError:  # a name in another encoding than the system's: soundfile encodes text strictly
        return os.fsencode(path)
    return str(path)


def _decode(source: Any, start: float, seconds: float | None) -> tuple[np.ndarray, int]:
    """Samples (T, C) of a span and their rate."""
    if start < 0 or (seconds is not None and seconds <= 0):
        raise ClaraError(f"Span start={start}, seconds={seconds}: expected start ≥ 0 and seconds > 0.")
    if isinstance(source, tuple):
        wave, rate = samples(source)
        first = int(round(start * rate))
        return wave[first : None if seconds is None else first + int(round(seconds * rate))], rate
    with open_audio(_handle(source), describe(source)) as file:
        count = None if seconds is None else int(round(seconds * file.rate))
        return file.read(int(round(start * file.rate)), count), file.rate


def _finish(wave_TC: np.ndarray, rate: int, target: int, name: str) -> np.ndarray:
    if wave_TC.shape[0] == 0:
        raise ClaraError(f"{name} holds no samples in the span asked for.")
    wave = mono(wave_TC, name)
    if rate != target:
        wave = soxr.resample(wave, rate, target)
        if len(wave) == 0:  # shorter than one output sample: keep one, so that a clip never vanishes
            wave = np.zeros(1, np.float32)
    return np.ascontiguousarray(wave, dtype=np.float32)


def _resampled_blocks(source: Any, target: int) -> Iterator[np.ndarray]:
    """Mono blocks at the target rate, decoding `BLOCK_SECONDS` at a time."""
    name, source = describe(source), plain(source)
    if isinstance(source, tuple):
        yield read(source, target)
        return
    with open_audio(_handle(source), name) as file:
        yield from _resampled(file.blocks(), file.rate, target, name)


def _resampled(blocks: Iterator[np.ndarray], rate: int, target: int, name: str) -> Iterator[np.ndarray]:
    """Blocks (T, C) at `rate` -> mono blocks at `target`, one resampler running through all of them."""
    resampler, total = soxr.ResampleStream(rate, target, 1, dtype="float32") if rate != target else None, 0
    for block in blocks:
        wave_T = mono(block, name)
        total += len(wave_T)
        yield resampler.resample_chunk(wave_T) if resampler else wave_T
    if total == 0:
        raise ClaraError(f"{name} holds no samples.")
    if resampler:
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
