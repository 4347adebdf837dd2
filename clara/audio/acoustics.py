"""What can be measured of a voice: pitch and its range, loudness, rate, brightness, jitter. Numbers only, no words.

Pitch is the autocorrelation method of Boersma (1993): a window's autocorrelation divided by that of the window itself,
and of each frame's candidates the path that changes least. The rest is read from one power spectrogram.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import soxr

RATE = 16000
HOP = 160  # samples: 100 frames a second
WINDOW = 768  # three periods of LOWEST_HZ
FFT = 1024  # at least a window and the longest lag, so that the autocorrelation does not wrap around
LOWEST_HZ, HIGHEST_HZ = 65.0, 600.0
CANDIDATES = 6
LEAST_VOICED = 20  # frames: with fewer nothing is said of the voice
SILENCE_DB = 35.0  # a frame so far below the loud ones is a pause
VOICED = 0.5  # least autocorrelation of a voiced frame
STRONG_DB, NEAR_SEMITONES = 15.0, 8.0  # frames that carry a melody: weaker ones creak, farther ones are octaves
OCTAVE_COST, JUMP_COST, VOICING_COST = 0.02, 0.35, 0.14  # Boersma's, for frames of 10 ms


@dataclass(frozen=True)
class Acoustics:
    """Measured of one clip. `pitch_hz`: median of the voiced frames; `pitch_range`: standard deviation in semitones, of
    the strong frames and without creak and octave errors; `jitter`: mean change of pitch, in semitones, that a smooth
    contour (70 ms) leaves over; `loudness_db`: A-weighted level of what is not a pause, dB of full scale; `effort_db`:
    that less the plain level, which a recording's gain cannot change and a raised voice does; `rate`: peaks of the
    voice's energy per second, near its syllables; `brightness_db`: energy of 1–5 kHz over 0.05–1 kHz (the alpha ratio);
    `voiced_seconds`. What needs a voice is None below 0.2 s of it."""

    pitch_hz: float | None
    pitch_range: float | None
    jitter: float | None
    loudness_db: float
    effort_db: float
    rate: float | None
    brightness_db: float
    voiced_seconds: float


def measure(wave_T: np.ndarray, rate: int) -> Acoustics:
    """Measure one clip: mono float32 (T,) in [-1, 1] at `rate` Hz."""
    if rate != RATE:
        wave_T = soxr.resample(wave_T, rate, RATE, quality="MQ")
    wave_T = np.pad(wave_T, (0, max(0, WINDOW - len(wave_T)))).astype(np.float32)
    frames_NT = np.lib.stride_tricks.sliding_window_view(wave_T, WINDOW)[::HOP]
    frames_NT = frames_NT - frames_NT.mean(1, keepdims=True)
    power_NF = np.square(np.abs(np.fft.rfft(frames_NT * np.hanning(WINDOW).astype(np.float32), FFT))).astype(np.float32)
    level_N = 10 * np.log10(np.square(frames_NT).mean(1) + 1e-10)
    active_N = level_N > max(np.quantile(level_N, 0.95) - SILENCE_DB, -75.0)
    semitones_N = pitch(power_NF, active_N)
    voiced_N = np.isfinite(semitones_N)
    found = semitones_N[voiced_N]
    loud, effort = _loudness(power_NF[active_N] if active_N.any() else power_NF)
    if len(found) < LEAST_VOICED:
        return Acoustics(None, None, None, loud, effort, None, _alpha(power_NF, active_N), len(found) * HOP / RATE)
    return Acoustics(
        pitch_hz=float(LOWEST_HZ * 2 ** (np.median(found) / 12)),
        pitch_range=_range(semitones_N, level_N),
        jitter=_jitter(semitones_N),
        loudness_db=loud,
        effort_db=effort,
        rate=_rate(power_NF, active_N, voiced_N),
        brightness_db=_alpha(power_NF, voiced_N),
        voiced_seconds=len(found) * HOP / RATE,
    )


def pitch(power_NF: np.ndarray, active_N: np.ndarray) -> np.ndarray:
    """Power spectra (of Hann windows, `FFT` points) -> semitones above `LOWEST_HZ` a frame (N,), NaN where unvoiced."""
    first, last = int(RATE / HIGHEST_HZ), int(RATE / LOWEST_HZ) + 1
    window = np.hanning(WINDOW)
    of_window = np.fft.irfft(np.square(np.abs(np.fft.rfft(window, FFT))))[: last + 2]
    r_NL = np.fft.irfft(power_NF)[:, : last + 2]
    r_NL = r_NL / (r_NL[:, :1] + 1e-9) / (of_window / of_window[0])
    lags = np.arange(first, last + 1)
    here, before, after = r_NL[:, lags], r_NL[:, lags - 1], r_NL[:, lags + 1]
    bend = np.minimum(before - 2 * here + after, -1e-6)
    shift = np.clip(0.5 * (before - after) / bend, -0.5, 0.5)  # a parabola through the three
    height = np.minimum(here - 0.25 * (before - after) * shift, 1.0)
    height = np.where((here > before) & (here >= after) & (height > 0.3), height, -1.0)
    cost = height - OCTAVE_COST * np.log2(lags / first)  # of two equal peaks the shorter period
    best = np.argpartition(-cost, CANDIDATES, axis=1)[:, :CANDIDATES]
    height_NK, cost_NK = np.take_along_axis(height, best, 1), np.take_along_axis(cost, best, 1)
    semitone_NK = 12 * np.log2(RATE / (lags[best] + np.take_along_axis(shift, best, 1)) / LOWEST_HZ)
    usable_NK = (height_NK > 0) & active_N[:, None]
    return _path(semitone_NK, np.where(usable_NK, cost_NK, -9.0), active_N)


def _path(semitone_NK: np.ndarray, score_NK: np.ndarray, active_N: np.ndarray) -> np.ndarray:
    """The best path through the candidates and 'unvoiced' (the last state), by dynamic programming."""
    N, K = semitone_NK.shape
    score_NS = np.concatenate([score_NK, np.where(active_N, VOICED, 1.0)[:, None]], 1)
    jump_NKK = JUMP_COST / 12 * np.abs(semitone_NK[1:, None, :] - semitone_NK[:-1, :, None])
    cost_NSS = np.full((max(N - 1, 0), K + 1, K + 1), VOICING_COST)
    cost_NSS[:, :K, :K], cost_NSS[:, K, K] = jump_NKK, 0.0
    total, back_NS = score_NS[0], np.zeros((N, K + 1), int)
    for n in range(1, N):
        ways = total[:, None] - cost_NSS[n - 1]
        back_NS[n] = ways.argmax(0)
        total = ways.max(0) + score_NS[n]
    states = np.zeros(N, int)
    states[-1] = total.argmax()
    for n in range(N - 1, 0, -1):
        states[n - 1] = back_NS[n, states[n]]
    padded_NS = np.concatenate([semitone_NK, np.full((N, 1), np.nan)], 1)
    return np.where(states < K, padded_NS[np.arange(N), states], np.nan)


def _range(semitones_N: np.ndarray, level_N: np.ndarray) -> float:
    """Standard deviation over the voiced frames that are strong and near the clip's middle. A tired or sad voice ends
    in creak, whose period is two of the voice's: with that in, the flattest voices come out as the liveliest."""
    voiced_N = np.isfinite(semitones_N)
    strong_N = voiced_N & (level_N > np.quantile(level_N[voiced_N], 0.95) - STRONG_DB)
    chosen = semitones_N[strong_N if strong_N.sum() >= LEAST_VOICED else voiced_N]
    middle = np.median(chosen)
    return float(chosen[np.abs(chosen - middle) <= NEAR_SEMITONES].std())


