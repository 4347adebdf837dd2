"""Samples in memory -> float32 (T, C), by rules that leave nothing to chance: a guess at the scale of integers or at
which axis is time gives a vector like any other, of something that nobody recorded."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np

from clara.audio.decoder import LEAST_RATE, MOST_RATE
from clara.errors import ClaraError

MOST_CHANNELS = 8  # of an array: 7.1; above that it is a batch of clips
FULL_SCALE = {"int8": 2**7, "int16": 2**15, "int32": 2**31, "uint8": 2**7, "uint16": 2**15}
LOUDEST = 100.0  # 40 dB above full scale: no recording, but integers kept as floats
SILENT_ENERGY = 1e-8  # mean square of -80 dB
CANCELLED = 1e-3  # mean square of the averaged channels to that of the channels; independent ones give 1 / C


def samples(source: Any) -> tuple[np.ndarray, int]:
    """(array, rate) -> float32 (T, C), rate.

    Floats are taken as they are (full scale is 1.0); int8, int16 and int32 are divided by 2^7, 2^15 and 2^31; uint8
    and uint16 have their zero at 2^7 and 2^15. (C, T) is recognised by its short first axis.

    Raises:
        ClaraError: another dtype, an int32 array that holds int16 samples, more than `MOST_CHANNELS` channels or two
            axes, a rate that is not a whole number of Hz above 0.
    """
    if len(source) != 2 or not hasattr(source[0], "shape"):
        raise ClaraError("Audio tuple: expected (array, sample_rate in Hz).")
    wave, rate = source[0], whole_rate(source[1])
    if hasattr(wave, "detach"):
        wave = wave.detach().cpu()
        wave = (wave.float() if wave.is_floating_point() else wave).numpy()  # numpy has no bfloat16
    return _scaled(_time_first(np.asarray(wave))), rate


def whole_rate(rate: Any) -> int:
    """A sample rate as a whole number; 16000.0 is one. ClaraError for anything else,
    and beyond what recorders have: resampling by it would ask for any amount of memory."""
    if isinstance(rate, np.ndarray) and rate.ndim == 0:
        rate = rate[()]
    if isinstance(rate, bool | np.bool_) or not isinstance(rate, Integral | Real) or rate != rate // 1 or rate <= 0:
        raise ClaraError(f"Sample rate {rate!r}: expected a whole number of Hz above 0.")
    if not LEAST_RATE <= float(rate) <= MOST_RATE:
        raise ClaraError(f"Sample rate {rate!r}: expected {LEAST_RATE} to {MOST_RATE:,} Hz.")
    return int(float(rate))


def _time_first(wave: np.ndarray) -> np.ndarray:
    if wave.ndim == 1:
        return wave[:, None]
    if wave.ndim != 2:
        raise ClaraError(f"Array of shape {wave.shape}: expected (T,) or (channels, T).")
    shape = wave.shape
    if 0 in shape:
        return wave.reshape(0, 1)
    wave = wave.T if shape[0] < shape[1] else wave
    if wave.shape[1] > MOST_CHANNELS:
        raise ClaraError(
            f"Array of shape {shape}: expected (T,), or (channels, T) with at most {MOST_CHANNELS} channels, which are "
            "averaged. Several clips are a list of pairs: [(clip, rate) for clip in batch]."
        )
    return wave


def _scaled(wave_TC: np.ndarray) -> np.ndarray:
    name = wave_TC.dtype.name
    if np.issubdtype(wave_TC.dtype, np.floating):
        return wave_TC.astype(np.float32)
    if name not in FULL_SCALE:
        remedy = ""
        if np.issubdtype(wave_TC.dtype, np.integer):
            remedy = (
                " Give it the type it was recorded in, as by array.astype(np.int16), or divide it by its full scale."
            )
        raise ClaraError(
            f"Array of dtype {wave_TC.dtype}: expected floats in [-1, 1], or int8, int16, int32, uint8 or uint16 at "
            f"their own full scale.{remedy}"
        )
    scale, zero = FULL_SCALE[name], FULL_SCALE[name] if name[0] == "u" else 0
    if name == "int32" and wave_TC.size:
        peak = int(np.abs(wave_TC.astype(np.int64)).max())
        # 24-bit samples lie in the upper bits of int32, so even their noise is of whole 256s
        if 0 < peak <= 2**15 and (wave_TC & 0xFF).any():
            raise ClaraError(
                f"int32 samples of at most {peak}, where full scale is 2147483648: they look like int16 samples in a "
                "wider type. Pass array.astype(np.int16), or floats in [-1, 1]."
            )
    return (wave_TC.astype(np.float32) - zero) / scale


def mono(wave_TC: np.ndarray, name: str) -> np.ndarray:
    """The mean of the channels, float32 (T,).

    Raises:
        ClaraError: NaN or infinite samples, samples far beyond full scale, or channels that cancel each other.
    """
    wave_T = wave_TC.mean(axis=1, dtype=np.float32) if wave_TC.shape[1] > 1 else wave_TC[:, 0]
    bad = int(np.size(wave_T) - np.count_nonzero(np.isfinite(wave_T)))
    if bad:
        raise ClaraError(f"{name} holds {bad} NaN or infinite samples: repair the recording before embedding it.")
    peak = max(float(wave_TC.max(initial=0.0)), -float(wave_TC.min(initial=0.0)))
    if peak > LOUDEST:
        raise ClaraError(
            f"{name} holds samples of up to {peak:.4g}, where full scale is 1: divide them by their own full scale, "
            "such as 32768 for 16 bits."
        )
    if wave_TC.shape[1] > 1 and len(wave_T):
        energy, left = float(np.mean(np.square(wave_TC))), float(np.mean(np.square(wave_T)))
        if energy > SILENT_ENERGY and left < CANCELLED * energy:
            raise ClaraError(
                f"{name}: its {wave_TC.shape[1]} channels cancel each other, their mean is silence (one is inverted): "
                "pass one of them, as (array[0], rate), or a file of one channel."
            )
    return wave_T
