"""Reports of users about audio: each test is a fault that somebody met, with the value that is right."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile as sf
import torch
from tiny import tiny_zoo

from clara.audio import waveform
from clara.data.video import _sound
from clara.errors import ClaraError, MissingDependency
from clara.zoo.embedder import Embedder

RATE = 16000
WAVE = np.random.default_rng(0).uniform(-0.5, 0.5, 2 * RATE).astype(np.float32)
READERS: list[Callable[[object], np.ndarray]] = [
    lambda source: waveform.read(source, RATE),
    lambda source: np.concatenate([w for _, w in waveform.stream(source, RATE, window=1.5, hop=1.5)]),
]


def encoded(container: str, subtype: str | None = None, wave: np.ndarray = WAVE, rate: int = RATE) -> bytes:
    buffer = io.BytesIO()
    sf.write(buffer, wave, rate, format=container, subtype=subtype)
    return buffer.getvalue()


def filmed(container: str, codec: str, wave: np.ndarray = WAVE, rate: int = RATE, pipe: bool = False) -> bytes:
    """`wave` as FFmpeg writes it; into a pipe it cannot go back to state sizes."""

    class Pipe:
        def __init__(self) -> None:
            self.parts: list[bytes] = []

        def write(self, data: bytes) -> int:
            self.parts.append(bytes(data))
            return len(data)

    buffer = Pipe() if pipe else io.BytesIO()
    with av.open(buffer, "w", format=container) as film:
        track = film.add_stream(codec, rate=rate, layout="mono")
        track.bit_rate = 64000
        frame = av.AudioFrame.from_ndarray(wave[None], "fltp", "mono")
        frame.sample_rate, frame.pts = rate, 0
        resampler = av.AudioResampler(track.format, track.layout, rate)
        for piece in resampler.resample(frame):
            film.mux(track.encode(piece))
        film.mux(track.encode(None))
    return b"".join(buffer.parts) if pipe else buffer.getvalue()


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return tiny_zoo(tmp_path_factory.mktemp("zoo"))


# Item 3: dtype taken for scale


@pytest.mark.parametrize("dtype", [np.int64, np.uint32, np.uint64, bool])
def test_item_3_integers_without_a_documented_scale_are_refused(dtype: type) -> None:
    pcm = (WAVE * 32767).astype(np.int16)
    with pytest.raises(ClaraError, match=f"dtype {np.dtype(dtype).name}: expected floats in"):
        waveform.read((pcm.astype(dtype), RATE), RATE)
    with pytest.raises(ClaraError, match=r"dtype int64.*array.astype"):
        waveform.read((torch.from_numpy(pcm).long(), RATE), RATE)


def test_item_3_int16_samples_in_int32_are_refused() -> None:
    pcm = (WAVE * 32767).astype(np.int16)
    with pytest.raises(ClaraError, match=r"int32 samples of at most 1\d+.*look like int16"):
        waveform.read((pcm.astype(np.int32), RATE), RATE)
    quiet = (np.array([1, -2, 3, 0]) * 256).astype(np.int32)  # the noise of 24 bits
    np.testing.assert_allclose(waveform.read((quiet, RATE), RATE), quiet / 2**31)
    assert not waveform.read((np.zeros(10, np.int32), RATE), RATE).any()


@pytest.mark.parametrize(
    ("dtype", "zero", "scale"),
    [(np.int8, 0, 2**7), (np.int16, 0, 2**15), (np.int32, 0, 2**31), (np.uint8, 2**7, 2**7), (np.uint16, 2**15, 2**15)],
)
def test_item_3_integers_have_their_own_full_scale(dtype: type, zero: int, scale: int) -> None:
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    wave = waveform.read((np.array([least, zero, most, zero + scale // 2], dtype), RATE), RATE)
    np.testing.assert_allclose(wave, [-1.0, 0.0, (most - zero) / scale, 0.5], rtol=1e-6)


@pytest.mark.parametrize("shape", [(64, RATE), (9, RATE), (RATE, 64)])
def test_item_3_batches_are_no_channels(shape: tuple[int, int]) -> None:
    with pytest.raises(ClaraError, match=r"at most 8 channels.*Several clips are a list of pairs"):
        waveform.read((np.zeros(shape, np.float32), RATE), RATE)


@pytest.mark.parametrize("shape", [(0, 2), (2, 0), (0,)])
def test_item_3_empty_arrays_hold_no_samples(shape: tuple[int, ...]) -> None:
    for reader in READERS:
        with pytest.raises(ClaraError, match="no samples"):
            reader((np.zeros(shape, np.float32), RATE))


def test_item_3_channels_that_cancel_are_refused(tmp_path: Path) -> None:
    noise = 1e-3 * np.random.default_rng(1).standard_normal(len(WAVE)).astype(np.float32)
    inverted = np.stack([WAVE, -WAVE + noise], 1)
    sf.write(tmp_path / "inverted.wav", inverted, RATE, subtype="FLOAT")
    for source in (tmp_path / "inverted.wav", (inverted, RATE)):
        for reader in READERS:
            with pytest.raises(ClaraError, match="2 channels cancel each other"):
                reader(source)
    others = np.stack([WAVE, np.roll(WAVE, 99)], 1)  # independent, and a silent second channel
    for fine in (others, np.stack([WAVE, np.zeros_like(WAVE)], 1), np.zeros((RATE, 2), np.float32)):
        assert np.array_equal(waveform.read((fine, RATE), RATE), fine.mean(1, dtype=np.float32))


def test_item_3_integers_kept_as_floats_are_refused(tmp_path: Path) -> None:
    sf.write(tmp_path / "loud.wav", WAVE * 32768, RATE, subtype="FLOAT")
    for source in ((WAVE * 32768, RATE), tmp_path / "loud.wav", (WAVE + np.float32(1e30), RATE)):
        with pytest.raises(ClaraError, match="where full scale is 1"):
            waveform.read(source, RATE)
    assert len(waveform.read((WAVE * 20, RATE), RATE)) == len(WAVE)  # floats may clip


@pytest.mark.parametrize("rate", [16000.0, np.float32(16000), np.int64(16000), np.array(16000)])
def test_item_3_whole_rates_of_any_type(rate: object) -> None:
    assert np.array_equal(waveform.read((WAVE, rate), RATE), WAVE)
    assert waveform.info((WAVE, rate)) == waveform.AudioInfo(2.0, RATE, 1)


@pytest.mark.parametrize("rate", [True, 0, -8000.0, float("nan"), float("inf"), "16000", None, 16000.5])
def test_item_3_other_rates_are_refused(rate: object) -> None:
    with pytest.raises(ClaraError, match=r"Sample rate .*: expected a whole number of Hz"):
        waveform.read((WAVE, rate), RATE)


def test_item_3_the_default_dtype_does_not_matter(zoo: Embedder) -> None:
    before = zoo.embed_audio((WAVE, RATE)), zoo.embed_text(["rain"])
    torch.set_default_dtype(torch.float64)
    try:
        after = zoo.embed_audio((WAVE, RATE)), zoo.embed_text(["rain"])
        _, windows_WD = zoo.embed_windows((WAVE, RATE))
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(before[0], after[0]) and torch.equal(before[1], after[1]) and torch.equal(windows_WD, after[0])


# Item 7: chained and cut


@pytest.mark.parametrize(("subtype", "rate"), [("VORBIS", RATE), ("OPUS", RATE), ("OPUS", 48000), ("FLAC", RATE)])
def test_item_7_chained_ogg_is_read_to_its_end(tmp_path: Path, subtype: str, rate: int) -> None:
    if subtype == "FLAC":
        links = [filmed("ogg", "flac", WAVE[: RATE * k]) for k in (1, 2)]
    else:
        links = [encoded("OGG", subtype, WAVE[: RATE * k], rate) for k in (1, 2, 1)]
    alone = np.concatenate([waveform.read(link, rate) for link in links])
    chain = tmp_path / "chain.ogg"
    chain.write_bytes(b"".join(links))
    for source in (chain, chain.read_bytes()):
        assert np.array_equal(waveform.read(source, rate), alone)
        assert waveform.info(source).seconds == pytest.approx(len(alone) / rate)
        first = len(waveform.read(links[0], rate))
        across = waveform.read(source, rate, start=(first - 100) / rate, seconds=200 / rate)
        assert np.array_equal(across, alone[first - 100 : first + 100])
        streamed = np.concatenate([w for _, w in waveform.stream(source, rate, window=1.5, hop=1.5)])
        assert np.array_equal(streamed, alone)


def test_item_7_a_chain_of_different_rates_is_refused() -> None:
    chain = encoded("OGG", "VORBIS") + encoded("OGG", "VORBIS", rate=44100)
    for reader in READERS:
        with pytest.raises(ClaraError, match="chain of 2 Ogg files of different rates"):
            reader(chain)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_item_7_a_cut_ogg_is_refused(tmp_path: Path, subtype: str) -> None:
    whole = encoded("OGG", subtype, np.tile(WAVE, 5))
    for share in (0.3, 0.5, 0.9):
        (tmp_path / "cut.ogg").write_bytes(whole[: int(share * len(whole))])
        for source in (tmp_path / "cut.ogg", (tmp_path / "cut.ogg").read_bytes()):
            for attempt in (*READERS, waveform.info):
                with pytest.raises(ClaraError, match="breaks off: its last page of Ogg"):
                    attempt(source)
    appended = whole + b"TAG" + bytes(125)  # what taggers leave is no page
    assert len(waveform.read(appended, RATE)) == len(waveform.read(whole, RATE))


@pytest.mark.parametrize(("container", "codec"), [("matroska", "flac"), ("webm", "libopus"), ("mp4", "aac")])
def test_item_7_cut_films_are_refused(container: str, codec: str) -> None:
    whole = filmed(container, codec, np.tile(WAVE, 5), 48000)
    for share in (0.5, 0.95):
        for attempt in (*READERS, waveform.info):
            with pytest.raises(ClaraError, match="breaks off: its container states"):
                attempt(whole[: int(share * len(whole))])


def test_item_7_a_film_written_into_a_pipe_is_read() -> None:
    """As browsers record: no sizes are stated."""
    whole = filmed("webm", "libopus", WAVE, 48000, pipe=True)
    assert waveform.info(whole).seconds == pytest.approx(len(WAVE) / 48000, abs=0.03)


# Item 9: containers by content


KINDS = {
    "m4a": ("ipod", "aac"), "mp4": ("mp4", "aac"), "mov": ("mov", "aac"), "3gp": ("3gp", "aac"), "aac": ("adts", "aac"),
    "webm": ("webm", "libopus"), "mkv": ("matroska", "flac"), "wma": ("asf", "wmav2"), "avi": ("avi", "mp2"),
    "ac3": ("ac3", "ac3"), "alac.m4a": ("ipod", "alac"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_item_9_content_decides_whatever_the_name(tmp_path: Path, kind: str) -> None:
    wave = (0.4 * np.sin(2 * np.pi * 440 * np.arange(96000) / 48000)).astype(np.float32)
    data = filmed(*KINDS[kind], wave, 48000)
    whole = waveform.read(data, RATE)
    assert abs(len(whole) - 2 * RATE) < 3000
    middle = whole[8000:24000]
    assert float(np.sqrt(np.mean(middle**2))) == pytest.approx(0.4 / np.sqrt(2), rel=0.05)
    assert abs(np.argmax(np.abs(np.fft.rfft(middle * np.hanning(len(middle))))) - 440) < 2
    for name in (f"a.{kind}", "a.mp3", "a.wav", "a.m4b", "a.bin", "a"):
        (tmp_path / name).write_bytes(data)
        assert np.array_equal(waveform.read(tmp_path / name, RATE), whole)
        assert waveform.info(tmp_path / name).seconds == pytest.approx(len(whole) / RATE, abs=0.05)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF", "CAF", "W64", "RF64", "AU", "NIST"])
def test_item_9_names_do_not_mislead_libsndfile(tmp_path: Path, kind: str) -> None:
    data = encoded(kind)
    for name in ("a.m4a", "a.webm", "a.aac", "a"):
        (tmp_path / name).write_bytes(data)
        assert np.array_equal(waveform.read(tmp_path / name, RATE), waveform.read(data, RATE))


@pytest.mark.parametrize(
    "junk", [bytes(700), b"<html>404</html>\r\n", b"\xff\xfb" * 50, b"ID3\x03\0\0\0\0\0\0" + bytes(33)]
)
def test_item_9_an_mp3_behind_junk(junk: bytes) -> None:
    data = encoded("MP3")
    for reader in READERS:
        assert np.array_equal(reader(junk + data), reader(data))


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("cut", [10, 100])
def test_item_9_an_mp3_whose_last_frame_is_cut(rate: int, cut: int) -> None:
    data = encoded("MP3", rate=rate)
    wave = waveform.read(data[:-cut], rate)
    assert len(WAVE) - 0.2 * rate < len(wave) <= len(WAVE)
    assert len(wave) == sum(len(w) for _, w in waveform.stream(data[:-cut], rate, window=1.5, hop=1.5))
    with pytest.raises(ClaraError, match="breaks off"):
        waveform.read(data[: len(data) // 2], rate)


def test_item_9_what_is_missing_is_named_and_nothing_is_thrown_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zoo: Embedder
) -> None:
    from clara.apps.search import embed_sources

    (tmp_path / "a.m4a").write_bytes(filmed("ipod", "aac", WAVE, RATE))
    sf.write(tmp_path / "b.wav", WAVE, RATE)
    (tmp_path / "c.wav").write_bytes(b"no audio at all")
    left_out: list[str] = []
    found, _ = embed_sources(zoo, tmp_path, broken=left_out.append)
    assert [p.name for p in found] == ["a.m4a", "b.wav"] and "c.wav" in left_out[0]
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependency, match=r"a\.m4a: PyAV, .* pip install -U av"):
        embed_sources(zoo, tmp_path, broken=left_out.append)


def test_item_9_playlists_open_no_other_files(tmp_path: Path) -> None:
    """FFmpeg reads scripts that name files and addresses: none of them may be followed."""
    secret = tmp_path / "secret.wav"
    sf.write(secret, WAVE, RATE)
    scripts = (
        f"ffconcat version 1.0\nfile '{secret}'\n",
        f"#EXTM3U\n#EXTINF:2,\n{secret}\n",
        "v=0\r\nc=IN IP4 127.0.0.1\r\n",
    )
    for i, script in enumerate(scripts):
        for name in (f"{i}.ffconcat", f"{i}.m3u8", f"{i}.wav"):
            (tmp_path / name).write_text(script)
            with pytest.raises(ClaraError, match="cannot be decoded as audio"):
                waveform.read(tmp_path / name, RATE)


@pytest.mark.parametrize(("rate", "channels"), [(800_000_000, 1), (1, 1), (RATE, 65535)])
def test_item_19_headers_that_no_recorder_writes(rate: int, channels: int) -> None:
    data = bytearray(encoded("WAV", "PCM_16"))
    data[22:24], data[24:28] = channels.to_bytes(2, "little"), rate.to_bytes(4, "little")
    data[32:34] = (2 * channels % 65536).to_bytes(2, "little")
    for attempt in (*READERS, waveform.info):
        with pytest.raises(ClaraError, match=r"states .* channels at .* Hz|cannot be decoded"):
            attempt(bytes(data))


@pytest.mark.parametrize("rate", [1, 8e8])
def test_item_19_rates_of_arrays_that_no_recorder_has(rate: float) -> None:
    for attempt in (*READERS, waveform.info):
        with pytest.raises(ClaraError, match=r"Sample rate .*: expected 100 to 4,000,000 Hz"):
            attempt((WAVE, rate))


def test_item_19_room_is_made_for_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A FLAC that states 2^35 samples asked for 128 GiB."""
    data = bytearray(encoded("FLAC"))
    stated = int.from_bytes(data[18:26], "big") >> 36 << 36 | 2**35  # STREAMINFO: the lower 36 bits are the length
    data[18:26] = stated.to_bytes(8, "big")
    for attempt in READERS:
        with pytest.raises(ClaraError, match="breaks off"):
            attempt(bytes(data))
    monkeypatch.setattr("clara.audio.files.MOST_AT_ONCE", 1000)
    assert np.allclose(waveform.read(encoded("FLAC"), RATE), WAVE, atol=1e-4)
    assert np.allclose(waveform.read(encoded("FLAC"), RATE, start=0.5, seconds=1.0), WAVE[8000:24000], atol=1e-4)


