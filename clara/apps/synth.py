"""Sounds made of numpy alone, for the demo: what each is meant to be is written beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RATE = 16000
Wave = np.ndarray


@dataclass(frozen=True)
class Clip:
    """A sound: what it is meant to be (`task`, `label` of the language files) and its wave, float32 (T,) at 16 kHz."""

    name: str
    task: str
    label: str
    wave: Wave


def clips(seed: int = 0) -> list[Clip]:
    """Every sound of the demo, the same for the same seed."""
    makers: list[tuple[str, str, str, Callable[[np.random.Generator], Wave]]] = [
        ("rain", "sound", "rain", rain),
        ("siren", "sound", "siren", siren),
        ("ticks", "sound", "clock tick", ticks),
        ("bells", "sound", "church bells", bells),
        ("drops", "sound", "water drops", drops),
        ("engine", "sound", "engine", engine),
        ("crickets", "sound", "crickets", crickets),
        ("knocks", "sound", "door wood knock", knocks),
        ("flute", "instrument", "flute", flute),
        ("cello", "instrument", "cello", cello),
        ("shouted vowels", "emotion", "anger", lambda rng: voice(rng, 260.0, 5.5, 0.35)),
        ("slow low vowels", "emotion", "sadness", lambda rng: voice(rng, 115.0, 2.2, 1.6)),
    ]
    return [
        Clip(name, task, label, _level(make(np.random.default_rng([seed, i]))))
        for i, (name, task, label, make) in enumerate(makers)
    ]


def rain(rng: np.random.Generator, seconds: float = 4.0) -> Wave:
    """Hiss, fuller in the middle of the band, with many faint drops on it."""
    hiss = _shaped(rng, seconds, lambda f: 1.0 / (1.0 + (f / 3000.0) ** 2) * np.minimum(1.0, f / 400.0))
    for start in rng.uniform(0, seconds - 0.05, 400):
        _add(hiss, start, rng.uniform(0.2, 1.2) * _burst(rng, 0.01, 0.002))
    return hiss


def siren(rng: np.random.Generator, seconds: float = 4.0) -> Wave:
    """A wail between 500 and 1400 Hz, up and down in two seconds, with harmonics and a street's echo."""
    t = _time(seconds)
    wave = _harmonics(950.0 - 450.0 * np.cos(2 * np.pi * t / 2.0), (1.0, 0.5, 0.35, 0.15))
    for delay, gain in ((0.09, 0.35), (0.21, 0.2)):
        wave[int(delay * RATE) :] += gain * wave[: -int(delay * RATE)]
    return wave + 0.02 * rng.standard_normal(len(t))


def ticks(rng: np.random.Generator, seconds: float = 4.0) -> Wave:
    """Tick and tock, twice a second: clicks that ring for some milliseconds in a wooden case."""
    out = 0.002 * rng.standard_normal(len(_time(seconds)))
    for i, start in enumerate(np.arange(0.1, seconds - 0.1, 0.5)):
        for hz, gain in ((2900.0 - 500 * (i % 2), 1.0), (4700.0, 0.6), (1100.0, 0.3)):
            _add(out, start, gain * _ring(hz, 0.06, 0.006))
            _add(out, start + 0.03, 0.3 * gain * _ring(hz * 1.1, 0.05, 0.005))
    return out


def bells(rng: np.random.Generator, seconds: float = 5.0) -> Wave:
    """Two church bells in turn: hum, prime, minor tierce, quint, nominal and above, each dying away in its own time."""
    out = 0.001 * rng.standard_normal(len(_time(seconds)))
    partials = ((0.5, 0.7, 3.0), (1.0, 0.8, 2.0), (1.19, 0.9, 1.5), (1.5, 0.4, 1.0), (2.0, 1.0, 0.9), (2.67, 0.5, 0.5))
    for i, start in enumerate(np.arange(0.0, seconds - 0.5, 0.9)):
        prime = (440.0, 370.0)[i % 2]
        for ratio, gain, decay in (*partials, (3.0, 0.4, 0.35), (4.1, 0.3, 0.2)):
            _add(out, start, gain * _ring(prime * ratio * rng.uniform(0.998, 1.002), seconds - start, decay))
    return out


