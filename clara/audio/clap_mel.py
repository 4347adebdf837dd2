"""The front-end of the CLAP family: a fixed window, filled by repeating short clips, as log-mel in decibels.

One class for LAION-CLAP and transformers' ClapFeatureExtractor (48 kHz, hop 480, 50–14000 Hz) and, by its numbers,
Microsoft CLAP and WavCaps. Where the peers draw at random, positions are fixed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torchaudio
from torch import Tensor
from torch.nn.functional import interpolate, pad

from clara.audio.features import FRONT_ENDS, FrontEnd
from clara.errors import ClaraError, unknown

BANKS = {"slaney": ("slaney", "slaney"), "htk": ("htk", None)}  # mel scale, norm: librosa's and torchaudio's defaults
FILLS = ("repeatpad", "repeat", "pad")


@dataclass(frozen=True)
class ClapMelConfig:
    """The log-mel front-ends of LAION's and Microsoft's CLAP and of WavCaps."""

    sample_rate: int = 48000
    """Hz."""
    window_seconds: float = 10.0
    """Longest clip read at once, seconds."""
    n_fft: int = 1024
    """FFT size, samples."""
    hop_length: int = 480
    """Samples between frames."""
    n_mels: int = 64
    """Number of mel bands, F."""
    f_min: float = 50.0
    """Lower edge of the filters, Hz."""
    f_max: float = 14000.0
    """Upper edge of the filters, Hz."""
    bank: str = "slaney"
    """'slaney' (librosa's filters, unfused models) or 'htk' (torchaudio's, fused models)."""
    bank_rate: int | None = None
    """Sample rate the filters are laid out for, Hz; null = sample_rate (Microsoft CLAP 2023 differs)."""
    fill: str = "repeatpad"
    """Short clips: 'repeatpad' (whole repeats, then silence), 'repeat' (cut at the end) or 'pad' (silence)."""
    fill_seconds: float | None = None
    """Fill only to this length, seconds, and keep longer clips as they are; null = to the window."""
    int16: bool = False
    """Round samples to 16 bits first, as LAION's code does with files."""
    fusion: bool = False
    """Accept clips longer than the window, for towers with attentional feature fusion."""


