"""m4a, mp4, webm, mkv and aac, which libsndfile does not know."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from clara.audio import waveform
from clara.errors import ClaraError

SECONDS, RATE = 65.0, 48000
T = np.arange(int(SECONDS * RATE)) / RATE
WAVE = (0.4 * np.sin(2 * np.pi * (200 + 10 * T) * T)).astype(np.float32)  # a place in it is heard by its pitch


FILES = {"a.m4a": ("mp4", "aac"), "a.webm": ("webm", "libopus"), "a.aac": ("adts", "aac")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("containers")
    for name, (container, codec) in FILES.items():
        with av.open(str(out / name), "w", format=container) as film:
            track = film.add_stream(codec, rate=RATE, layout="stereo")
            for at in range(0, len(WAVE), RATE):
                frame = av.AudioFrame.from_ndarray(np.tile(WAVE[at : at + RATE], (2, 1)), "fltp", "stereo")
                frame.sample_rate, frame.pts = RATE, at
                film.mux(track.encode(frame))
            film.mux(track.encode(None))
    return out


@pytest.mark.parametrize("name", FILES)
def test_read_stream_span_bytes_and_length(folder: Path, name: str) -> None:
    path = folder / name
    whole = waveform.read(path, 16000)
    expected = waveform.read((WAVE, RATE), 16000)
    assert abs(len(whole) - len(expected)) < 2000  # a codec's frames and its delay
    streamed = np.concatenate([w for _, w in waveform.stream(path, 16000, window=10.0, hop=10.0)])
    assert abs(len(streamed) - len(whole)) < 20
    assert waveform.info(path).seconds == pytest.approx(len(whole) / 16000, abs=0.03)
    span = waveform.read(path, 16000, start=40.0, seconds=1.0)
    assert len(span) == 16000
    shifts = [np.abs(span[100:-100] - whole[640100 + k : 655900 + k]).max() for k in range(-12, 13)]
    assert min(shifts) < 0.01  # Matroska's times are whole milliseconds
    assert np.array_equal(waveform.read(path.read_bytes(), 16000), whole)
    with pytest.raises(ClaraError, match="holds no samples in the span"):
        waveform.read(path, 16000, start=200.0)


def test_the_sound_may_end_before_the_pictures_and_be_none(tmp_path: Path) -> None:
    path = tmp_path / "film.webm"
    with av.open(str(path), "w") as film:
        pictures = film.add_stream("libvpx", rate=1)
        pictures.width = pictures.height = 16
        track = film.add_stream("libopus", rate=RATE, layout="mono")
        for second in range(150):
            if second < 35:
                sound = av.AudioFrame.from_ndarray(WAVE[None, second * RATE : (second + 1) * RATE], "fltp", "mono")
                sound.sample_rate, sound.pts = RATE, second * RATE
                film.mux(track.encode(sound))
            film.mux(pictures.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), "rgb24")))
        film.mux([*track.encode(None), *pictures.encode(None)])
    streamed = sum(len(w) for _, w in waveform.stream(path, 16000, window=10.0, hop=10.0))
    assert streamed == pytest.approx(35 * 16000, abs=800)
    assert waveform.info(path).seconds == pytest.approx(35.0, abs=0.05)
    with av.open(str(tmp_path / "silent.webm"), "w") as film:
        pictures = film.add_stream("libvpx", rate=1)
        pictures.width = pictures.height = 16
        film.mux([*pictures.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), "rgb24")),
                  *pictures.encode(None)])  # fmt: skip
    with pytest.raises(ClaraError, match=r"silent\.webm holds pictures and no sound"):
        waveform.read(tmp_path / "silent.webm", 16000)


def test_what_breaks_off_is_told_without_places_in_sources(folder: Path, tmp_path: Path) -> None:
    for name in ("a.m4a",):
        data = (folder / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(ClaraError, match=r"breaks off|cannot be decoded as audio") as e:
            waveform.read(tmp_path / name, 16000)
        assert ".cpp" not in str(e.value) and "\n" not in str(e.value)
