"""How a recording is cut into windows: one plan, shared by everything that embeds, classifies, indexes and finds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from clara.audio import waveform
from clara.errors import ClaraError

SHORT_TAIL_SECONDS = 1.0
SHORTEST_WINDOW, SHORTEST_HOP = 0.1, 0.01  # seconds


@dataclass(frozen=True)
class Windows:
    """Windows of `seconds` that begin every `hop` seconds; where `hop` is the shorter of the two, they overlap."""

    seconds: float
    hop: float

    def read(self, source: Any, rate: int) -> Iterator[tuple[float, float, np.ndarray]]:
        """Yield (start in seconds, weight in seconds, mono float32 samples at `rate` Hz) for each window of a source,
        in bounded memory. Weights are the seconds that a window adds to those before, so that a mean counts every
        second about once.

        A source shorter than one window is a window by itself. A last piece below one second is too short to be judged
        alone: it is covered by a whole window that ends with the audio.
        """
        before: np.ndarray | None = None
        size, begun = round(self.seconds * rate), 0
        for start, wave in waveform.stream(source, rate, window=self.seconds, hop=self.hop):
            first, added = round(start * rate), len(wave) / rate
            if before is not None:
                added -= max(0.0, self.seconds - self.hop)
                if len(wave) < min(SHORT_TAIL_SECONDS * rate, size):
                    step, lacking = first - begun, size - len(wave)
                    wave = np.concatenate([before[step - lacking : step], wave])
                    start = (first - lacking) / rate
            else:
                added = min(added, self.hop)
            before, begun = wave, first
            yield start, added, wave


def plan(window: float | None, hop: float | None, longest: float) -> Windows:
    """The windows that `window` and `hop` ask for, in seconds: by default `longest`, the most that a model hears at
    once, and no overlap.

    Raises:
        ClaraError: a window below 0.1 s or above `longest`, or a hop below 0.01 s or above the window.
    """
    seconds = longest if window is None else _number("window", window)
    if not min(SHORTEST_WINDOW, longest) <= seconds <= longest:
        raise ClaraError(
            f"window={seconds:g}: expected {SHORTEST_WINDOW} to {longest:g} seconds, which this model hears at once."
        )
    step = seconds if hop is None else _number("hop", hop)
    if not SHORTEST_HOP <= step <= seconds:
        raise ClaraError(
            f"hop={step:g}: expected {SHORTEST_HOP} to {seconds:g} seconds, the window; a longer hop would leave out "
            "what lies between windows."
        )
    return Windows(seconds, step)


def _number(name: str, value: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as e:
        raise ClaraError(f"{name}={value!r}: expected seconds.") from e
    if not math.isfinite(number):
        raise ClaraError(f"{name}={value!r}: expected seconds.")
    return number
