"""Voices made of numpy alone, of known pitch, speed and softness."""

from __future__ import annotations

import numpy as np

from clara.apps.synth import RATE, Wave, _fade, _shaped, _time, _vocal, _wobble


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
    wave = _vocal(hz * (1 + 0.003 * _wobble(rng, len(t), 0.05)), formants_FT, tilt)
    wave *= np.sin(np.pi * np.clip(beat * 1.15, 0, 1)) ** 0.5
    breath = _shaped(rng, seconds, lambda f: np.exp(-(((f - 2000.0) / 2000.0) ** 2)))
    return _fade(wave + 0.01 * tilt * breath * np.abs(wave).max(), 0.03, 0.1)
