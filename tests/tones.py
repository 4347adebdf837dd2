"""A tiny corpus made on the spot: tones of four pitches, each captioned by its pitch."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import soundfile as sf

from clara.data.loader import DataConfig
from clara.text.captions import CaptionConfig
from clara.train.optim import OptimConfig
from clara.train.recipe import TrainConfig

PITCHES = {"a very low hum": 150, "a deep tone": 500, "a high tone": 1500, "a shrill whistle": 5000}


def tone(frequency: float, seconds: float = 0.4, rate: int = 16000) -> np.ndarray:
    """A decaying sine, float32 (T,)."""
    t = np.arange(int(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * frequency * t) * np.exp(-2 * t)).astype(np.float32)


def write_tones(path: Path, clips: int = 32) -> str:
    """A shard of `clips` tones; its path."""
    rng = np.random.default_rng(0)
    with tarfile.open(path, "w") as tar:
        for i in range(clips):
            text, frequency = list(PITCHES.items())[i % len(PITCHES)]
            wave = io.BytesIO()
            sf.write(wave, tone(frequency * rng.uniform(0.9, 1.1), rng.uniform(0.3, 0.5)), 16000, format="WAV")
            meta = {"text": [text], "corpus": "tones", "split": "train", "seconds": 0.4}
            for name, data in ((f"{i:03d}.wav", wave.getvalue()), (f"{i:03d}.json", json.dumps(meta).encode())):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return str(path)


def tone_config(shard: str, out: Path, **changes: object) -> TrainConfig:
    """A small run on a tones shard, in float32 on one thread."""
    data = DataConfig(
        shards=(shard,), batch_size=8, workers=0, bucket=1, augment=None, captions=CaptionConfig(original=1.0, bank=0)
    )
    settings = {
        "data": data, "steps": 10, "out": str(out), "model": "test-conv", "precision": "fp32", "threads": 1, "ema": 0.9,
        "optim": OptimConfig(lr=3e-3, warmup_steps=2), "log_every": 1, "save_every": 4, "device": "cpu",
    }  # fmt: skip
    return TrainConfig(**{**settings, **changes})
