"""What a header may state of audio: a file made to hurt states a rate that a second of it cannot be resampled from."""

from __future__ import annotations

from clara.errors import ClaraError

RATES = (1000, 2_000_000)  # Hz: below, a second of sound becomes minutes of work; the upper end is beyond bats
MOST_CHANNELS = 256  # beyond any array of microphones


def check_header(rate: float, channels: int, name: str) -> None:
    """ClaraError for a sample rate in Hz or a number of channels that no recording of sound has."""
    if not RATES[0] <= rate <= RATES[1]:
        raise ClaraError(
            f"{name} states a sample rate of {rate:,} Hz: expected {RATES[0]:,} to {RATES[1]:,}. Its header is wrong; "
            "write the file anew with the true rate."
        )
    if not 1 <= channels <= MOST_CHANNELS:
        raise ClaraError(
            f"{name} states {channels:,} channels: expected 1 to {MOST_CHANNELS}. Its header is wrong, or it holds no "
            "sound; write the file anew."
        )
