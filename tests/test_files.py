"""Files that hold less or more than their header states, and files whose header states nothing."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from clara.audio import waveform
from clara.errors import ClaraError

RATE = 16000
WAVE = np.random.default_rng(0).uniform(-0.5, 0.5, 2 * RATE).astype(np.float32)
CONTAINERS = [
    ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "PCM_U8"), ("WAV", "FLOAT"), ("WAVEX", "PCM_16"), ("RF64", "PCM_16"),
    ("W64", "PCM_16"), ("AIFF", "PCM_16"), ("AIFF", "FLOAT"), ("AU", "PCM_16"), ("MP3", None),
]  # fmt: skip
READERS: list[Callable[[object], np.ndarray]] = [
    lambda source: waveform.read(source, RATE),
    lambda source: np.concatenate([w for _, w in waveform.stream(source, RATE, window=1.5, hop=1.5)]),
]


def encoded(container: str, subtype: str | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    sf.write(buffer, WAVE, RATE, format=container, subtype=subtype, **options)
    return buffer.getvalue()


def sources(data: bytes, folder: Path) -> list[bytes | Path]:
    (folder / "clip.wav").write_bytes(data)
    return [data, folder / "clip.wav"]


@pytest.mark.parametrize(("container", "subtype"), CONTAINERS)
def test_a_copy_that_broke_off_is_refused(tmp_path: Path, container: str, subtype: str | None) -> None:
    whole = encoded(container, subtype)
    for source in sources(whole[: len(whole) // 2], tmp_path):
        for read in READERS:
            with pytest.raises(
                ClaraError, match=r"(clip\.wav|bytes>) breaks off: its header states 2\.0. s, .* 0\.9|1\.0"
            ):
                read(source)
        if container != "MP3":
            with pytest.raises(ClaraError, match="breaks off"):
                waveform.info(source)
    for source in sources(whole, tmp_path):
        assert all(len(read(source)) == len(WAVE) for read in READERS)


def test_some_samples_less_than_stated_are_no_fault(tmp_path: Path) -> None:
    for source in sources(encoded("WAV", "PCM_16")[:-700], tmp_path):
        assert [len(read(source)) for read in READERS] == [len(WAVE) - 350] * 2
        assert waveform.info(source).seconds == pytest.approx(2.0 - 350 / RATE)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0xFFFFFFFF - 36, 0x7FFFFFFF, 0x80000000, 0x7FFFF000])
@pytest.mark.parametrize("riff", [0, 36, 0xFFFFFFFF, None])
def test_a_wav_written_into_a_pipe_is_read_to_its_end(tmp_path: Path, size: int, riff: int | None) -> None:
    """What ffmpeg, sox, espeak-ng, Python's `wave` and killed recorders leave as sizes."""
    whole = bytearray(encoded("WAV", "PCM_16"))
    expected, at = waveform.read(bytes(whole), RATE), whole.index(b"data")
    whole[at + 4 : at + 8] = size.to_bytes(4, "little")
    whole[4:8] = (min(size + 36, 0xFFFFFFFF) if riff is None else riff).to_bytes(4, "little")
    for source in sources(bytes(whole), tmp_path):
        assert all(np.array_equal(read(source), expected) for read in READERS)
        assert np.array_equal(waveform.read(source, RATE, start=1.0, seconds=0.5), expected[RATE : RATE * 3 // 2])
        assert waveform.info(source) == waveform.AudioInfo(2.0, RATE, 1)


def test_a_wav_without_samples_is_not_made_of_what_follows(tmp_path: Path) -> None:
    empty = bytearray(encoded("WAV", "PCM_16")[:44]) + b"LIST" + (100).to_bytes(4, "little") + b"x" * 100
    empty[4:8], empty[40:44] = (len(empty) - 8).to_bytes(4, "little"), bytes(4)
    for source in sources(bytes(empty), tmp_path):
        for read in READERS:
            with pytest.raises(ClaraError, match="holds no samples"):
                read(source)


def test_a_flac_that_counts_no_samples_is_read_to_its_end(tmp_path: Path) -> None:
    whole = bytearray(encoded("FLAC", "PCM_16"))
    expected = waveform.read(bytes(whole), RATE)
    whole[21] &= 0xF0  # the count is 36 bits of STREAMINFO, RFC 9639, section 8.2
    whole[22:26] = bytes(4)
    for source in sources(bytes(whole), tmp_path):
        assert all(np.array_equal(read(source), expected) for read in READERS)
        assert np.array_equal(waveform.read(source, RATE, start=1.0, seconds=0.5), expected[RATE : RATE * 3 // 2])
        assert waveform.info(source) == waveform.AudioInfo(2.0, RATE, 1)
        with pytest.raises(ClaraError, match="no samples in the span"):
            waveform.read(source, RATE, start=3.0)


def without_xing(data: bytes) -> bytes:
    """An MP3 without its first frame, which holds no samples but the count of the others."""
    at = data.index(b"Xing" if b"Xing" in data[:200] else b"Info")
    return data[data.index(data[:2], at) :]


def test_an_mp3_that_states_no_length(tmp_path: Path) -> None:
    """libsndfile guesses it by the first frame: too much is no fault, too little is, for the rest cannot be had."""
    frames = without_xing(encoded("MP3"))
    constant = frames[: frames.index(frames[:2], 4)] * 100  # each of 576 samples
    for source in sources(constant, tmp_path):
        assert [len(read(source)) for read in READERS] == [57600, 57600]
        assert waveform.info(source) == waveform.AudioInfo(3.6, RATE, 1)
    quiet = np.concatenate([WAVE, np.zeros(20 * RATE, np.float32)])
    buffer = io.BytesIO()
    sf.write(buffer, quiet, RATE, format="MP3", bitrate_mode="VARIABLE")
    assert len(waveform.read(buffer.getvalue(), RATE)) == len(quiet)
    for source in [*sources(without_xing(buffer.getvalue()), tmp_path), encoded("MP3") + encoded("MP3")]:
        for read in READERS:
            with pytest.raises(ClaraError, match=r"goes on after the .* s it seems to have"):
                read(source)
