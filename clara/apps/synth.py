"""Sounds made of numpy alone, for the demo: what each is meant to be is written beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
    makers: list[tuple[str, str, int, Callable[[np.random.Generator], Wave]]] = [
        ("rain", "rain", 0, rain),
        ("siren", "siren", 1, siren),
        ("cry", "crying baby", 3, cry),
        ("bells", "church bells", 6, bells),
        ("drops", "water drops", 7, drops),
        ("engine", "engine", 8, engine),
        ("crickets", "crickets", 9, crickets),
        ("knocks", "door wood knock", 10, knocks),
    ]
    return [
        Clip(name, "sound", label, _level(make(np.random.default_rng([seed, number]))))
        for name, label, number, make in makers
    ]


def rain(rng: np.random.Generator, seconds: float = 4.0) -> Wave:
    """Falling water's even hiss and, near by, thousands of drops: short bursts, few of them loud."""
    hiss = _shaped(rng, seconds, lambda f: np.minimum(1.0, f / 500.0) / (1.0 + f / 4000.0))
    for start in rng.uniform(0, seconds - 0.02, 3000):
        ring = _ring(rng.uniform(1500, 6500), 0.012, rng.uniform(0.0005, 0.003))
        _add(hiss, start, 0.5 * rng.lognormal(0.0, 0.9) * ring)
    return hiss


def siren(rng: np.random.Generator, seconds: float = 4.0) -> Wave:
    """A horn that wails between 550 and 1450 Hz, up and down in 2.6 seconds, in a street."""
    t = _time(seconds)
    hz = 550.0 * (1450.0 / 550.0) ** (0.5 - 0.5 * np.cos(2 * np.pi * (t / 2.6 + 0.1)))
    wave = _room(rng, _harmonics(hz, (1.0, 0.6, 0.7, 0.35, 0.4, 0.2, 0.15)), 1.2, 0.5)
    return wave + 0.03 * wave.std() * _shaped(rng, seconds, lambda f: 1.0 / (1.0 + f / 200.0))


def cry(rng: np.random.Generator, seconds: float = 4.5) -> Wave:
    """A baby: long cries near 450 Hz that rise and fall, pressed and unsteady, with a breath drawn before each."""
    out = 0.002 * rng.standard_normal(len(_time(seconds)))
    for start, length in ((0.15, 1.1), (1.6, 1.3), (3.2, 1.1)):
        t = _time(length)
        arch = np.sin(np.pi * (t / t[-1]) ** 0.8)
        hz = 360 + 150 * arch**0.6 + 8 * np.sin(2 * np.pi * 6.0 * t)
        hz *= 1 + 0.015 * _wobble(rng, len(t), 0.01)
        sound = _vocal(hz, np.outer((1.0, 1.7, 3.3), 1000 + 200 * arch), 0.1)
        sound *= 1 + 0.25 * _wobble(rng, len(t), 0.03)
        _add(out, start, _fade(sound / np.abs(sound).max() * arch**0.4, 0.05, 0.15))
        breath = _shaped(rng, 0.25, lambda f: np.exp(-(((f - 2500.0) / 1500.0) ** 2)))
        _add(out, start - 0.22, 0.04 * _fade(breath, 0.1, 0.05))
    return _room(rng, out, 0.3, 0.2)


def bells(rng: np.random.Generator, seconds: float = 6.0) -> Wave:
    """Two church bells in turn: hum, prime, minor tierce, quint, nominal and above, each a pair that beats and dies
    away in its own time, under the clapper's blow."""
    out = 0.001 * rng.standard_normal(len(_time(seconds)))
    partials = ((0.5, 0.6, 4.0), (1.0, 0.7, 2.5), (1.19, 0.9, 2.0), (1.5, 0.4, 1.2), (2.0, 1.0, 1.3), (2.51, 0.4, 0.8))
    for i, start in enumerate(np.arange(0.1, seconds - 0.5, 1.0)):
        prime = (392.0, 330.0)[i % 2]
        for ratio, gain, decay in (*partials, (2.66, 0.5, 0.7), (3.01, 0.5, 0.5), (4.17, 0.35, 0.3), (5.43, 0.2, 0.2)):
            for detuned in (0.9985, 1.0015):
                _add(out, start, 0.5 * gain * _ring(prime * ratio * detuned, seconds - start, decay))
        _add(out, start, 0.4 * _burst(rng, 0.03, 0.006))
    return _room(rng, out, 1.5, 0.3)


