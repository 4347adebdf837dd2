"""How long a run will take, measured on a few clips before it begins."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import torch

from clara.audio import waveform
from clara.data.manifest import Row
from clara.errors import ClaraError
from clara.model import DualEncoder
from clara.text.tokenizer import Tokenizer
from clara.train.recipe import TrainConfig

CLIPS = 8  # in the batch that is timed
LOOKED_AT = 32  # clips whose length is read
BACKWARD = 3.0  # a training step over a forward pass, about


def estimate(config: TrainConfig, rows: Sequence[Row], model: DualEncoder, tokenizer: Tokenizer) -> float:
    """Seconds that fine-tuning by this recipe takes on this machine and its load, roughly: to a factor of two."""
    taught = [row for row in rows if row.split == "train"]
    held, window = len(rows) - len(taught), model.front_end.window_seconds
    seconds = min(window, _mean_seconds(taught))
    wave_BT = 0.05 * torch.randn(CLIPS, max(1, int(seconds * model.front_end.sample_rate)))
    ids_UL, mask_UL = tokenizer([text for row in taught[:CLIPS] for text in row.text[:1]] or ["a sound"])
    with torch.inference_mode():
        clip = _seconds_of(lambda: model.encode_audio(wave_BT)) / CLIPS
        text = _seconds_of(lambda: model.encode_text(ids_UL, mask_UL)) / len(ids_UL)
    frozen = {g.match for g in config.optim.groups if g.lr_scale == 0.0}
    trained = config.steps * config.data.batch_size
    texts = text * (len({t for r in taught for t in r.text}) if "text.*" in frozen else BACKWARD * trained)
    judged = held * clip * max(1, config.steps // config.save_every + 1)
    if config.states:
        # the frozen part of the tower runs once for each take; what follows it is small
        return clip * len(taught) * config.states.takes + 0.1 * clip * BACKWARD * trained + texts + judged
    return clip * trained * (1.0 if "audio.*" in frozen else BACKWARD) + texts + judged


def _mean_seconds(rows: Sequence[Row]) -> float:
    found = []
    for row in rows[:: max(1, len(rows) // LOOKED_AT)]:
        with suppress(ClaraError):  # a broken clip is told of when it is read
            found.append(waveform.info(row.audio).seconds)
    return sum(found) / len(found) if found else 1.0


def _seconds_of(work: Callable[[], object]) -> float:
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def told(seconds: float) -> str:
    """Seconds in words: "40 seconds", "12 minutes", "3.5 hours"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
