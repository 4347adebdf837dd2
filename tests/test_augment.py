"""Augmentation keeps shapes and labels, is seeded, and does what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import vowels

from clara.audio.augment import (
    SpecAugment,
    SpecAugmentConfig,
    WaveAugmentConfig,
    add_noise,
    augment_wave,
    change_speed,
    crop,
    mix,
    mix_style,
)
from clara.audio.effects import CODECS, codec, pitch_shift, time_stretch
from clara.errors import ClaraError

RATE = 16000
EVERYTHING = WaveAugmentConfig(
    channel=1.0, low_pass=1.0, high_pass=1.0, room=1.0, noise=1.0, clip=1.0,
    stretch=1.0, stretch_factor=(0.98, 1.02), pitch=1.0, codec=1.0, codecs=CODECS, gain_db=6.0,
)  # fmt: skip


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


def test_what_was_added_draws_nothing_while_it_is_off() -> None:
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 8000).astype(np.float32)
    config = WaveAugmentConfig(speed=0.0, channel=0.0, noise=0.0, clip=0.0, codecs=("opus",))
    rng, reference = np.random.default_rng(3), np.random.default_rng(3)
    assert np.array_equal(augment_wave(wave, RATE, config, rng), wave)
    reference.random(3)  # channel, noise and clip: recipes of the first release depend on it
    assert rng.random() == reference.random()


def test_tempo_and_pitch_apart(tone) -> None:
    wave = tone(2.0, hz=400.0)
    slower, higher = time_stretch(wave, 0.9), pitch_shift(wave, 2.0)
    assert len(slower) == round(32000 / 0.9) and abs(peak_hz(slower) - 400) < 2
    assert len(higher) == 32000 and abs(peak_hz(higher) - 400 * 2 ** (2 / 12)) < 2


def peak_hz(wave: np.ndarray) -> float:
    return np.abs(np.fft.rfft(wave)).argmax() * RATE / len(wave)


@pytest.mark.parametrize("name", CODECS)
def test_codecs_change_the_wave_a_little_and_in_time(name: str) -> None:
    wave = vowels.voice(np.random.default_rng(0), 150.0, 4.0, 1.0, 1.0)
    wave = (0.5 * wave / np.abs(wave).max()).astype(np.float32)
    mild, bad = (codec(wave, RATE, name, strength) for strength in (0.0, 1.0))
    errors = [np.square(out - wave).mean() / np.square(wave).mean() for out in (mild, bad)]
    assert mild.shape == bad.shape == wave.shape and mild.dtype == np.float32
    assert 0 < errors[0] < errors[1] < 0.1
    assert np.array_equal(bad, codec(wave, RATE, name, 1.0))
    assert np.isfinite(codec(np.zeros(1, np.float32), RATE, name, 0.5)).all()


def test_gain_alone_scales(tone) -> None:
    off = {"speed": 0.0, "channel": 0.0, "noise": 0.0, "clip": 0.0}
    out = augment_wave(tone(0.1), RATE, WaveAugmentConfig(**off, gain_db=6.0), np.random.default_rng(0))
    ratio = out[1:] / tone(0.1)[1:]
    assert np.ptp(ratio) < 1e-4 and 0.5 <= ratio[0] <= 2.0 and abs(ratio[0] - 1) > 0.01


def test_bounds_that_would_lose_the_label_are_refused() -> None:
    with pytest.raises(ClaraError, match="semitones"):
        WaveAugmentConfig(pitch_semitones=12.0)
    with pytest.raises(ClaraError, match="codec 'mp4'"):
        codec(np.ones(100, np.float32), RATE, "mp4", 0.5)


def test_style_takes_over_the_other_clips_bands() -> None:
    x = torch.randn(3, 40, 8) * (0.2 + torch.rand(3, 1, 8)) + torch.randn(3, 1, 8)
    mask = torch.arange(40)[None] < torch.tensor([40, 25, 40])[:, None]
    x = x.masked_fill(~mask[..., None], 0.0)
    other = torch.tensor([1, 2, 0])
    assert mix_style(x, mask, other, torch.ones(3)).allclose(x, atol=1e-5)
    taken = mix_style(x, mask, other, torch.zeros(3))
    for i, j in enumerate(other):
        mine, theirs = taken[i][mask[i]], x[j][mask[j]]
        assert mine.mean(0).allclose(theirs.mean(0), atol=1e-3)
        assert mine.std(0, correction=0).allclose(theirs.std(0, correction=0), atol=1e-2)
    assert (taken[~mask] == 0).all()
    half = mix_style(x, mask, other, torch.full((3,), 0.5))
    assert half[0].mean(0).allclose((x[0].mean(0) + x[1][mask[1]].mean(0)) / 2, atol=1e-3)


def test_style_is_drawn_per_clip_and_off_draws_nothing() -> None:
    x, mask = torch.randn(64, 20, 4) * torch.rand(64, 1, 4), torch.ones(64, 20, dtype=torch.bool)
    none = {"time_masks": 0, "bin_masks": 0}
    out = SpecAugment(SpecAugmentConfig(**none, style=0.5))(x, mask)[0]
    changed = (~torch.isclose(out, x, atol=1e-4)).flatten(1).any(1).float().mean()
    assert 0.2 < changed < 0.7
    before = torch.get_rng_state()
    SpecAugment(SpecAugmentConfig(**none))(x, mask)
    assert torch.get_rng_state().equal(before)
