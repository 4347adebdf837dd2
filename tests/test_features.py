"""Front-ends: masks, lengths, normalisation; per clip, so that a batch-mate changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchaudio

from clara.audio.features import FRONT_ENDS, pad_waves
from clara.config import Spec
from clara.errors import ClaraError

SPECS = [
    Spec("log_mel", {"normalize": "band"}),
    Spec("log_mel", {"normalize": "clip", "n_mels": 40, "n_fft": 400}),
    Spec("log_mel", {"normalize": "fixed", "mean": -40.0, "std": 40.0, "mel_scale": "slaney", "mel_norm": "slaney"}),
    Spec("waveform"),
    Spec("waveform", {"normalize": False}),
]
EXACT = {"rtol": 0.0, "atol": 1e-5}


@pytest.fixture(params=SPECS, ids=lambda s: f"{s.kind}-{s.options.get('normalize', True)}")
def front_end(request: pytest.FixtureRequest) -> torch.nn.Module:
    return FRONT_ENDS.create(request.param).eval()


def test_every_front_end_is_tested() -> None:
    elsewhere = {"clap_mel"}  # tests/test_clap_mel.py
    assert {s.kind for s in SPECS} == set(FRONT_ENDS.names()) - elsewhere


def test_shapes_and_attributes(front_end: torch.nn.Module) -> None:
    len_B = torch.tensor([16000, 32000, 1])
    x_BNF, mask_BN = front_end(torch.randn(3, 32000), len_B)
    assert x_BNF.shape == (*mask_BN.shape, front_end.bins)
    assert x_BNF.isfinite().all()
    assert (mask_BN.sum(1) == (len_B if front_end.bins == 1 else len_B // 160 + 1)).all()
    assert (x_BNF[~mask_BN] == 0).all()
    assert front_end.sample_rate == 16000
    assert front_end.window_seconds == 10.0


def test_alone_in_a_batch_and_with_noise_in_the_padding(front_end: torch.nn.Module) -> None:
    waves = [torch.randn(n) for n in (8000, 30000, 12345)]
    wave_BT, len_B = pad_waves(waves)
    x_BNF, mask_BN = front_end(wave_BT, len_B)
    for i, wave in enumerate(waves):
        x_1NF, mask_1N = front_end(wave[None], len_B[i : i + 1])
        torch.testing.assert_close(x_BNF[i][mask_BN[i]], x_1NF[0][mask_1N[0]], **EXACT)
    inside = torch.arange(wave_BT.shape[1])[None] < len_B[:, None]
    torch.testing.assert_close(front_end(wave_BT.masked_fill(~inside, 9.0), len_B)[0], x_BNF, **EXACT)
    torch.testing.assert_close(front_end(wave_BT.masked_fill(~inside, torch.nan), len_B)[0], x_BNF, **EXACT)


def test_silence_and_one_sample_are_finite(front_end: torch.nn.Module) -> None:
    for wave_BT in (torch.zeros(2, 16000), torch.ones(2, 1), torch.full((2, 16000), 1e-12)):
        x_BNF, mask_BN = front_end(wave_BT, torch.tensor([wave_BT.shape[1], 1]))
        assert x_BNF.isfinite().all()
        assert mask_BN.any(1).all()


def test_log_mel_is_torchaudios() -> None:
    """Without normalisation, against torchaudio's MelSpectrogram, away from the edges (its padding reflects)."""
    ours = FRONT_ENDS.create(Spec("log_mel", {"normalize": "fixed", "floor_db": 200.0}))
    theirs = torchaudio.transforms.MelSpectrogram(16000, 512, 400, 160, 50.0, 8000.0, n_mels=64, power=2.0)
    wave_BT = 0.1 * torch.randn(1, 16000)
    expected = 10 * theirs(wave_BT).clamp_min(1e-10).log10().transpose(1, 2)
    torch.testing.assert_close(ours(wave_BT, torch.tensor([16000]))[0][:, 3:-3], expected[:, 3:-3], rtol=0, atol=1e-3)


def test_band_normalisation_removes_level_and_channel() -> None:
    front_end = FRONT_ENDS.create(Spec("log_mel", {"floor_db": 200.0}))
    wave_BT, len_B = torch.randn(1, 16000), torch.tensor([16000])
    x_BNF, _ = front_end(wave_BT, len_B)
    assert x_BNF.mean(1).abs().max() < 1e-4
    torch.testing.assert_close(front_end(0.01 * wave_BT, len_B)[0], x_BNF, rtol=0, atol=1e-3)
    tilted = torchaudio.functional.preemphasis(wave_BT, 0.5)
    assert (front_end(tilted, len_B)[0] - x_BNF)[:, 3:-3].abs().mean() < 0.1


def test_waveform_normalisation() -> None:
    front_end = FRONT_ENDS.create(Spec("waveform"))
    wave_BT = torch.cat([3 + 5 * torch.randn(1, 9000), torch.zeros(1, 7000)], 1)
    x_BT1, mask_BT = front_end(wave_BT, torch.tensor([9000]))
    real = x_BT1[mask_BT]
    assert float(real.mean()) == pytest.approx(0.0, abs=1e-4)
    assert float(real.std()) == pytest.approx(1.0, abs=1e-3)


def test_autocast_changes_nothing() -> None:
    front_end = FRONT_ENDS.create(SPECS[0])
    wave_BT, len_B = torch.randn(1, 16000), torch.tensor([16000])
    expected = front_end(wave_BT, len_B)[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(front_end(wave_BT, len_B)[0], expected)


def test_front_ends_have_no_weights_to_save(front_end: torch.nn.Module) -> None:
    assert front_end.state_dict() == {}


def test_unknown_normalisation_is_refused() -> None:
    with pytest.raises(ClaraError, match="normalize='bnad'"):
        FRONT_ENDS.create(Spec("log_mel", {"normalize": "bnad"}))


def test_pad_waves() -> None:
    wave_BT, len_B = pad_waves([torch.ones(3), torch.ones(5)])
    assert wave_BT.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert len_B.tolist() == [3, 5]
    assert np.array_equal(len_B.numpy(), [3, 5])
