"""Augmentation keeps shapes and labels, is seeded, and does what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clara.audio.augment import (
    SpecAugment,
    SpecAugmentConfig,
    WaveAugmentConfig,
    add_noise,
    augment_wave,
    change_speed,
    crop,
    mix,
)

RATE = 16000
EVERYTHING = WaveAugmentConfig(channel=1.0, low_pass=1.0, high_pass=1.0, room=1.0, noise=1.0, clip=1.0)


@pytest.mark.parametrize("samples", [1, 2, 160, 16001])
def test_everything_at_once_is_finite_and_seeded(samples: int) -> None:
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, samples).astype(np.float32)
    out = [augment_wave(wave, RATE, EVERYTHING, np.random.default_rng(7)) for _ in range(2)]
    assert np.array_equal(out[0], out[1]) and np.isfinite(out[0]).all() and out[0].dtype == np.float32
    assert abs(len(out[0]) - samples) <= 0.1 * samples + 1
    assert not np.array_equal(out[0], augment_wave(wave, RATE, EVERYTHING, np.random.default_rng(8))) or samples < 3


def test_silence_stays_finite() -> None:
    assert np.isfinite(augment_wave(np.zeros(8000, np.float32), RATE, EVERYTHING, np.random.default_rng(0))).all()


def test_speed_moves_the_pitch(tone) -> None:
    faster = change_speed(tone(1.0, hz=400.0), 1.1)
    peak = np.abs(np.fft.rfft(faster)).argmax() * RATE / len(faster)
    assert len(faster) == int(16000 / 1.1) and abs(peak - 440) < 3


@pytest.mark.parametrize("snr", [0.0, 20.0])
def test_noise_lies_at_its_level(snr: float, tone) -> None:
    wave = tone(1.0)
    noise = add_noise(wave, snr, np.random.default_rng(0)) - wave
    assert abs(10 * np.log10(np.square(wave).mean() / np.square(noise).mean()) - snr) < 1.5


def test_mix_adds_within_the_first_clip_only(tone) -> None:
    base, other = tone(1.0), tone(2.0, hz=880.0)
    out = mix(base, other, 0.0, offset=8000)
    assert len(out) == len(base) and np.array_equal(out[:8000], base[:8000])
    assert not np.allclose(out[8000:], base[8000:])


def test_crop_prefers_what_is_loud() -> None:
    wave = np.zeros(16000, np.float32)
    wave[12000:] = 0.5
    hits = [np.abs(crop(wave, 4000, np.random.default_rng(s), tries=8)).max() > 0 for s in range(20)]
    assert np.mean(hits) > 0.9 and crop(wave, 99999, np.random.default_rng(0)) is wave


def test_spec_augment_masks_within_the_real_frames() -> None:
    x, mask = torch.ones(4, 50, 16), torch.arange(50)[None] < torch.tensor([50, 20, 50, 5])[:, None]
    out, kept = SpecAugment(SpecAugmentConfig(time_masks=1, time_share=0.5, bin_masks=1, bin_share=0.5))(x, mask)
    assert kept is mask and out.shape == x.shape
    assert 0.0 < float((out == 0).float().mean()) < 0.8
    nothing = SpecAugment(SpecAugmentConfig(time_masks=0, bin_masks=0))(x, mask)[0]
    assert nothing.equal(x)