def test_item_9_decoders_are_quiet(tmp_path: Path) -> None:
    """FFmpeg writes its own warnings to the terminal unless it is told not to."""
    (tmp_path / "a.m4a").write_bytes(filmed("ipod", "aac", WAVE, RATE)[:-300])
    code = (
        "import sys\nfrom clara.audio import waveform\ntry: waveform.read(sys.argv[1], 16000)\nexcept ValueError: pass"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.m4a")], capture_output=True, text=True, timeout=900
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_fuzzing_damage_is_told_wherever_reading_begins() -> None:
    """A FLAC whose frames are damaged cannot be sought in; libsndfile says so with an error of its own."""
    whole = encoded("FLAC")
    data = bytearray(whole)
    data[200 : len(data) - 200] = np.random.default_rng(4).integers(0, 256, len(data) - 400, dtype=np.uint8).tobytes()
    for span in ({}, {"start": 0.5, "seconds": 1.0}, {"start": 1.5}):
        with pytest.raises(ClaraError, match=r"bytes> (is damaged|breaks off|cannot)"):
            waveform.read(bytes(data), RATE, **span)


def test_fuzzing_many_channels_of_a_film(tmp_path: Path) -> None:
    """PyAV reads past the end of its list of planes, which ended the process at a header of 28 channels."""
    path, layout = tmp_path / "a.mka", "hexadecagonal"
    with av.open(str(path), "w", format="matroska") as film:
        track = film.add_stream("wavpack", rate=RATE, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.tile(WAVE[:RATE], (16, 1)).T.reshape(1, -1).copy(), "flt", layout)
        frame.sample_rate, frame.pts = RATE, 0
        for piece in av.AudioResampler(track.format, layout, RATE).resample(frame):
            film.mux(track.encode(piece))
        film.mux(track.encode(None))
    for read in (waveform.info, lambda source: waveform.read(source, RATE)):
        with pytest.raises(ClaraError, match=r"a\.mka has 16 channels: expected at most 8"):
            read(path)
    blocks = [block for block, _ in _sound(path)]
    assert blocks[0].shape[1] == 16 and abs(np.concatenate(blocks)[100:200] - WAVE[100:200, None]).max() < 0.01
