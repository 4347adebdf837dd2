"""What the golden tensors of every family are made of: clips and texts, the same on every machine."""

from __future__ import annotations

import numpy as np

TEXTS = (
    "this is the sound of a dog",
    "Rain!",
    "A dog barks, the rain is loud; wow!! is it?",
    "dog",
)


def clip(seconds: float, rate: int, seed: int) -> np.ndarray:
    """A rising tone with noise that comes and goes, (T,), float32 of 16-bit samples."""
    t = np.arange(round(seconds * rate)) / rate
    noise = np.random.RandomState(seed).standard_normal(len(t))
    wave = 0.4 * np.sin(2 * np.pi * (200 + 300 * seed + 900 * t) * t) + 0.1 * noise * np.sin(3 * t) ** 2
    return (np.round(wave * 20000) / 32768).astype(np.float32)
