"""What devices do to a recording: tempo and pitch apart, mu-law, a low rate, lossy codecs, gain.

All take and return float32 numpy (T,) and keep the length, except `time_stretch`. What is random is passed in.
"""

from __future__ import annotations

import io

import numpy as np
import soundfile as sf
import soxr
import torch
from torchaudio.functional import phase_vocoder

from clara.errors import ClaraError, unknown

CODECS = ("mu-law", "low-rate", "vorbis", "opus", "mp3")
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
# container, subtype, and soundfile's compression level at strength 0 (at 1: 0.99)
STORED_AS = {"vorbis": ("OGG", "VORBIS", 0.3), "opus": ("OGG", "OPUS", 0.85), "mp3": ("MP3", "MPEG_LAYER_III", 0.5)}
FFT = 512


def time_stretch(wave_T: np.ndarray, factor: float) -> np.ndarray:
    """Play `factor` times faster at the same pitch, by a phase vocoder: (T / factor,)."""
    n = max(1, round(len(wave_T) / factor))
    window = torch.hann_window(FFT)
    padded = np.pad(wave_T, (0, max(0, FFT - len(wave_T))))
    spec = torch.stft(torch.from_numpy(padded), FFT, FFT // 4, window=window, return_complex=True)
    advance = torch.linspace(0, np.pi * (FFT // 4), FFT // 2 + 1)[:, None]
    spec = phase_vocoder(spec, factor, advance)
    return torch.istft(spec, FFT, FFT // 4, window=window, length=n).numpy()


def pitch_shift(wave_T: np.ndarray, semitones: float) -> np.ndarray:
    """Higher by `semitones` at the same tempo: stretched, then resampled back to the length it had."""
    ratio = 2.0 ** (semitones / 12.0)
    out = soxr.resample(time_stretch(wave_T, 1.0 / ratio), ratio, 1.0, quality="MQ")
    return fit(out, len(wave_T))


def codec(wave_T: np.ndarray, rate: int, name: str, strength: float) -> np.ndarray:
    """The wave as a device would pass it on. `strength` from 0 (hardly heard) to 1 (a bad line).

    'mu-law': 8 to 4 bits on telephony's logarithmic scale (ITU-T G.711's law). 'low-rate': resampled cheaply to between
    0.75 and 0.375 of its rate and back. 'vorbis', 'opus', 'mp3': encoded and decoded by soundfile. ClaraError for
    another name, or MP3 where this libsndfile cannot write it.
    """
    if name == "mu-law":
        return _mu_law(wave_T, levels=2 ** (7 - round(4 * strength)))
    if name == "low-rate":
        low = (0.75 - 0.375 * strength) * rate
        return fit(soxr.resample(soxr.resample(wave_T, rate, low, quality="LQ"), low, rate, quality="QQ"), len(wave_T))
    if name not in STORED_AS:
        raise unknown("codec", name, CODECS)
    peak = float(np.abs(wave_T).max(initial=0.0))
    if peak <= 0.0:
        return wave_T
    scale = max(1.0, peak)  # encoders cut what exceeds full scale
    container, subtype, least = STORED_AS[name]
    stored = min((r for r in OPUS_RATES if r >= rate), default=48000) if name == "opus" else rate
    encoded = io.BytesIO()
    try:
        wave = wave_T / scale if stored == rate else soxr.resample(wave_T / scale, rate, stored, quality="MQ")
        level = least + (0.99 - least) * strength
        sf.write(encoded, wave, stored, subtype, format=container, compression_level=level)
        encoded.seek(0)
        decoded, _ = sf.read(encoded, dtype="float32")
    except sf.LibsndfileError as e:
        raise ClaraError(
            f"{name} at {rate} Hz cannot be written by libsndfile {sf.__libsndfile_version__}: {e}."
        ) from e
    decoded = decoded if stored == rate else soxr.resample(decoded, stored, rate, quality="MQ")
    return fit(decoded * np.float32(scale), len(wave_T))


def fit(wave_T: np.ndarray, size: int) -> np.ndarray:
    """Cut, or padded with silence, to `size` samples."""
    return np.pad(wave_T[:size], (0, max(0, size - len(wave_T)))).astype(np.float32, copy=False)


def _mu_law(wave_T: np.ndarray, levels: int, mu: float = 255.0) -> np.ndarray:
    """Quantised to `levels` steps either side of 0, of the clip's own peak, on a logarithmic scale."""
    peak = np.abs(wave_T).max(initial=0.0) + 1e-9
    scaled = np.sign(wave_T) * np.log1p(mu * np.abs(wave_T) / peak) / np.log1p(mu)
    scaled = np.round(scaled * levels) / levels
    return (peak * np.sign(scaled) * np.expm1(np.abs(scaled) * np.log1p(mu)) / mu).astype(np.float32)
