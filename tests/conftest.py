"""Fixtures of the whole suite. Nothing here or in any test reaches the network."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pytest
import soundfile as sf
import torch
from tone_corpus import ToneEmbedder, write_corpus

from clara.eval.clips import Context

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Every test draws the same random numbers, alone or in the suite."""
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real corpora beside the checkout; tests that want it are skipped where it is not."""
    if not SHARED.is_dir():
        pytest.skip("no real corpora beside this checkout")
    return SHARED


@pytest.fixture
def tone() -> Callable[..., np.ndarray]:
    """tone(seconds, rate=16000, hz=440.0) -> float32 (T,), a sine of amplitude 0.5."""

    def make(seconds: float, rate: int = 16000, hz: float = 440.0) -> np.ndarray:
        t = np.arange(round(seconds * rate)) / rate
        return (0.5 * np.sin(2 * np.pi * hz * t)).astype(np.float32)

    return make


@pytest.fixture
def wav(tmp_path: Path, tone: Callable[..., np.ndarray]) -> Callable[..., Path]:
    """wav(seconds=1.0, rate=16000, name="a.wav", **soundfile options) -> path of a written sine."""

    def write(seconds: float = 1.0, rate: int = 16000, name: str = "a.wav", **options: str) -> Path:
        path = tmp_path / name
        sf.write(path, tone(seconds, rate), rate, **options)
        return path

    return write


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Tones as a corpus on disk, for evaluations (tests/tone_corpus.py)."""
    return write_corpus(tmp_path)


@pytest.fixture
def context(corpus: Path) -> Context:
    """An evaluation of `corpus` by an embedder that hears tones."""
    return Context(ToneEmbedder(), corpus, corpus.parent / "recipe.yaml")
