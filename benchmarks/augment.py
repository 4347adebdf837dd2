"""Milliseconds of one core that each augmentation takes of a clip, on real recordings.

    python benchmarks/augment.py --data DATA/nemo --data DATA/esc50 --clips 40

`--data`: packed sets (see recipes/corpora/packed.py). Clips are cut to 4 s. Prints one JSON line an augmentation: the
median over the clips, the 90th percentile, and how many times faster than real time. It is processor time that is
counted, so that a busy machine does not matter much.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from clara.audio.augment import SpecAugment, SpecAugmentConfig, WaveAugmentConfig, augment_wave, crop, mix
from clara.audio.effects import CODECS
from clara.audio.features import LogMel, LogMelConfig
from clara.audio.waveform import read
from clara.data.manifest import rows_from_corpus, split_audio
from clara.data.shards import read_member

RATE, SECONDS = 16000, 4.0
OFF = {"speed": 0.0, "channel": 0.0, "noise": 0.0, "clip": 0.0}
WAVE = {
    "speed": {"speed": 0.1},
    "stretch": {"stretch": 1.0},
    "pitch": {"pitch": 1.0},
    "equaliser, band limits": {"channel": 1.0, "low_pass": 1.0, "high_pass": 1.0, "room": 0.0},
    "the same with a room": {"channel": 1.0, "low_pass": 1.0, "high_pass": 1.0, "room": 1.0},
    "noise": {"noise": 1.0},
    "clipping": {"clip": 1.0},
    **{f"codec {name}": {"codec": 1.0, "codecs": (name,)} for name in CODECS},
    "gain": {"gain_db": 6.0},
}
SPEC = {
    "SpecAugment": SpecAugmentConfig(),
    "Freq-MixStyle": SpecAugmentConfig(time_masks=0, bin_masks=0, style=1.0),
}


def load(folders: list[Path], clips: int) -> list[np.ndarray]:
    """Some clips of each set, evenly spread, of `SECONDS` at most: float32 (T,) each."""
    waves = []
    for folder in folders:
        rows = list(rows_from_corpus("packed", folder))
        for row in rows[:: max(1, len(rows) // clips)][:clips]:
            wave = read(read_member(*split_audio(row.audio)), RATE)
            waves.append(crop(wave, int(SECONDS * RATE), np.random.default_rng(0)))
    return waves


def row(name: str, waves: list[np.ndarray], call: Callable[[np.ndarray], object]) -> str:
    """One line: milliseconds of `call`, clip by clip."""
    call(waves[0])
    times, lengths = [], [len(w) / RATE for w in waves]
    for wave in waves:
        start = time.process_time()
        call(wave)
        times.append(1000 * (time.process_time() - start))
    speed = 1000 * sum(lengths) / sum(times)
    found = {"what": name, "ms_median": round(float(np.median(times)), 2), "ms_p90": round(np.quantile(times, 0.9), 2)}
    return json.dumps(
        {**found, "clips": len(waves), "clip_seconds": round(np.mean(lengths), 2), "x_real_time": round(speed)}
    )


def main(
    data: Annotated[list[Path], typer.Option(help="Folder of a packed set; may be repeated.")],
    clips: Annotated[int, typer.Option(min=1, help="Clips of each set.")] = 40,
) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    waves = load(data, clips)
    for name, settings in WAVE.items():
        config, rng = WaveAugmentConfig(**{**OFF, **settings}), np.random.default_rng(0)
        print(row(name, waves, lambda wave: augment_wave(wave, RATE, config, rng)))  # noqa: B023
    print(row("all of the defaults", waves, lambda wave: augment_wave(wave, RATE, WaveAugmentConfig(), rng)))
    print(row("mixing two clips", waves, lambda wave: mix(wave, waves[-1], 6.0)))
    front_end = LogMel(LogMelConfig())
    specs = [front_end(torch.from_numpy(w)[None], torch.tensor([len(w)])) for w in waves]
    print(row("log-mel, for comparison", waves, lambda w: front_end(torch.from_numpy(w)[None], torch.tensor([len(w)]))))
    batch = stacked(specs)
    for name, config in SPEC.items():
        augment = SpecAugment(config)
        augment(*batch)
        start = time.process_time()
        augment(*batch)
        each = 1000 * (time.process_time() - start) / len(waves)
        print(
            json.dumps({"what": name, "ms_median": round(each, 3), "clips": len(waves), "note": "mean over one batch"})
        )


def stacked(specs: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Spectrograms and masks of single clips as one batch: x_BNF, mask_BN."""
    x, mask = ([s[i][0] for s in specs] for i in (0, 1))
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(x, batch_first=True), pad(mask, batch_first=True)


if __name__ == "__main__":
    typer.run(main)
