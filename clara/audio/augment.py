"""Augmentation that keeps the label: speed, channel, room, noise, clipping, codecs, mixing; SpecAugment and MixStyle.

Waveform functions take and return float32 numpy (T,) and draw from the generator they are given, so that a sample's
augmentation is a pure function of its seed. Recordings differ by corpus in level, band and room; a tower that can hear
the corpus learns it instead of the emotion, which is what the channel augmentations are against.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from clara.audio.effects import codec, pitch_shift, time_stretch
from clara.errors import ClaraError


@dataclass(frozen=True)
class WaveAugmentConfig:
    """Augmentation of waveforms. Probabilities are per clip, 0 to 1; 0 turns an effect off."""

    speed: float = 0.08
    """Largest relative change of speed, tempo and pitch together: 0.08 draws factors from 0.92 to 1.08."""
    channel: float = 0.6
    """Probability of a random equaliser, as of another microphone."""
    eq_db: float = 12.0
    """Largest gain of that equaliser in any band, dB."""
    low_pass: float = 0.3
    """Probability of a low-pass filter."""
    low_pass_hz: tuple[float, float] = (2500.0, 7500.0)
    """Range of its cut-off frequency, Hz."""
    high_pass: float = 0.15
    """Probability of a high-pass filter."""
    high_pass_hz: tuple[float, float] = (100.0, 400.0)
    """Range of its cut-off frequency, Hz."""
    room: float = 0.25
    """Probability of a simulated room."""
    room_seconds: tuple[float, float] = (0.1, 0.7)
    """Range of its reverberation time, seconds."""
    noise: float = 0.4
    """Probability of added noise."""
    noise_snr_db: tuple[float, float] = (5.0, 35.0)
    """Range of the signal-to-noise ratio, dB."""
    clip: float = 0.08
    """Probability of hard clipping."""
    stretch: float = 0.0
    """Probability of a change of tempo alone."""
    stretch_factor: tuple[float, float] = (0.9, 1.1)
    """Range of the tempo factor, within 0.5 to 2; above 1 is faster."""
    pitch: float = 0.0
    """Probability of a change of pitch alone."""
    pitch_semitones: float = 1.5
    """Largest change of pitch, semitones, 0 to 6."""
    codec: float = 0.0
    """Probability of passing through one of `codecs`."""
    codecs: tuple[str, ...] = ("mu-law", "low-rate")
    """'mu-law', 'low-rate', 'vorbis', 'opus', 'mp3'; the last three really encode and decode, and take longer."""
    gain_db: float = 0.0
    """Largest change of level, dB; 0 leaves it."""

    def __post_init__(self) -> None:
        slowest, fastest = self.stretch_factor
        if not 0.5 <= slowest <= fastest <= 2.0 or not 0.0 <= self.pitch_semitones <= 6.0:
            raise ClaraError(
                f"stretch_factor={self.stretch_factor}, pitch_semitones={self.pitch_semitones}: expected factors from "
                "0.5 to 2 and at most 6 semitones; beyond that a clip no longer is what its label says."
            )
        if not self.codecs:
            raise ClaraError("augment.codecs is empty: name at least one, or set augment.codec to 0.")

    @property
    def fastest(self) -> float:
        """How much longer than what is kept a crop must be, so that playing it faster leaves enough."""
        return 1.1 * (self.stretch_factor[1] if self.stretch > 0 else 1.0)


def augment_wave(wave_T: np.ndarray, rate: int, config: WaveAugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Voice, room and channel, noise, clipping, codec, gain, in the order in which a recording meets them.

    What is off draws nothing, so that a recipe keeps its random numbers when an augmentation is added here.
    """
    if config.stretch > 0 and rng.random() < config.stretch:
        wave_T = time_stretch(wave_T, rng.uniform(*config.stretch_factor))
    if config.pitch > 0 and rng.random() < config.pitch:
        wave_T = pitch_shift(wave_T, rng.uniform(-config.pitch_semitones, config.pitch_semitones))
    if config.speed > 0:
        wave_T = change_speed(wave_T, 1.0 + rng.uniform(-config.speed, config.speed))
    if rng.random() < config.channel:
        wave_T = channel(wave_T, rate, config, rng)
    if rng.random() < config.noise:
        wave_T = add_noise(wave_T, rng.uniform(*config.noise_snr_db), rng)
    if rng.random() < config.clip:
        limit = np.quantile(np.abs(wave_T), rng.uniform(0.9, 0.995)) + 1e-5
        wave_T = np.clip(wave_T, -limit, limit)
    if config.codec > 0 and rng.random() < config.codec:
        wave_T = codec(wave_T, rate, config.codecs[rng.integers(len(config.codecs))], rng.random())
    if config.gain_db > 0:
        wave_T = wave_T * np.float32(10 ** (rng.uniform(-config.gain_db, config.gain_db) / 20))
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
        noise = np.fft.irfft(np.fft.rfft(noise) / (1 - a * w).astype(np.complex64), n).astype(np.float32, copy=False)
    return mix(wave_T, noise[: len(wave_T)], snr_db)


