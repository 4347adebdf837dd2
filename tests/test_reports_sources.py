"""Reports of users about where audio comes from: each test is a fault that somebody met, with what is right."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from tiny import tiny_zoo
from typer.testing import CliRunner

from clara.audio import sources, waveform
from clara.cli import app
from clara.errors import ClaraError
from clara.zoo.embedder import Embedder

RATE = 16000
WAVE = np.random.default_rng(0).uniform(-0.5, 0.5, 2 * RATE).astype(np.float32)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return tiny_zoo(tmp_path_factory.mktemp("zoo"))


# Item 10: cells, columns, pipes and paths


class Samples:
    """As torchcodec's AudioSamples."""

    def __init__(self, wave: np.ndarray) -> None:
        self.data, self.sample_rate = torch.from_numpy(wave)[None], RATE
        self.pts_seconds, self.duration_seconds = 0.0, len(wave) / RATE


class Decoder:
    """As datasets' AudioDecoder, which decodes when it is asked."""

    def __init__(self, wave: np.ndarray, path: str | None = None) -> None:
        self.wave, self._hf_encoded = wave, {"path": path, "bytes": None}

    def get_all_samples(self) -> Samples:
        if not len(self.wave):
            raise RuntimeError("no frames")
        return Samples(self.wave)

    def __getitem__(self, key: str) -> object:
        raise AssertionError("not needed")


class Series:
    """As pandas' Series: it has a shape and a dtype, and is no list."""

    def __init__(self, values: list, dtype: str = "object") -> None:
        self.values, self.shape, self.ndim, self.dtype = values, (len(values),), 1, np.dtype(dtype)

    def __iter__(self) -> Iterator:
        return iter(self.values)

    def tolist(self) -> list:
        return self.values


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    sf.write(tmp_path / "clip.wav", WAVE, RATE, subtype="FLOAT")
    return tmp_path / "clip.wav"


def test_item_10_cells_of_datasets(zoo: Embedder, clip: Path) -> None:
    expected_1D = zoo.embed_audio(clip)
    cells = [
        Decoder(WAVE),
        Samples(WAVE),
        {"audio": Decoder(WAVE), "text": "rain"},
        {"audio": {"array": WAVE, "sampling_rate": RATE}, "text": "rain"},
        {"audio": str(clip), "text": "rain"},
        {"array": WAVE, "sample_rate": RATE},
    ]
    torch.testing.assert_close(zoo.embed_audio(cells), expected_1D.expand(len(cells), -1), atol=1e-5, rtol=0)
    for cell in cells:
        torch.testing.assert_close(zoo.embed_audio(cell), expected_1D, atol=1e-5, rtol=0)
        assert waveform.info(cell).seconds == 2.0
    with pytest.raises(ClaraError, match=r"a/b\.wav cannot be decoded as audio \(no frames\)"):
        zoo.embed_audio({"audio": Decoder(WAVE[:0], "a/b.wav"), "text": "rain"})


def test_item_10_arrays_and_series_of_paths(zoo: Embedder, clip: Path) -> None:
    both = [str(clip), clip]
    for column in (np.array([str(clip)] * 2), np.array(both, object), Series(both), tuple(both), iter(both)):
        assert zoo.embed_audio(column).shape == (2, 32)
    for numbers in (WAVE, torch.from_numpy(WAVE), Series([0.5], "float32")):
        with pytest.raises(ClaraError, match="expected paths, encoded bytes or"):
            zoo.embed_audio(numbers)


def test_item_10_pipes_and_standard_input(
    zoo: Embedder, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = clip.read_bytes()
    expected = waveform.read(clip, RATE)

    def piped() -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    for read in (
        lambda: waveform.read("-", RATE),
        lambda: np.concatenate([w for _, w in waveform.stream("-", RATE, window=1.5, hop=1.5)]),
    ):
        piped()
        assert np.array_equal(read(), expected)
    piped()
    ((cell),) = sources.expand("-")
    assert sources.describe(cell) == "-" and np.array_equal(waveform.read(cell, RATE), expected)
    if hasattr(os, "mkfifo"):
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        for long in ("windows", "center"):
            threading.Thread(target=fifo.write_bytes, args=(data,), daemon=True).start()
            torch.testing.assert_close(zoo.embed_audio(fifo, long=long), zoo.embed_audio(clip, long=long))


@pytest.mark.parametrize("empty", ["", "  ", [""], ["a.wav", ""]])
def test_item_10_an_empty_path_is_not_the_working_folder(
    zoo: Embedder, clip: Path, empty: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clip.parent)
    clip.rename("a.wav")
    with pytest.raises(ClaraError, match=r"Got '.*' as audio: expected a path"):
        zoo.embed_audio(empty)
    for attempt in (sources.list_audio, waveform.info):
        with pytest.raises(ClaraError, match="expected a path"):
            attempt("")


def test_item_10_home(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clara.zoo.catalog import parse_name

    monkeypatch.setenv("HOME", str(clip.parent))
    assert parse_name("dir:~/x").value == str(clip.parent / "x")
    assert np.array_equal(waveform.read("~/clip.wav", RATE), WAVE)
    assert sources.expand("~") == [clip]


# Item 11: folders


def test_item_11_folders_are_read_through_links_and_without_litter(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    names = ["a.oga", "b.CAF", "c.aifc", "d.w64", "e.sph", "f.rf64", "deep/g.wav", "deep/h.m4b"]
    litter = [".Trash/x.wav", ".Trash-1000/files/x.wav", ".ipynb_checkpoints/x-checkpoint.wav", "__MACOSX/x.wav"]
    litter += ["deep/.hidden/x.wav", "._a.wav", "notes.txt"]
    for path in (*(folder / name for name in (*names, *litter)), elsewhere / "i.wav"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / "linked").symlink_to(elsewhere)
    (folder / "j.wav").symlink_to(elsewhere / "i.wav")
    (folder / "a_deep").symlink_to(folder / "deep")  # lies below already: read once, under its own name
    (elsewhere / "round").symlink_to(folder)
    expected = sorted(folder / name for name in (*names, "linked/i.wav", "j.wav"))
    assert sources.list_audio(folder) == expected
    (tmp_path / ".hidden").symlink_to(folder)
    assert len(sources.list_audio(tmp_path / ".hidden")) == len(expected)  # but the folder itself is as it is named


@pytest.mark.parametrize(("ending", "kind"), [("oga", "OGG"), ("caf", "CAF"), ("aifc", "AIFF"), ("w64", "W64"),
                                              ("sph", "NIST"), ("rf64", "RF64")])  # fmt: skip
def test_item_11_these_kinds_are_decoded(tmp_path: Path, ending: str, kind: str) -> None:
    sf.write(tmp_path / f"a.{ending}", WAVE, RATE, format=kind)
    assert [len(waveform.read(path, RATE)) for path in sources.list_audio(tmp_path)] == [len(WAVE)]


def test_item_10_commands_name_standard_input(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.npz"
    for arguments in (["classify", "-", "--labels", "rain,dog"], ["embed", "-", "--out", str(out)]):
        done = CliRunner().invoke(app, arguments, input=clip.read_bytes())
        assert done.exit_code == 0 and "RIFF" not in done.output
    assert np.load(out)["paths"].tolist() == ["-"]
    assert CliRunner().invoke(app, ["classify", "", "--labels", "rain,dog"]).exit_code == 2
