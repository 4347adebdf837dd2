"""What every decoder of a file offers, and the bounds of what a header may state."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from clara.errors import ClaraError

BLOCK_SECONDS = 30.0
LEAST_RATE, MOST_RATE = 100, 4_000_000  # Hz: from loggers of slow signals to recorders of bats
MOST_CHANNELS = 64


class Decoder:
    """An open source of samples. Attributes: `rate` in Hz, `channels`, `frames` (None where no header states them)."""

    name: str
    rate: int
    channels: int
    frames: int | None

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        raise NotImplementedError

    def blocks(self, start: int = 0) -> Iterator[np.ndarray]:
        """(T, C) float32, about `BLOCK_SECONDS` at a time, from frame `start` to the end."""
        raise NotImplementedError

    def length(self) -> int:
        """How many frames there are. The file is decoded where it does not state them."""
        return self.frames if self.frames is not None else sum(len(block) for block in self.blocks())

    def read(self, start: int, count: int | None) -> np.ndarray:
        """(T, C) float32 from frame `start` on: `count` frames, fewer where the file ends; None: all that are left."""
        blocks, left = [np.zeros((0, self.channels), np.float32)], count
        for block in self.blocks(start):
            blocks.append(block[:left])
            left = None if left is None else left - len(blocks[-1])
            if left == 0:
                break
        return np.concatenate(blocks)


def check_format(rate: int, channels: int, name: str) -> None:
    """ClaraError for a header that states what no recorder writes: resampling by it would ask for any amount of
    memory."""
    if not (LEAST_RATE <= rate <= MOST_RATE and 1 <= channels <= MOST_CHANNELS):
        raise ClaraError(
            f"{name} states {channels:,} channels at {rate:,} Hz: expected at most {MOST_CHANNELS} channels, and "
            f"{LEAST_RATE} to {MOST_RATE:,} Hz. Its header is damaged, or it is not audio."
        )