def _jitter(semitones_N: np.ndarray) -> float | None:
    """Mean distance of the contour from its own moving average, over windows voiced throughout."""
    if len(semitones_N) < 7:
        return None
    windows_N7 = np.lib.stride_tricks.sliding_window_view(semitones_N, 7)
    whole = windows_N7[np.isfinite(windows_N7).all(1) & (np.abs(np.diff(windows_N7, axis=1)).max(1) < 4)]
    return float(np.abs(whole[:, 3] - whole.mean(1)).mean()) if len(whole) >= 10 else None


def _rate(power_NF: np.ndarray, active_N: np.ndarray, voiced_N: np.ndarray) -> float | None:
    """Voiced peaks of the energy in 300–3500 Hz, 2 dB above the dips beside them, a second between the first and the
    last sound (de Jong & Wempe 2009, without pauses of more than 0.3 s)."""
    bins = slice(int(300 * FFT / RATE), int(3500 * FFT / RATE))
    level_N = 10 * np.log10(power_NF[:, bins].sum(1) + 1e-9)
    smooth = np.hanning(9)
    level_N = np.convolve(np.pad(level_N, 4, mode="edge"), smooth / smooth.sum(), "valid")
    peaks, low, high, rising = 0, level_N[0], level_N[0], True
    at = 0
    for n, level in enumerate(level_N):
        if rising:
            if level > high:
                high, at = level, n
            elif level < high - 2.0:
                peaks += bool(voiced_N[max(0, at - 2) : at + 3].any())
                rising, low = False, level
        elif level < low:
            low = level
        elif level > low + 2.0:
            rising, high, at = True, level, n
    peaks += rising and bool(voiced_N[max(0, at - 2) : at + 3].any())
    spoken = active_N.nonzero()[0]
    gaps = np.diff(spoken)
    frames = len(spoken) + int(gaps[(gaps > 1) & (gaps <= 30)].sum())
    return float(peaks / (frames * HOP / RATE)) if frames >= 30 else None


def _loudness(power_NF: np.ndarray) -> tuple[float, float]:
    """A-weighted level in dB of full scale (IEC 61672-1), and how far that is from the plain level."""
    hz2 = np.square(np.fft.rfftfreq(FFT, 1 / RATE)) + 1e-3
    weight = 12194.0**2 * hz2**2 / ((hz2 + 20.6**2) * (hz2 + 12194.0**2))
    weight /= np.sqrt((hz2 + 107.7**2) * (hz2 + 737.9**2))
    mean_F = power_NF.mean(0, dtype=np.float64)
    plain, weighted = mean_F.sum() + 1e-9, float(mean_F @ np.square(1.2589 * weight)) + 1e-9
    full = FFT / 2 * np.square(np.hanning(WINDOW)).sum()  # what a wave of mean square 1 would give
    return float(10 * np.log10(weighted / full)), float(10 * np.log10(weighted / plain))


def _alpha(power_NF: np.ndarray, which_N: np.ndarray) -> float:
    chosen = power_NF[which_N] if which_N.any() else power_NF
    edges = [int(hz * FFT / RATE) for hz in (50, 1000, 5000)]
    low, high = (float(chosen[:, a:b].sum()) + 1e-9 for a, b in pairwise(edges))
    return float(10 * np.log10(high / low))