def mix(wave_T: np.ndarray, other_T: np.ndarray, snr_db: float, offset: int = 0) -> np.ndarray:
    """`wave_T` plus `other_T` from sample `offset` on, scaled to lie `snr_db` below it (of their louder halves)."""
    end = min(len(wave_T), offset + len(other_T))
    other_T = other_T[: max(0, end - offset)]
    if not len(other_T):
        return wave_T
    power, other_power = active_power(wave_T), active_power(other_T)
    out = wave_T.astype(np.float32, copy=True)
    out[offset:end] += other_T * np.float32(np.sqrt(power / other_power / 10 ** (snr_db / 10)))
    return out


def active_power(wave_T: np.ndarray) -> float:
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
    """SpecAugment (Park et al. 2019) and Freq-MixStyle, on the front-end's frames."""

    time_masks: int = 2
    """Number of masks in time."""
    time_share: float = 0.12
    """Widest time mask, as a share of the clip."""
    bin_masks: int = 2
    """Number of masks in frequency."""
    bin_share: float = 0.15
    """Widest frequency mask, as a share of the bands."""
    shift_bins: int = 0
    """Largest shift along frequency, bands; 0 = off."""
    style: float = 0.0
    """Probability that a clip takes over part of another clip's statistics per band (Freq-MixStyle)."""
    style_alpha: float = 0.3
    """The share that it keeps is drawn from Beta(style_alpha, style_alpha)."""


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
        if c.style > 0 and B > 1:
            share_B = torch.distributions.Beta(c.style_alpha, c.style_alpha).sample((B,)).to(x_BNF)
            share_B = torch.where(torch.rand(B, device=x_BNF.device) < c.style, share_B, 1.0)
            x_BNF = mix_style(x_BNF, mask_BN, torch.randperm(B, device=x_BNF.device), share_B)
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


def mix_style(x_BNF: Tensor, mask_BN: Tensor, other_B: Tensor, share_B: Tensor) -> Tensor:
    """MixStyle (Zhou et al. 2021, section 3.2) on frequency-wise statistics (Kim et al. 2022, Freq-MixStyle).

    Each clip's bands are standardised over its own frames, then given a mean and deviation between its own (weight
    `share_B`) and those of clip `other_B` of the batch: another microphone, room or voice, the same words. Under a
    front-end that already subtracts each band's mean, the deviations are what is mixed. Padding stays 0.
    """
    keep, share = mask_BN[..., None], share_B[:, None, None]
    count = keep.sum(1, keepdim=True).clamp_min(1)
    mean = x_BNF.masked_fill(~keep, 0.0).sum(1, keepdim=True) / count
    centred = (x_BNF - mean).masked_fill(~keep, 0.0)
    std = (centred.square().sum(1, keepdim=True) / count + 1e-5).sqrt()
    new_mean = share * mean + (1 - share) * mean[other_B]
    new_std = share * std + (1 - share) * std[other_B]
    return (centred / std * new_std + new_mean).masked_fill(~keep, 0.0)