def drops(rng: np.random.Generator, seconds: float = 4.0) -> Wave:
    """Drops into water: bubbles whose pitch rises while they fade, in a small room."""
    out = 0.001 * rng.standard_normal(len(_time(seconds)))
    for start in np.cumsum(rng.uniform(0.1, 0.7, 9)):
        t, hz = _time(0.12), rng.uniform(700, 1500)
        drop = np.sin(2 * np.pi * hz * (t + 3.0 * t**2)) * np.exp(-t / 0.02)
        for delay, gain in ((0.0, 1.0), (0.013, 0.3), (0.031, 0.2), (0.07, 0.1)):
            _add(out, start + delay, gain * drop)
        _add(out, start - 0.01, 0.15 * _burst(rng, 0.01, 0.002))
    return out


def engine(rng: np.random.Generator, seconds: float = 4.0) -> Wave:
    """A car engine that turns a little faster and slower: firing pulses through an exhaust, and its noise."""
    t = _time(seconds)
    firing = 42.0 + 6.0 * np.sin(2 * np.pi * 0.3 * t) + np.cumsum(rng.standard_normal(len(t))) * 0.002
    wave = _harmonics(firing, [1.0 / (1 + (k * 42 - 120) ** 2 / 120**2) + 0.25 / k for k in range(1, 40)])
    rattle = 1.0 + 0.6 * np.sin(np.pi * np.cumsum(firing) / RATE)
    return wave + 0.4 * wave.std() * rattle * _shaped(rng, seconds, lambda f: 1.0 / (1.0 + (f / 250.0) ** 2))


def crickets(rng: np.random.Generator, seconds: float = 4.0) -> Wave:
    """Two crickets: trains of short pulses near 4.5 kHz, the farther one slower and softer."""
    t, out = _time(seconds), 0.01 * rng.standard_normal(len(_time(seconds)))
    for hz, rate, chirp, gain, shift in ((4500.0, 32.0, 1.5, 1.0, 0.0), (4950.0, 27.0, 1.1, 0.4, 0.3)):
        pulses = np.clip(np.sin(2 * np.pi * rate * t), 0, None) ** 2
        trains = ((t + shift) * chirp % 1.0) < 0.45
        out += gain * pulses * trains * np.sin(2 * np.pi * hz * t)
    return out


def knocks(rng: np.random.Generator, seconds: float = 3.0) -> Wave:
    """Three knocks on a wooden door, twice."""
    out = 0.001 * rng.standard_normal(len(_time(seconds)))
    for start in (0.2, 0.42, 0.64, 1.6, 1.82, 2.04):
        for hz, gain, decay in ((110.0, 1.0, 0.04), (190.0, 0.8, 0.03), (420.0, 0.4, 0.02), (900.0, 0.2, 0.01)):
            _add(out, start, gain * _ring(hz * rng.uniform(0.97, 1.03), 0.25, decay))
        _add(out, start, 0.5 * _burst(rng, 0.02, 0.003))
    return out


def flute(rng: np.random.Generator, seconds: float = 2.5) -> Wave:
    """A long flute note with vibrato and breath."""
    t = _time(seconds)
    hz = 587.3 * (1 + 0.006 * np.sin(2 * np.pi * 5.2 * t))
    breath = _shaped(rng, seconds, lambda f: np.exp(-(((f - 1500.0) / 1500.0) ** 2)))
    tremolo = 1 + 0.15 * np.sin(2 * np.pi * 5.2 * t)
    return _fade(tremolo * _harmonics(hz, (1.0, 0.35, 0.12, 0.04, 0.02)) + 0.05 * breath, 0.08, 0.25)


def cello(rng: np.random.Generator, seconds: float = 2.5) -> Wave:
    """A bowed cello note: a full harmonic series under the body's resonances, with vibrato and the bow's scrape."""
    t = _time(seconds)
    hz = 110.0 * (1 + 0.004 * np.sin(2 * np.pi * 5.5 * t) * np.minimum(1, t))
    body = [(1 / k) * (1 + 2 * np.exp(-(((k * 110 - 230) / 80) ** 2)) + np.exp(-(((k * 110 - 1600) / 600) ** 2)))
            for k in range(1, 45)]  # fmt: skip
    return _fade(_harmonics(hz, body) + 0.03 * _shaped(rng, seconds, lambda f: 1 / (1 + f / 2000)), 0.12, 0.3)


