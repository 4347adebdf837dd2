"""Reading audio: every format, rate and kind of bad input a user can bring."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from clara.audio import sources, waveform
from clara.errors import ClaraError

FORMATS = [("wav", {}), ("flac", {}), ("ogg", {}), ("opus", {"format": "OGG", "subtype": "OPUS"}), ("mp3", {})]


def level(wave: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(wave))))


@pytest.mark.parametrize(("ending", "options"), FORMATS)
def test_formats_round_trip(wav: Callable[..., Path], tone: Callable, ending: str, options: dict) -> None:
    path = wav(1.0, 48000, f"a.{ending}", **options)
    wave = waveform.read(path, 16000)
    assert wave.dtype == np.float32
    assert wave.shape == (16000,)
    middle = slice(2000, 14000)  # codecs may smear the edges and shift by some samples: compare what is heard
    spectrum = np.abs(np.fft.rfft(wave[middle] * np.hanning(12000)))
    assert abs(np.argmax(spectrum) * 16000 / 12000 - 440) < 2
    assert level(wave[middle]) == pytest.approx(0.5 / np.sqrt(2), rel=0.03)
    assert np.array_equal(waveform.read(path.read_bytes(), 16000), wave)
    assert np.array_equal(waveform.read(str(path), 16000), wave)


def test_lossless_at_the_same_rate_is_exact(wav: Callable[..., Path], tone: Callable) -> None:
    path = wav(0.5, 16000, subtype="FLOAT")
    assert np.array_equal(waveform.read(path, 16000), tone(0.5))


def test_span(wav: Callable[..., Path], tone: Callable) -> None:
    path, whole = wav(2.0, subtype="FLOAT"), tone(2.0)
    assert np.array_equal(waveform.read(path, 16000, start=0.5, seconds=0.25), whole[8000:12000])
    assert np.array_equal(waveform.read((whole, 16000), 16000, start=0.5, seconds=0.25), whole[8000:12000])
    assert np.array_equal(waveform.read(path, 16000, start=1.9, seconds=5.0), whole[30400:])
    for source in (path, (whole, 16000)):
        with pytest.raises(ClaraError, match="no samples in the span"):
            waveform.read(source, 16000, start=3.0)
    for span in ({"start": -1.0}, {"seconds": 0.0}):
        with pytest.raises(ClaraError, match="expected start"):
            waveform.read(path, 16000, **span)


def test_stereo_is_averaged(tmp_path: Path, tone: Callable) -> None:
    left, right = tone(1.0, hz=300), tone(1.0, hz=900)
    path = tmp_path / "s.wav"
    sf.write(path, np.stack([left, right], 1), 16000, subtype="FLOAT")
    expected = (left + right) / 2
    np.testing.assert_allclose(waveform.read(path, 16000), expected, atol=1e-7)
    np.testing.assert_allclose(waveform.read((np.stack([left, right]), 16000), 16000), expected, atol=1e-7)
    np.testing.assert_allclose(
        waveform.read((torch.tensor(np.stack([left, right])), 16000), 16000), expected, atol=1e-7
    )
    assert waveform.info(path) == waveform.AudioInfo(1.0, 16000, 2)


def test_telephone_and_studio(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    phone, studio = tmp_path / "phone.wav", tmp_path / "studio.wav"
    sf.write(phone, 0.3 * rng.standard_normal((4000, 2)).clip(-1, 1), 8000, subtype="PCM_U8")
    wave = waveform.read(phone, 16000)
    assert wave.shape == (8000,)
    assert 0.05 < level(wave) < 0.3
    t = np.arange(192000) / 192000
    sf.write(studio, 0.4 * np.sin(2 * np.pi * 1000 * t) + 0.4 * np.sin(2 * np.pi * 50000 * t), 192000, subtype="PCM_24")
    wave = waveform.read(studio, 16000)
    assert wave.shape == (16000,)
    assert level(wave[1000:-1000]) == pytest.approx(0.4 / np.sqrt(2), rel=0.01), "what lies above 8 kHz must not fold"


@pytest.mark.parametrize(
    ("dtype", "scale"), [(np.int16, 2**15), (np.int32, 2**31), (np.float64, 1.0), (np.float32, 1.0)]
)
def test_array_types(tone: Callable, dtype: type, scale: float) -> None:
    array = (tone(0.1) * (scale - (scale > 1))).astype(dtype)
    np.testing.assert_allclose(waveform.read((array, 16000), 16000), tone(0.1), atol=1e-4)
    half = torch.from_numpy(tone(0.1)).bfloat16()
    assert np.array_equal(waveform.read((half, 16000), 16000), half.float().numpy())
    unsigned = np.array([0, 128, 255], np.uint8)
    assert waveform.read((unsigned, 16000), 16000).tolist() == [-1.0, 0.0, 127 / 128]


def test_one_sample_and_silence(tmp_path: Path) -> None:
    path = tmp_path / "one.wav"
    sf.write(path, np.array([0.25]), 16000, subtype="FLOAT")
    assert waveform.read(path, 16000).tolist() == [0.25]
    assert len(waveform.read((np.array([0.25]), 192000), 16000)) == 1
    [(start, wave)] = waveform.stream(path, 16000, window=1.0, hop=1.0)
    assert (start, wave.tolist()) == (0.0, [0.25])
    assert np.array_equal(waveform.read((np.zeros(8000), 8000), 16000), np.zeros(16000, np.float32))


def bad_files(folder: Path) -> list[tuple[object, str]]:
    """Every bad source and what its error must say."""
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("Dear diary, today I sang.")
    sf.write(folder / "nothing.wav", np.zeros(0), 16000)
    broken = np.zeros(1000, np.float32)
    broken[[3, 7]] = np.nan, np.inf
    sf.write(folder / "nan.wav", broken, 16000, subtype="FLOAT")
    return [
        (folder / "missing.wav", "No such audio file: .*missing.wav"),
        (str(folder / "missing.wav"), "No such audio file"),
        (folder, "is a folder"),
        (folder / "empty.wav", r"empty.wav is empty \(0 bytes\)"),
        (folder / "text.wav", "text.wav cannot be decoded as audio"),
        (folder / "nothing.wav", "nothing.wav holds no samples"),
        (folder / "nan.wav", "nan.wav holds 2 NaN or infinite"),
        (b"", "0 bytes"),
        (b"not audio at all", r"<16 bytes> cannot be decoded as audio \(Format not recognised\)\. Expected"),
        ("https://a.org/x.wav", "https://a.org/x.wav: addresses are not fetched"),
        (Path("s3://a/x.wav"), "s3:/a/x.wav: addresses are not fetched"),
        ((broken, 16000), "holds 2 NaN or infinite"),
        ((np.zeros(0, np.float32), 16000), "no samples"),
        (np.zeros(100), r"A bare array has no sample rate: pass \(array, rate\)"),
        (torch.zeros(100), "A bare array has no sample rate"),
        ((np.zeros(10), 0), "Sample rate 0"),
        ((np.zeros(10), 16000.5), "Sample rate 16000.5"),
        ((np.zeros((2, 3, 4)), 16000), r"shape \(2, 3, 4\)"),
        ((np.array(["a", "b"]), 16000), "dtype"),
        ((np.zeros(10, complex), 16000), "dtype"),
        (None, "type NoneType"),
        (7, "type int"),
    ]


def test_bad_input_is_refused_with_its_name(tmp_path: Path) -> None:
    for source, message in bad_files(tmp_path):
        with pytest.raises(ClaraError, match=message):
            waveform.read(source, 16000)
        with pytest.raises(ClaraError):
            list(waveform.stream(source, 16000, window=1.0, hop=1.0))


def test_info_refuses_what_is_no_audio(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("Dear diary")
    for source in (tmp_path / "text.wav", tmp_path / "missing.wav", b"", np.zeros(3)):
        with pytest.raises(ClaraError):
            waveform.info(source)
    assert waveform.info((np.zeros((2, 800)), 8000)) == waveform.AudioInfo(0.1, 8000, 2)


@pytest.mark.parametrize(("rate", "target"), [(16000, 16000), (44100, 16000), (8000, 16000)])
@pytest.mark.parametrize("seconds", [0.3, 2.0, 2.5, 61.7])
def test_stream_windows_are_the_whole_file(wav: Callable[..., Path], rate: int, target: int, seconds: float) -> None:
    path = wav(seconds, rate, subtype="FLOAT")
    whole = waveform.read(path, target)
    windows = list(waveform.stream(path, target, window=2.0, hop=2.0))
    assert [s for s, _ in windows] == [2.0 * i for i in range(len(windows))]
    assert [len(w) for _, w in windows[:-1]] == [2 * target] * (len(windows) - 1)
    joined = np.concatenate([w for _, w in windows])
    assert abs(len(joined) - len(whole)) <= 1
    n = min(len(joined), len(whole))
    np.testing.assert_allclose(joined[:n], whole[:n], atol=1e-5)


def test_stream_with_overlap(tone: Callable) -> None:
    wave = tone(5.0)
    windows = list(waveform.stream((wave, 16000), 16000, window=2.0, hop=1.0))
    assert [s for s, _ in windows] == [0.0, 1.0, 2.0, 3.0]
    for start, window in windows:
        assert np.array_equal(window, wave[int(start * 16000) :][:32000])
    with pytest.raises(ClaraError, match="must both be above 0"):
        list(waveform.stream((wave, 16000), 16000, window=2.0, hop=0.0))


def test_long_file_in_bounded_memory(tmp_path: Path) -> None:
    """Ten times the length must not want more memory: 20 and 200 minutes at a tiny rate, the window 10 s."""
    peaks = []
    for minutes in (20, 200):
        path, rate = tmp_path / f"{minutes}.wav", 500
        with sf.SoundFile(path, "w", rate, 1, subtype="PCM_16") as file:
            for _ in range(minutes):
                file.write(np.zeros(60 * rate, np.int16))
        tracemalloc.start()
        count = sum(1 for _ in waveform.stream(path, 1000, window=10.0, hop=10.0))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert count == minutes * 6
    assert peaks[1] < 1.2 * peaks[0] + 50_000
    assert peaks[1] < 2e6, "the whole file would be 48 MB"


def test_truncated_file(wav: Callable[..., Path], tmp_path: Path) -> None:
    """A copy that broke off gives what is left, or says so."""
    whole = wav(5.0, 16000, "a.flac").read_bytes()
    cut = tmp_path / "cut.flac"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ClaraError, match=r"cut\.flac"):
        waveform.read(cut, 16000)


def test_list_audio(wav: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ClaraError, match="No such folder"):
        sources.list_audio(tmp_path / "nowhere")
    with pytest.raises(ClaraError, match="No audio below"):
        sources.list_audio(tmp_path)
    (tmp_path / "b").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "._z.wav").write_bytes(b"\0\5\26\7 what macOS puts beside a file")
    found = [wav(0.1, name="z.wav"), wav(0.1, name="b/a.FLAC", format="FLAC")]
    assert sources.list_audio(tmp_path) == sorted(found)


@pytest.mark.skipif(os.name == "nt", reason="names are bytes on POSIX only")
def test_a_name_in_another_encoding(wav: Callable[..., Path], tmp_path: Path, tone: Callable) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    try:
        wav(0.5, subtype="FLOAT").rename(path)
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    assert np.array_equal(waveform.read(path, 16000), tone(0.5))
    assert waveform.info(path).seconds == 0.5