def drops(rng: np.random.Generator, seconds: float = 4.0) -> Wave:
    """Drops into water: bubbles whose pitch rises while they fade, in a small room."""
    out = 0.001 * rng.standard_normal(len(_time(seconds)))
    for start in np.cumsum(rng.uniform(0.1, 0.7, 9)):
        t, hz = _time(0.12), rng.uniform(700, 1500)
        drop = np.sin(2 * np.pi * hz * (t + 3.0 * t**2)) * np.exp(-t / 0.02)
        for delay, gain in ((0.0, 1.0), (0.013, 0.3), (0.031, 0.2), (0.07, 0.1)):
            _add(out, start + delay, gain * drop)
        _add(out, start - 0.01, 0.15 * _burst(rng, 0.01, 0.002))
    return _room(rng, out, 0.5, 0.25)


def engine(rng: np.random.Generator, seconds: float = 4.0) -> Wave:
    """A car's engine that idles: uneven explosions, each a thud of the exhaust pipe and a puff, and the fan behind."""
    out, start = _shaped(rng, seconds, lambda f: 1.0 / (1.0 + (f / 300.0) ** 1.5)) * 0.12, 0.0
    while start < seconds - 0.01:
        gain = rng.uniform(0.7, 1.0)
        for hz, part, decay in ((62.0, 1.0, 0.02), (118.0, 0.7, 0.014), (240.0, 0.3, 0.008), (520.0, 0.12, 0.005)):
            _add(out, start, gain * part * _ring(hz * rng.uniform(0.97, 1.03), 0.08, decay))
        _add(out, start, 0.25 * gain * _burst(rng, 0.02, 0.004))
        start += rng.normal(1 / 27.0, 0.0012)
    return _room(rng, out, 0.2, 0.15)


def crickets(rng: np.random.Generator, seconds: float = 4.0) -> Wave:
    """Eight crickets that trill without a pause: pulses near 4.5 kHz, each at its own pitch, rate and distance."""
    t, out = _time(seconds), 0.03 * rng.standard_normal(len(_time(seconds)))
    for _ in range(8):
        hz, rate, gain = rng.uniform(4000.0, 5200.0), rng.uniform(25.0, 40.0), rng.uniform(0.2, 1.0)
        pulses = np.clip(np.sin(2 * np.pi * rate * t + rng.uniform(0.0, 6.0)), 0, None) ** 2
        out += gain * pulses * np.sin(2 * np.pi * hz * t)
    return out


def knocks(rng: np.random.Generator, seconds: float = 3.0) -> Wave:
    """Three knocks on a wooden door, twice."""
    out = 0.001 * rng.standard_normal(len(_time(seconds)))
    for start in (0.2, 0.42, 0.64, 1.6, 1.82, 2.04):
        for hz, gain, decay in ((110.0, 1.0, 0.04), (190.0, 0.8, 0.03), (420.0, 0.4, 0.02), (900.0, 0.2, 0.01)):
            _add(out, start, gain * _ring(hz * rng.uniform(0.97, 1.03), 0.25, decay))
        _add(out, start, 0.5 * _burst(rng, 0.02, 0.003))
    return _room(rng, out, 0.3, 0.2)


def _time(seconds: float) -> Wave:
    return np.arange(round(seconds * RATE)) / RATE


def _harmonics(hz_T: Wave, gains: Iterable[float]) -> Wave:
    """A harmonic series over a gliding fundamental, nothing above 7.5 kHz."""
    phase, out = 2 * np.pi * np.cumsum(hz_T) / RATE, np.zeros(len(hz_T))
    for k, gain in enumerate(gains, start=1):
        out += gain * (k * hz_T < 7500) * np.sin(k * phase)
    return out


def _vocal(hz_T: Wave, formants_FT: Iterable[Wave], tilt: float) -> Wave:
    """A throat's harmonics under three formants (Hz, each over time); their amplitude falls with number ** -tilt."""
    phase, out = 2 * np.pi * np.cumsum(hz_T) / RATE, np.zeros(len(hz_T))
    for k in range(1, int(7500 / hz_T.min())):
        gain = sum(g / (1 + ((k * hz_T - f) / (60 + 0.05 * f)) ** 2) for f, g in zip(formants_FT, (1.0, 0.6, 0.3)))
        out += gain * k**-tilt * (k * hz_T < 7500) * np.sin(k * phase)
    return out


def _wobble(rng: np.random.Generator, size: int, seconds: float) -> Wave:
    """Noise of unit power that changes in about so many seconds."""
    smooth = np.hanning(max(3, int(seconds * RATE)))
    return np.convolve(rng.standard_normal(size), smooth / np.sqrt((smooth**2).sum()), "same")


def _room(rng: np.random.Generator, wave: Wave, seconds: float, wet: float) -> Wave:
    """The wave with a room's echo (noise that dies away by 60 dB in `seconds`), `wet` of the wave's own power."""
    t = _time(seconds)
    answer = _shaped(rng, seconds, lambda f: 1.0 / (1.0 + f / 2500.0)) * np.exp(-6.9 * t / seconds)
    size = len(wave) + len(t)
    echo = np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(answer, size), size)[: len(wave)]
    return wave + wet * wave.std() / echo.std() * echo


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
