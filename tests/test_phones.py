"""What phones and browsers record: the length to within a codec's frame, the rate, and every verb."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from tiny import save_tiny
from typer.testing import CliRunner

from clara.audio import waveform
from clara.audio.sources import list_audio
from clara.cli import app
from clara.errors import ClaraError

SECONDS = 3.3
# name: container, codec, Hz, layout, whether pictures go with it, samples that it may be longer by
FILES = {
    "voice.m4a": ("ipod", "aac", 44100, "stereo", False, 1024),
    "lossless.m4a": ("ipod", "alac", 44100, "mono", False, 0),
    "film.mp4": ("mp4", "aac", 48000, "mono", True, 1024),
    "film.MOV": ("mov", "aac", 44100, "mono", True, 1024),
    "raw.mov": ("mov", "pcm_s16le", 48000, "stereo", True, 0),
    "bare.aac": ("adts", "aac", 32000, "mono", False, 2048),  # nothing tells how much of its first frame is delay
    "browser.webm": ("webm", "libopus", 48000, "mono", False, 0),
    "old.3gp": ("3gp", "libopencore_amrnb", 8000, "mono", True, 160),
    "new.3gp": ("3gp", "aac", 16000, "mono", False, 1024),
    "note.amr": ("amr", "libopencore_amrnb", 8000, "mono", False, 160),
    "misnamed.mp3": ("ipod", "aac", 22050, "mono", False, 1024),
}
FILES = {name: made for name, made in FILES.items() if made[1] in av.codecs_available}  # some wheels lack AMR
STATELESS = ("bare.aac", "note.amr")  # streams that state no length


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phones")
    for name, (container, codec, rate, layout, pictures, _) in FILES.items():
        _record(out / name, container, codec, rate, layout, pictures)
    return out


def _record(path: Path, container: str, codec: str, rate: int, layout: str, pictures: bool) -> None:
    """A tone of 440 Hz."""
    wave = (0.4 * np.sin(2 * np.pi * 440 * np.arange(round(SECONDS * rate)) / rate)).astype(np.float32)
    with av.open(str(path), "w", format=container) as film:
        if pictures:
            screen = film.add_stream("mpeg4", rate=5)
            screen.width = screen.height = 32
            screen.pix_fmt = "yuv420p"
        track = film.add_stream(codec, rate=rate, layout=layout)
        if codec == "libopencore_amrnb":
            track.bit_rate = 12200
        fitting = av.AudioResampler(track.format, layout, rate, track.codec_context.frame_size or 1024)
        whole = av.AudioFrame.from_ndarray(np.tile(wave, (2 if layout == "stereo" else 1, 1)), "fltp", layout)
        whole.sample_rate, whole.pts = rate, 0
        for frame in [*fitting.resample(whole), *fitting.resample(None)]:
            film.mux(track.encode(frame))
        film.mux(track.encode(None))
        if pictures:
            for _ in range(round(5 * SECONDS)):
                film.mux(screen.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")))
            film.mux(screen.encode(None))


@pytest.mark.parametrize("name", FILES)
def test_rate_length_and_tone(folder: Path, name: str) -> None:
    _, _, rate, layout, _, frame = FILES[name]
    found = waveform.info(folder / name)
    assert (found.sample_rate, found.channels) == (rate, 2 if layout == "stereo" else 1)
    assert 0 <= round(found.seconds * rate) - round(SECONDS * rate) <= frame
    wave = waveform.read(folder / name, rate)
    assert 0 <= len(wave) - round(SECONDS * rate) <= frame
    middle = wave[rate : 2 * rate]
    assert abs(int(np.argmax(np.abs(np.fft.rfft(middle)))) - 440) <= 1
    assert float(np.sqrt(np.mean(middle**2))) == pytest.approx(0.4 / np.sqrt(2), rel=0.25)  # AMR models voices


@pytest.mark.parametrize("name", FILES)
def test_half_a_copy_is_refused_where_the_container_states_its_length(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    half = data[: len(data) // 2]
    if name in STATELESS:  # as an MP3 without a length: read as far as it goes
        assert len(waveform.read(half, 16000)) == pytest.approx(SECONDS * 8000, rel=0.15)
        return
    with pytest.raises(ClaraError, match="breaks off"):
        waveform.read(half, 16000)


def test_every_verb_takes_a_folder_of_them(folder: Path, tmp_path: Path) -> None:
    assert {p.name for p in list_audio(folder)} == set(FILES)
    model = f"dir:{save_tiny(tmp_path / 'model')}"
    labels = ("--labels", "a tone,a dog", "--json", "-m", model)
    shown = CliRunner().invoke(app, ["classify", str(folder), *labels])
    assert shown.exit_code == 0, shown.output
    assert {Path(r["file"]).name for r in json.loads(shown.stdout)} == set(FILES)
    written = CliRunner().invoke(app, ["embed", str(folder), "-o", str(tmp_path / "x.npz"), "-m", model])
    assert written.exit_code == 0, written.output
    assert np.load(tmp_path / "x.npz")["audio"].shape[0] == len(FILES)
    found = CliRunner().invoke(app, ["search", "a tone", "--folder", str(folder), "--top", "99", "--json", "-m", model])
    assert {Path(r["file"]).name for r in json.loads(found.stdout)} == set(FILES)
    heard = CliRunner().invoke(app, ["find", "a tone", str(folder / "old.3gp"), "--json", "-m", model])
    assert heard.exit_code == 0, heard.output
