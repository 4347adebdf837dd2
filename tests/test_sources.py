"""Audio as it lies in other people's hands: open files, and cells of Hugging Face's datasets."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from tiny import tiny_zoo

from clara.audio import sources, waveform
from clara.audio.sources import expand
from clara.errors import ClaraError
from clara.zoo.embedder import Embedder

RATE = 16000


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return tiny_zoo(tmp_path_factory.mktemp("zoo"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    wave = 0.1 * np.random.default_rng(0).standard_normal(5 * RATE)
    sf.write(tmp_path / "a.wav", wave.astype(np.float32), RATE, subtype="FLOAT")
    return tmp_path / "a.wav"


@pytest.mark.parametrize("long", ["windows", "first", "center"])
def test_open_files_and_cells_are_as_the_file_itself(zoo: Embedder, path: Path, long: str) -> None:
    wave, data = waveform.read(path, RATE), path.read_bytes()
    expected_1D = zoo.embed_audio(path, long=long)
    with path.open("rb") as file:
        file.seek(100)  # wherever it stands
        cells = [
            file,
            io.BytesIO(data),
            {"array": wave, "sampling_rate": RATE},
            {"array": wave.tolist(), "sampling_rate": RATE},
            {"array": torch.from_numpy(wave), "sampling_rate": np.int64(RATE), "path": None},
            {"array": (wave[None] * 2**31).astype(np.int32), "sampling_rate": RATE},
            {"bytes": data, "path": "elsewhere.wav"},
            {"bytes": None, "path": str(path)},
        ]
        audio_BD = zoo.embed_audio(cells, long=long)
        torch.testing.assert_close(audio_BD, expected_1D.expand(len(cells), -1), atol=1e-5, rtol=0)
        for one in cells:
            torch.testing.assert_close(zoo.embed_audio(one, long=long), expected_1D, atol=1e-5, rtol=0)
            assert expand(one) == [one]
            assert waveform.info(one).seconds == 5.0


def test_what_cannot_go_back_is_read_from_where_it_stands(path: Path) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: int) -> int:
            raise OSError("a pipe")

    assert np.array_equal(waveform.read(Pipe(path.read_bytes()), RATE), waveform.read(path, RATE))


def test_they_have_names(path: Path) -> None:
    with path.open("rb") as file:
        assert sources.describe(file) == str(path)
    assert sources.describe(io.BytesIO(b"")) == "<BytesIO>"
    assert sources.describe({"bytes": b"x", "path": "a/b.wav"}) == "a/b.wav"
    assert sources.describe({"bytes": b"x", "path": None}) == "<dict>"


def test_others_are_refused(zoo: Embedder, path: Path) -> None:
    closed = path.open("rb")
    closed.close()
    with path.open(encoding="latin-1") as text:
        for source, message in (
            (text, r"a\.wav gives str, not bytes: open it in mode 'rb'"),
            (closed, r"a\.wav cannot be read \(.*closed file"),
            (io.BytesIO(b""), "0 bytes"),
            ({"sound": 1}, r"dictionary of \['sound'\]: expected 'array' and 'sampling_rate', 'bytes', 'path', or"),
            ({"bytes": None, "path": None}, r"dictionary of \['bytes', 'path'\]"),
            ({"array": [0.0, 1.0]}, "Sample rate None"),
        ):
            with pytest.raises(ClaraError, match=message):
                zoo.embed_audio(source)
