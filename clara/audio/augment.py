"""Augmentation that keeps the label: channel, room, noise, clipping, speed, mixing (waveform) and SpecAugment.

Waveform functions take and return float32 numpy (T,) and draw from the generator they are given, so that a sample's
augmentation is a pure function of its seed. Recordings differ by corpus in level, band and room; a tower that can hear
the corpus learns it instead of the emotion, which is what the channel augmentations are against.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class WaveAugmentConfig:
    """Probabilities (0 = off) and bounds. `speed` is the largest relative change (tempo and pitch together)."""

    speed: float = 0.08
    channel: float = 0.6
    eq_db: float = 12.0
    low_pass: float = 0.3
    low_pass_hz: tuple[float, float] = (2500.0, 7500.0)
    high_pass: float = 0.15
    high_pass_hz: tuple[float, float] = (100.0, 400.0)
    room: float = 0.25
    room_seconds: tuple[float, float] = (0.1, 0.7)
    noise: float = 0.4
    noise_snr_db: tuple[float, float] = (5.0, 35.0)
    clip: float = 0.08


def augment_wave(wave_T: np.ndarray, rate: int, config: WaveAugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Speed, room and channel, noise, clipping in the order in which a recording meets them."""
    if config.speed > 0:
        wave_T = change_speed(wave_T, 1.0 + rng.uniform(-config.speed, config.speed))
    if rng.random() < config.channel:
        wave_T = channel(wave_T, rate, config, rng)
    if rng.random() < config.noise:
        wave_T = add_noise(wave_T, rng.uniform(*config.noise_snr_db), rng)
    if rng.random() < config.clip:
        limit = np.quantile(np.abs(wave_T), rng.uniform(0.9, 0.995)) + 1e-5
        wave_T = np.clip(wave_T, -limit, limit)
    return wave_T.astype(np.float32, copy=False)


def change_speed(wave_T: np.ndarray, factor: float) -> np.ndarray:
    """Play `factor` times faster by linear interpolation (pitch follows): (T / factor,)."""
    n = max(1, int(len(wave_T) / factor))
    return np.interp(np.arange(n) * factor, np.arange(len(wave_T)), wave_T).astype(np.float32)


