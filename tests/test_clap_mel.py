"""The CLAP family's front-end gives what transformers' ClapFeatureExtractor gives, without its dice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import ClapFeatureExtractor

from clara.audio.clap_mel import ClapMel, ClapMelConfig, excerpts
from clara.audio.features import FRONT_ENDS, pad_waves
from clara.config import Spec
from clara.errors import ClaraError

SMALL = {"sample_rate": 8000, "window_seconds": 1.0, "n_fft": 256, "hop_length": 80, "n_mels": 32, "f_max": 3800.0}
WINDOW, FRAMES = 8000, 101


def noise(samples: int) -> Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(samples))


def theirs(truncation: str, fill: str = "repeatpad") -> ClapFeatureExtractor:
    return ClapFeatureExtractor(
        feature_size=32,
        sampling_rate=8000,
        hop_length=80,
        max_length_s=1,
        fft_window_size=256,
        frequency_min=50,
        frequency_max=3800,
        truncation=truncation,
        padding=fill,
    )


@pytest.mark.parametrize("fill", ["repeatpad", "repeat", "pad"])
@pytest.mark.parametrize("samples", [WINDOW, 7999, 3000, 2667, 129, 1])
def test_filled_windows_are_transformers(fill: str, samples: int) -> None:
    for bank, truncation in (("slaney", "rand_trunc"), ("htk", "fusion")):
        ours = ClapMel(ClapMelConfig(**SMALL, bank=bank, fill=fill))
        wave_T = noise(samples)
        x_1NF, mask_1N = ours(wave_T[None], torch.tensor([samples]))
        expected = theirs(truncation, fill)(wave_T.numpy(), sampling_rate=8000, return_tensors="pt").input_features
        torch.testing.assert_close(x_1NF[0], expected[0, 0].float(), rtol=0, atol=1e-2 if samples < 3 else 1e-3)
        assert mask_1N.all()


@pytest.mark.parametrize("samples", [8001, 8079, 8080, 8160, 12000, 30000])
def test_fusion_is_transformers_with_the_dice_fixed(samples: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(np.random, "choice", lambda options: options[len(options) // 2])
    monkeypatch.setattr(np.random, "randint", lambda *span: 0)
    from torch.nn import functional

    resize = functional.interpolate  # theirs says 64 bins, whatever the bank
    monkeypatch.setattr(functional, "interpolate", lambda x, size, **rest: resize(x, (size[0], 32), **rest))
    wave_T = noise(samples)
    out = theirs("fusion")(wave_T.numpy(), sampling_rate=8000, return_tensors="pt")
    monkeypatch.undo()
    x_1NF, mask_1N = ClapMel(ClapMelConfig(**SMALL, bank="htk", fusion=True))(wave_T[None], torch.tensor([samples]))
    longer = samples >= WINDOW + 80
    assert (x_1NF.shape[1], bool(mask_1N.all())) == ((4 if longer else 1) * FRAMES, True)
    expected = out.input_features.float()[:, : 4 if longer else 1].flatten(1, 2)
    torch.testing.assert_close(x_1NF, expected, rtol=0, atol=1e-3)


def test_a_clip_alone_and_beside_longer_ones() -> None:
    front_end = ClapMel(ClapMelConfig(**SMALL, fusion=True))
    waves = [noise(n) for n in (500, WINDOW, 8040, 20000)]
    for company in (waves[:2], waves):
        wave_BT, len_B = pad_waves(company)
        inside = torch.arange(wave_BT.shape[1]) < len_B[:, None]
        x_BNF, mask_BN = front_end(wave_BT.masked_fill(~inside, torch.nan), len_B)
        for i, wave in enumerate(company):
            x_1NF, mask_1N = front_end(wave[None], len_B[i : i + 1])
            torch.testing.assert_close(x_BNF[i][mask_BN[i]], x_1NF[mask_1N], rtol=0, atol=1e-5)
        assert mask_BN[:, :FRAMES].all()
    assert mask_BN.sum(1).tolist() == [FRAMES, FRAMES, FRAMES, 4 * FRAMES]
    assert not x_BNF[~mask_BN].any()


def test_clips_of_their_own_length_are_reflected_at_their_own_end() -> None:
    """With `fill_seconds`: filled to that with silence, longer ones whole, each as the fixed window of its length."""
    ours = ClapMel(ClapMelConfig(**{**SMALL, "window_seconds": 2.0}, fill="pad", fill_seconds=0.5))
    lengths = [1000, 4000, 8000, 16000, 9001]
    waves = [noise(n) for n in lengths]
    x_BNF, mask_BN = ours(*pad_waves(waves))
    assert mask_BN.sum(1).tolist() == [51, 51, 101, 201, 113]
    for i, (wave_T, frames) in enumerate(zip(waves, mask_BN.sum(1).tolist())):
        seconds = max(len(wave_T), 4000) / 8000
        alone = ClapMel(ClapMelConfig(**{**SMALL, "window_seconds": seconds}, fill="pad"))
        expected_1NF, _ = alone(wave_T[None], torch.tensor([len(wave_T)]))
        torch.testing.assert_close(x_BNF[i, :frames], expected_1NF[0], rtol=0, atol=1e-4)
    x_1NF, mask_1N = ours(*pad_waves(waves[:1]))
    assert mask_1N.all()
    torch.testing.assert_close(x_1NF[0], x_BNF[0, :51], rtol=0, atol=1e-5)


def test_int16_is_the_round_trip_of_the_peers() -> None:
    wave_T = 1.2 * torch.randn(WINDOW)
    quantised = (np.clip(wave_T.numpy(), -1, 1) * 32767.0).astype(np.int16).astype(np.float32) / 32767.0
    plain, rounded = ClapMel(ClapMelConfig(**SMALL)), ClapMel(ClapMelConfig(**SMALL, int16=True))
    len_B = torch.tensor([WINDOW])
    expected = plain(torch.from_numpy(quantised)[None], len_B)[0]
    torch.testing.assert_close(rounded(wave_T[None], len_B)[0], expected, rtol=0, atol=1e-4)
    assert (plain(wave_T[None], len_B)[0] - expected).abs().max() > 1e-2


def test_silence_autocast_and_the_state() -> None:
    front_end = FRONT_ENDS.create(Spec("clap_mel", SMALL))
    assert front_end.state_dict() == {}
    assert (front_end(torch.zeros(1, WINDOW), torch.tensor([WINDOW]))[0] == -100.0).all()
    wave_BT, len_B = noise(WINDOW)[None], torch.tensor([WINDOW])
    expected = front_end(wave_BT, len_B)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(front_end(wave_BT, len_B)[0], expected)


def test_excerpts_lie_in_the_thirds() -> None:
    assert excerpts(102, 101) == [0, 1, 0]
    assert excerpts(103, 101) == [0, 1, 2]
    first, second, third = excerpts(1000, 101)
    assert 0 <= first < 300 <= second < 600 <= third <= 899


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ClaraError, match="8001 samples, the window is 8000"):
        ClapMel(ClapMelConfig(**SMALL))(torch.zeros(1, 8001), torch.tensor([8001]))
    with pytest.raises(ClaraError, match=r"Unknown filter bank 'slany'\. Did you mean 'slaney'"):
        ClapMel(ClapMelConfig(bank="slany"))
    with pytest.raises(ClaraError, match="fill_seconds goes with fill: pad"):
        ClapMel(ClapMelConfig(fill_seconds=5.0))
    with pytest.raises(ClaraError, match="at most the window"):
        ClapMel(ClapMelConfig(fill="pad", fill_seconds=15.0))
    with pytest.raises(ClaraError, match="Unknown fill 'repeet'"):
        ClapMel(ClapMelConfig(fill="repeet"))