def voice(rng: np.random.Generator, pitch: float, syllables: float, tilt: float, seconds: float = 3.0) -> Wave:
    """Vowels by formants, no words: `syllables` a second around `pitch` Hz; a high `tilt` (the fall of the harmonics'
    power) sounds soft, a low one pressed."""
    t = _time(seconds)
    beat = (t * syllables) % 1.0
    which = ((t * syllables).astype(int) * 7) % 5
    formants = np.array([(730, 1090, 2440), (270, 2290, 3010), (530, 1840, 2480), (570, 840, 2410), (300, 870, 2240)])
    smooth = np.hanning(int(0.05 * RATE))
    formants_FT = [np.convolve(formants[which, i], smooth / smooth.sum(), "same") for i in range(3)]
    excited = 2.0 / (1.0 + tilt)
    hz = pitch * (1 + 0.15 * excited * np.sin(np.pi * beat) - 0.12 * t / seconds + 0.01 * rng.standard_normal())
    hz *= 1 + 0.004 * np.convolve(rng.standard_normal(len(t)), smooth / np.sqrt(len(smooth)), "same")
    phase, wave = 2 * np.pi * np.cumsum(hz) / RATE, np.zeros(len(t))
    for k in range(1, int(4500 / pitch)):
        gains = [g / (1 + ((k * hz - f) / (60 + 0.05 * f)) ** 2) for f, g in zip(formants_FT, (1.0, 0.6, 0.3))]
        wave += sum(gains) * k**-tilt * np.sin(k * phase)
    wave *= np.sin(np.pi * np.clip(beat * 1.15, 0, 1)) ** 0.5
    breath = _shaped(rng, seconds, lambda f: np.exp(-(((f - 2000.0) / 2000.0) ** 2)))
    return _fade(wave + 0.01 * tilt * breath * np.abs(wave).max(), 0.03, 0.1)


def _time(seconds: float) -> Wave:
    return np.arange(round(seconds * RATE)) / RATE


def _harmonics(hz_T: Wave, gains: object) -> Wave:
    """A harmonic series over a gliding fundamental, nothing above 7.5 kHz."""
    phase, out = 2 * np.pi * np.cumsum(hz_T) / RATE, np.zeros(len(hz_T))
    for k, gain in enumerate(gains, start=1):
        out += gain * (k * hz_T < 7500) * np.sin(k * phase)
    return out


def _ring(hz: float, seconds: float, decay: float) -> Wave:
    t = _time(seconds)
    return np.sin(2 * np.pi * hz * t) * np.exp(-t / decay)


def _burst(rng: np.random.Generator, seconds: float, decay: float) -> Wave:
    t = _time(seconds)
    return rng.standard_normal(len(t)) * np.exp(-t / decay)


def _shaped(rng: np.random.Generator, seconds: float, gain: Callable[[Wave], Wave]) -> Wave:
    """Noise of unit power under a gain that depends on the frequency in Hz."""
    spectrum = np.fft.rfft(rng.standard_normal(len(_time(seconds))))
    wave = np.fft.irfft(spectrum * gain(np.fft.rfftfreq(len(_time(seconds)), 1 / RATE)), len(_time(seconds)))
    return wave / wave.std()


def _add(out: Wave, start: float, sound: Wave) -> None:
    first = max(0, round(start * RATE))
    out[first : first + len(sound)] += sound[: max(0, len(out) - first)]


def _fade(wave: Wave, attack: float, release: float) -> Wave:
    a, r = round(attack * RATE), round(release * RATE)
    envelope = np.ones(len(wave))
    envelope[:a], envelope[-r:] = np.linspace(0, 1, a), np.linspace(1, 0, r)
    return wave * envelope


def _level(wave: Wave) -> Wave:
    return (0.6 * wave / np.abs(wave).max()).astype(np.float32)