def channel(wave_T: np.ndarray, rate: int, config: WaveAugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """A random smooth equaliser, band limits and a synthetic room, applied at once in the frequency domain."""
    tail = int(rate * config.room_seconds[1]) if config.room > 0 else 0
    n = _fast_length(len(wave_T) + tail)
    freqs = np.fft.rfftfreq(n, 1 / rate)
    knots = np.geomspace(60, rate / 2, 7)
    gains_db = rng.uniform(-config.eq_db, config.eq_db, 7) * rng.random()
    response = 10 ** (np.interp(np.log(freqs + 1), np.log(knots), gains_db).astype(np.float32) / 20)
    if rng.random() < config.low_pass:
        response /= 1 + (freqs / rng.uniform(*config.low_pass_hz)) ** rng.choice([8, 16])
    if rng.random() < config.high_pass:
        edge = rng.uniform(*config.high_pass_hz)
        response *= (freqs / edge) ** 4 / (1 + (freqs / edge) ** 4)
    spectrum = np.fft.rfft(wave_T, n) * response.astype(np.float32)
    if rng.random() < config.room:
        spectrum = spectrum * np.fft.rfft(room_response(rate, rng.uniform(*config.room_seconds), rng), n)
    return np.fft.irfft(spectrum, n)[: len(wave_T)].astype(np.float32)


def room_response(rate: int, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """A direct path and an exponentially decaying noise tail of -60 dB after `seconds`."""
    n = int(rate * seconds)
    tail = rng.standard_normal(n, dtype=np.float32) * 10 ** (-3 * np.arange(n, dtype=np.float32) / n)
    tail *= rng.uniform(0.1, 0.7) / np.sqrt(np.square(tail).sum())
    tail[0] = 1.0
    return tail


def add_noise(wave_T: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """Add noise of a random colour (white to brown) at `snr_db` of the whole clip."""
    n = _fast_length(len(wave_T))
    noise = rng.standard_normal(n, dtype=np.float32)
    a = rng.choice([0.0, 0.7, 0.95])
    if a:  # one-pole smoothing in the frequency domain
        w = np.exp(-2j * np.pi * np.arange(n // 2 + 1) / n)
        noise = np.fft.irfft(np.fft.rfft(noise) / (1 - a * w).astype(np.complex64), n)
    return mix(wave_T, noise[: len(wave_T)], snr_db)


def mix(wave_T: np.ndarray, other_T: np.ndarray, snr_db: float, offset: int = 0) -> np.ndarray:
    """`wave_T` plus `other_T` from sample `offset` on, scaled to lie `snr_db` below it (of their louder halves)."""
    end = min(len(wave_T), offset + len(other_T))
    other_T = other_T[: max(0, end - offset)]
    if not len(other_T):
        return wave_T
    power, other_power = _active_power(wave_T), _active_power(other_T)
    out = wave_T.astype(np.float32, copy=True)
    out[offset:end] += other_T * np.float32(np.sqrt(power / other_power / 10 ** (snr_db / 10)))
    return out


def _active_power(wave_T: np.ndarray) -> float:
    """Mean power of the louder half: silence around a short event must not make it seem quiet."""
    frames = np.square(wave_T[: len(wave_T) // 160 * 160].reshape(-1, 160)).mean(1) if len(wave_T) >= 320 else wave_T**2
    return float(np.sort(frames)[len(frames) // 2 :].mean()) + 1e-8


def crop(wave_T: np.ndarray, size: int, rng: np.random.Generator, tries: int = 3) -> np.ndarray:
    """A random span of `size` samples; of a few tries the one with most energy, so that silence is seldom drawn."""
    if len(wave_T) <= size:
        return wave_T
    starts = rng.integers(0, len(wave_T) - size + 1, tries)
    best = max(starts, key=lambda s: float(np.square(wave_T[s : s + size : 8]).sum()))
    return wave_T[best : best + size]


def _fast_length(n: int) -> int:
    """The next length of the form 2^a·{1, 1.25, 1.5} ≥ n, quick to transform."""
    top = 1 << (n - 1).bit_length()
    return min(m for m in (top * 5 // 8, top * 3 // 4, top) if m >= n)


@dataclass(frozen=True)
class SpecAugmentConfig:
    """SpecAugment (Park et al. 2019): how many masks, and the widest as a share of the clip or of the bands."""

    time_masks: int = 2
    time_share: float = 0.12
    bin_masks: int = 2
    bin_share: float = 0.15
    shift_bins: int = 0


class SpecAugment(nn.Module):
    """Masks spans of time and bands of x_BNF with 0 (a band-normalised clip's mean); draws from torch's generator."""

    def __init__(self, config: SpecAugmentConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, x_BNF: Tensor, mask_BN: Tensor) -> tuple[Tensor, Tensor]:
        """x_BNF, mask_BN -> the same with masks drawn per clip. The frame mask is unchanged."""
        c, (B, _, F) = self.config, x_BNF.shape
        if c.shift_bins:
            x_BNF = self._shift(x_BNF)
        lengths_B = mask_BN.sum(1).float()
        drop = torch.zeros_like(x_BNF, dtype=torch.bool)
        for axis, count, share, size_B in (
            (1, c.time_masks, c.time_share, lengths_B),
            (2, c.bin_masks, c.bin_share, torch.full_like(lengths_B, F)),
        ):
            position = torch.arange(x_BNF.shape[axis], device=x_BNF.device)[None]
            for _ in range(count):
                span_B = torch.rand(B, device=x_BNF.device) * share * size_B
                start_B = torch.rand(B, device=x_BNF.device) * (size_B - span_B)
                hit = (position >= start_B[:, None]) & (position < (start_B + span_B)[:, None])
                drop |= hit[:, :, None] if axis == 1 else hit[:, None, :]
        return x_BNF.masked_fill(drop, 0.0), mask_BN

    def _shift(self, x_BNF: Tensor) -> Tensor:
        """Move each clip up or down by some bins: a small change of the vocal tract's length."""
        k = self.config.shift_bins
        shift_B = torch.randint(-k, k + 1, (len(x_BNF),), device=x_BNF.device)
        bins_F = torch.arange(x_BNF.shape[2], device=x_BNF.device)
        index = (bins_F[None] + shift_B[:, None]).clamp(0, len(bins_F) - 1)
        return x_BNF.gather(2, index[:, None].expand_as(x_BNF))
