"""Front-ends: wave_BT and len_B -> x_BNF and mask_BN. A front-end belongs to the weights and is saved in their config.

Statistics are per clip, never per batch: a clip alone and beside longer clips gives the same features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchaudio
from torch import Tensor, nn

from clara.config import Registry
from clara.errors import ClaraError


class FrontEnd(nn.Module):
    """Attributes: `sample_rate` Hz, `window_seconds` (longest clip seen at once), `bins` F, `fusion` (whether longer
    clips are taken whole)."""

    sample_rate: int
    window_seconds: float
    bins: int
    fusion: bool = False

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FrontEnd:
        """As the module's own, but that tables follow the model to its device alone, and stay float32: a window or a
        filter in half precision would raise the floor of what is heard."""
        return super()._apply(lambda t: t.to(fn(t).device), recurse)

    def forward(self, wave_BT: Tensor, len_B: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


FRONT_ENDS: Registry[FrontEnd] = Registry("front-end")


@dataclass(frozen=True)
class LogMelConfig:
    """Log-mel front-end: wave_BT -> x_BNF in dB, normalised per clip or by fixed numbers."""

    sample_rate: int = 16000
    """Hz."""
    window_seconds: float = 10.0
    """Longest clip read at once, seconds."""
    n_fft: int = 512
    """FFT size, samples."""
    win_length: int = 400
    """Length of the Hann window, samples."""
    hop_length: int = 160
    """Samples between frames."""
    n_mels: int = 64
    """Number of mel bands, F."""
    f_min: float = 50.0
    """Lower edge of the filters, Hz."""
    f_max: float = 8000.0
    """Upper edge of the filters, Hz."""
    mel_scale: str = "htk"
    """'htk' or 'slaney'."""
    mel_norm: str | None = None
    """'slaney' divides each filter by its width; null leaves them."""
    normalize: str = "band"
    """'band' (each band's mean, one deviation per clip), 'clip' (one mean and deviation), 'fixed' or 'peak'."""
    mean: float = 0.0
    """Subtracted under 'fixed' and 'peak', dB; 'peak' counts dB below the clip's peak."""
    std: float = 1.0
    """Divisor under 'fixed' and 'peak', dB."""
    floor_db: float = 80.0
    """Values further below the clip's peak are raised to this distance, dB."""
    offset: float = 0.0
    """Added to the power before the logarithm."""
    min_frames: int = 32
    """Shorter clips are padded to this many frames."""
    pad_mode: str = "constant"
    """What a frame sees beyond the ends: 'constant' (silence) or 'reflect' (the clip mirrored)."""


@FRONT_ENDS.register("log_mel", LogMelConfig)
class LogMel(FrontEnd):
    """Log-mel spectrogram, ten frames a 100 ms by default; masked statistics, so padding never counts."""

    def __init__(self, config: LogMelConfig) -> None:
        super().__init__()
        if config.normalize not in ("band", "clip", "fixed", "peak"):
            raise ClaraError(f"front-end normalize={config.normalize!r}: expected 'band', 'clip', 'fixed' or 'peak'.")
        if config.pad_mode not in ("constant", "reflect"):
            raise ClaraError(f"front-end pad_mode={config.pad_mode!r}: expected 'constant' or 'reflect'.")
        self.config = config
        self.sample_rate, self.window_seconds, self.bins = config.sample_rate, config.window_seconds, config.n_mels
        bank = torchaudio.functional.melscale_fbanks(
            config.n_fft // 2 + 1,
            config.f_min,
            config.f_max,
            config.n_mels,
            config.sample_rate,
            norm=config.mel_norm,
            mel_scale=config.mel_scale,
        )
        self.bank: Tensor
        self.hann: Tensor
        self.register_buffer("bank", bank, persistent=False)
        self.register_buffer("hann", torch.hann_window(config.win_length), persistent=False)

    def forward(self, wave_BT: Tensor, len_B: Tensor) -> tuple[Tensor, Tensor]:
        """wave_BT float in [-1, 1], len_B in samples -> x_BNF, mask_BN; N = T // hop + 1, at least min_frames."""
        c = self.config
        wave_BT = wave_BT.float()
        inside = torch.arange(wave_BT.shape[1], device=wave_BT.device)[None] < len_B[:, None]
        wave_BT = torch.where(inside, wave_BT, wave_BT.new_zeros(()))
        short = c.min_frames * c.hop_length - wave_BT.shape[1]
        if short > 0:
            wave_BT = nn.functional.pad(wave_BT, (0, short))
        if c.pad_mode == "reflect":
            wave_BT = mirror_ends(wave_BT, len_B, c.n_fft // 2)
        else:
            wave_BT = nn.functional.pad(wave_BT, (c.n_fft // 2, c.n_fft // 2))
        with torch.autocast(wave_BT.device.type, enabled=False):
            power_BNF = power_spectrum(wave_BT, c.n_fft, c.hop_length, self.hann).transpose(1, 2) @ self.bank
        frames_B = len_B // c.hop_length + 1
        mask_BN = torch.arange(power_BNF.shape[1], device=wave_BT.device)[None] < frames_B[:, None]
        return self._normalize(power_BNF, mask_BN), mask_BN

    def _normalize(self, power_BNF: Tensor, mask_BN: Tensor) -> Tensor:
        c, keep = self.config, mask_BN[..., None]
        db = 10.0 * (power_BNF + c.offset).clamp_min(1e-10).log10()
        peak = db.masked_fill(~keep, -100.0).amax(dim=(1, 2), keepdim=True)
        x = torch.maximum(db, peak - c.floor_db)
        if c.normalize in ("fixed", "peak"):
            x = x - peak if c.normalize == "peak" else x
            return ((x - c.mean) / c.std).masked_fill(~keep, 0.0)
        count = keep.sum(1, keepdim=True)
        mean = x.masked_fill(~keep, 0.0).sum(1, keepdim=True) / count
        if c.normalize == "clip":
            mean = mean.mean(2, keepdim=True)
        x = (x - mean).masked_fill(~keep, 0.0)
        std = (x.square().sum((1, 2), keepdim=True) / (count * x.shape[2])).sqrt()
        return x / (std + 1.0)


@dataclass(frozen=True)
class WaveformConfig:
    """Raw samples, for towers that learn their own filters (wav2vec 2.0, HuBERT, WavLM)."""

    sample_rate: int = 16000
    """Hz."""
    window_seconds: float = 10.0
    """Longest clip read at once, seconds."""
    normalize: bool = True
    """Zero mean and unit variance per clip."""
    min_samples: int = 1600
    """Shorter clips are padded to this many samples."""


@FRONT_ENDS.register("waveform", WaveformConfig)
class Waveform(FrontEnd):
    """x_BNF is the wave itself: N = T samples, F = 1."""

    bins = 1

    def __init__(self, config: WaveformConfig) -> None:
        super().__init__()
        self.config = config
        self.sample_rate, self.window_seconds = config.sample_rate, config.window_seconds

    def forward(self, wave_BT: Tensor, len_B: Tensor) -> tuple[Tensor, Tensor]:
        """wave_BT, len_B (samples) -> x_BT1, mask_BT."""
        short = self.config.min_samples - wave_BT.shape[1]
        wave_BT = nn.functional.pad(wave_BT.float(), (0, max(0, short)))
        mask_BT = torch.arange(wave_BT.shape[1], device=wave_BT.device)[None] < len_B[:, None]
        wave_BT = wave_BT.masked_fill(~mask_BT, 0.0)
        if self.config.normalize:
            mean = wave_BT.sum(1, keepdim=True) / len_B[:, None]
            centred = (wave_BT - mean).masked_fill(~mask_BT, 0.0)
            var = centred.square().sum(1, keepdim=True) / len_B[:, None]
            wave_BT = centred / (var + 1e-7).sqrt()
        return wave_BT[..., None], mask_BT


def power_spectrum(wave_BT: Tensor, n_fft: int, hop: int, window: Tensor) -> Tensor:
    """Squared magnitudes of the short-time Fourier transform, not centred: (B, n_fft // 2 + 1, N). Where a graph is
    traced, as a convolution with sines and cosines: formats for exchange know no complex numbers."""
    if not torch.jit.is_tracing():
        spec = torch.stft(wave_BT, n_fft, hop, len(window), window, center=False, return_complex=True)
        return spec.real.square() + spec.imag.square()
    left = (n_fft - len(window)) // 2
    window = nn.functional.pad(window.double(), (left, n_fft - len(window) - left))
    turn = torch.arange(n_fft // 2 + 1).outer(torch.arange(n_fft)) % n_fft * (2 * torch.pi / n_fft)
    waves_K1T = (torch.cat([turn.double().cos(), turn.double().sin()]) * window)[:, None].float()
    real_BKN, imag_BKN = nn.functional.conv1d(wave_BT[:, None], waves_K1T, stride=hop).chunk(2, 1)
    return real_BKN.square() + imag_BKN.square()


def mirror_ends(wave_BT: Tensor, len_B: Tensor, size: int) -> Tensor:
    """Each clip of `len_B` samples with `size` more at both of its own ends, mirrored there: (B, T + 2 size). What lies
    beyond the mirrored end is not zero: mask it."""
    place = torch.arange(-size, wave_BT.shape[1] + size, device=wave_BT.device)
    period_B1 = (2 * (len_B - 1)).clamp_min(1)[:, None]
    place_BT = place % period_B1
    return wave_BT.gather(1, torch.minimum(place_BT, period_B1 - place_BT).clamp_max(wave_BT.shape[1] - 1))


def pad_waves(waves: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Waves (T_i,) -> wave_BT zero-padded to the longest, len_B in samples."""
    len_B = torch.tensor([len(w) for w in waves])
    return nn.utils.rnn.pad_sequence(waves, batch_first=True), len_B