@FRONT_ENDS.register("clap_mel", ClapMelConfig)
class ClapMel(FrontEnd):
    """wave_BT, len_B -> x_BNF in dB and mask_BN, N = window // hop + 1, with `fill_seconds` at most. What fills a short
    clip is part of what these models were trained on: its frames are real, and a clip's vector does not depend on its
    neighbours.

    With `fusion`, waves may be longer. If a clip is, N is four windows: the clip's only window or, of a longer one, the
    whole of it shrunk to one; then three excerpts, at the middles of the clip's first, second and last third of
    possible positions (LAION draws one in each), masked out in shorter clips (Wu et al. 2023, sec. 3.2)."""

    def __init__(self, config: ClapMelConfig) -> None:
        super().__init__()
        if config.bank not in BANKS:
            raise unknown("filter bank", config.bank, BANKS)
        if config.fill not in FILLS:
            raise unknown("fill", config.fill, FILLS)
        self.config, self.fusion = config, config.fusion
        self.sample_rate, self.window_seconds, self.bins = config.sample_rate, config.window_seconds, config.n_mels
        self.samples = round(config.window_seconds * config.sample_rate)
        self.frames = self.samples // config.hop_length + 1
        self.least = None if config.fill_seconds is None else round(config.fill_seconds * config.sample_rate)
        if self.least is not None and (config.fill != "pad" or config.fusion or self.least > self.samples):
            raise ClaraError("clap_mel: fill_seconds goes with fill: pad and no fusion, and is at most the window.")
        bank = filters(config)
        used = bank.sum(1).nonzero()[:, 0]
        self.lowest, self.highest = int(used[0]), int(used[-1]) + 1  # no filter reaches beyond
        self.bank_FK: Tensor
        self.hann: Tensor
        self.register_buffer("bank_FK", bank[self.lowest : self.highest].T.contiguous(), persistent=False)
        self.register_buffer("hann", torch.hann_window(config.n_fft), persistent=False)

    def forward(self, wave_BT: Tensor, len_B: Tensor) -> tuple[Tensor, Tensor]:
        """wave_BT float in [-1, 1], len_B in samples. ClaraError for a wave beyond the window without `fusion`."""
        c, wave_BT = self.config, wave_BT.float()
        if wave_BT.shape[1] > self.samples and not c.fusion:
            raise ClaraError(
                f"A wave of {wave_BT.shape[1]} samples, the window is {self.samples}: cut it into windows (embed_audio "
                "does), or use a fused model."
            )
        if c.int16:
            wave_BT = (wave_BT.clamp(-1.0, 1.0) * 32767.0).trunc() / 32767.0
        with torch.autocast(wave_BT.device.type, enabled=False):
            if self.least is not None:
                return self._varied(wave_BT, len_B, self.least)
            if wave_BT.shape[1] <= self.samples:
                x_BNF = self._log_mel(self._filled(wave_BT, len_B))
                return x_BNF, x_BNF.new_ones(x_BNF.shape[:2], dtype=torch.bool)
            return self._fused(wave_BT, len_B)

    def _filled(self, wave_BT: Tensor, len_B: Tensor) -> Tensor:
        """Every clip brought to the window: (B, samples)."""
        if wave_BT.shape[1] == self.samples and bool((len_B == self.samples).all()):
            return wave_BT
        at_S, len_B1 = torch.arange(self.samples, device=wave_BT.device), len_B[:, None].clamp_min(1)
        kept_B1 = {"repeat": len_B1 * self.samples, "pad": len_B1, "repeatpad": self.samples // len_B1 * len_B1}[
            self.config.fill
        ]
        filled_BS = wave_BT.gather(1, at_S % len_B1)
        return torch.where(at_S < kept_B1, filled_BS, filled_BS.new_zeros(()))

    def _log_mel(self, wave_BT: Tensor) -> Tensor:
        """Decibels of power against 1, at least -100: (B, T // hop + 1, F)."""
        edge = self.config.n_fft // 2
        return self._decibels(pad(wave_BT[:, None], (edge, edge), mode="reflect")[:, 0])

    def _varied(self, wave_BT: Tensor, len_B: Tensor, least: int) -> tuple[Tensor, Tensor]:
        """Clips of their own lengths, each reflected at its own end, as if it were alone."""
        inside_BT = torch.arange(wave_BT.shape[1], device=wave_BT.device) < len_B[:, None]
        wave_BT = torch.where(inside_BT, wave_BT, wave_BT.new_zeros(()))
        wave_BT = pad(wave_BT, (0, max(0, least - wave_BT.shape[1])))
        len_B, edge = len_B.clamp_min(least), self.config.n_fft // 2
        at_S, last_B1 = torch.arange(-edge, wave_BT.shape[1] + edge, device=wave_BT.device).abs(), len_B[:, None] - 1
        x_BNF = self._decibels(wave_BT.gather(1, (last_B1 - (last_B1 - at_S).abs()).clamp_min(0)))
        frames_B = len_B // self.config.hop_length + 1
        return x_BNF, torch.arange(x_BNF.shape[1], device=x_BNF.device) < frames_B[:, None]

    def _decibels(self, wave_BT: Tensor) -> Tensor:
        c = self.config
        spec = torch.stft(wave_BT, c.n_fft, c.hop_length, window=self.hann, center=False, return_complex=True)
        spec = torch.view_as_real(spec[:, self.lowest : self.highest])
        power_BFN = self.bank_FK @ spec.square().sum(-1)
        return 10.0 * power_BFN.clamp_min(1e-10).log10().transpose(1, 2)

    def _fused(self, wave_BT: Tensor, len_B: Tensor) -> tuple[Tensor, Tensor]:
        n, lengths = self.frames, len_B.tolist()
        x_BNF = wave_BT.new_zeros(len(lengths), 4, n, self.bins)
        mask_BN = torch.zeros(len(lengths), 4, n, dtype=torch.bool, device=wave_BT.device)
        mask_BN[:, 0] = True
        for i, length in enumerate(lengths):
            clip = wave_BT[i : i + 1, :length]
            mel_NF = self._log_mel(clip if length > self.samples else self._filled(clip, len_B[i : i + 1]))[0]
            if len(mel_NF) == n:  # also a clip longer than the window by less than a hop
                x_BNF[i, 0] = mel_NF
                continue
            x_BNF[i, 0] = interpolate(mel_NF[None, None], (n, self.bins), mode="bilinear", align_corners=False)[0, 0]
            x_BNF[i, 1:] = torch.stack([mel_NF[start : start + n] for start in excerpts(len(mel_NF), n)])
            mask_BN[i] = True
        if not bool(mask_BN[:, 1].any()):
            x_BNF, mask_BN = x_BNF[:, :1], mask_BN[:, :1]
        return x_BNF.flatten(1, 2), mask_BN.flatten(1, 2)


def filters(config: ClapMelConfig) -> Tensor:
    """The mel filters: (n_fft // 2 + 1, n_mels)."""
    scale, norm = BANKS[config.bank]
    rate = config.bank_rate or config.sample_rate
    bins = config.n_fft // 2 + 1
    return torchaudio.functional.melscale_fbanks(bins, config.f_min, config.f_max, config.n_mels, rate, norm, scale)


def excerpts(total: int, frames: int) -> list[int]:
    """First frames of the three excerpts of `frames` among `total`: the middle of each third of the positions; 0 in a
    third that has none, as in the peers."""
    thirds = torch.arange(total - frames + 1).tensor_split(3)
    return [int(third[len(third) // 2]) if len(third) else 0 for third in thirds]
