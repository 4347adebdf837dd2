"""`clara embed` goes on where it was killed, embeds nothing twice, and lists what it could not read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
from tiny import save_tiny, tiny_zoo

from clara.apps import embedding_file
from clara.apps.embedding_file import EmbedConfig, write_embeddings
from clara.audio.sources import list_audio
from clara.errors import ClaraError
from clara.zoo.embedder import Embedder

RATE = 16000


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return tiny_zoo(tmp_path_factory.mktemp("zoo"))


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Ten clips, two in a part."""
    monkeypatch.setattr(embedding_file, "PART_CLIPS", 2)
    folder, rng = tmp_path / "clips", np.random.default_rng(0)
    folder.mkdir()
    for i in range(10):
        sf.write(folder / f"{i}.wav", 0.1 * rng.standard_normal(RATE * (1 + i % 4)), RATE)
    return list_audio(folder)


def read(out: Path) -> dict[str, Any]:
    with np.load(out, allow_pickle=False) as data:
        return {name: data[name] for name in data}


@pytest.mark.parametrize("windows", [False, True])
def test_it_goes_on_from_the_parts(
    zoo: Embedder, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, windows: bool
) -> None:
    config, whole, out = EmbedConfig(windows), tmp_path / "whole.npz", tmp_path / "x.npz"
    assert write_embeddings(zoo, clips, whole, config).resumed == 0
    embedded: list[int] = []
    name = "embed_windows_of" if windows else "embed_sources"
    real = getattr(embedding_file, name)

    def counted(zoo: Embedder, items: list[Path], *more: Any) -> Any:
        if len(embedded) == 3:
            raise KeyboardInterrupt
        embedded.append(len(items))
        return real(zoo, items, *more)

    monkeypatch.setattr(embedding_file, name, counted)
    with pytest.raises(KeyboardInterrupt):
        write_embeddings(zoo, clips, out, config)
    assert not out.exists() and len(list((tmp_path / ".x.npz.parts").iterdir())) == 3
    embedded[:] = [0] * 4
    os.utime(clips[0], ns=(1, 1))  # changed since: embedded again
    done = write_embeddings(zoo, clips, out, config)
    assert (done.resumed, sum(embedded), done.clips) == (5, 5, 10)
    assert not (tmp_path / ".x.npz.parts").exists()
    one, other = read(whole), read(out)
    assert one.keys() == other.keys() and one["paths"].tolist() == other["paths"].tolist()
    assert np.allclose(one["audio"], other["audio"], atol=1e-5)
    assert ("times" in one) == windows and (not windows or np.array_equal(one["times"], other["times"]))


def test_nothing_is_taken_from_another_model_or_a_damaged_part(
    zoo: Embedder, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding_file.shutil, "rmtree", lambda *_, **__: None)  # the parts stay
    out = tmp_path / "x.npz"
    write_embeddings(zoo, clips, out)
    assert write_embeddings(zoo, clips, out).resumed == 10
    assert write_embeddings(zoo, clips, out, EmbedConfig(windows=True)).resumed == 0
    expected = zoo.embed_audio(clips)
    for part in (tmp_path / ".x.npz.parts").iterdir():
        part.write_bytes(part.read_bytes()[:100])
    assert write_embeddings(zoo, clips[::-1], out).resumed == 0
    torch.testing.assert_close(torch.from_numpy(read(out)["audio"]), expected.flip(0), atol=1e-5, rtol=0)


def test_what_failed_is_listed_and_tried_again(zoo: Embedder, clips: list[Path], tmp_path: Path) -> None:
    good = clips[1].read_bytes()
    clips[1].write_bytes(b"no audio")
    out, told = tmp_path / "x.npz", list[str]()
    with pytest.raises(ClaraError, match=r"1\.wav cannot be decoded"):
        write_embeddings(zoo, clips, out)
    done = write_embeddings(zoo, clips, out, broken=told.append)
    found = read(out)
    assert (done.clips, done.failed, len(told)) == (9, 1, 1)
    assert found["failed"].tolist() == [str(clips[1])] and "cannot be decoded" in found["why"][0]
    for clip in clips:
        clip.write_bytes(b"no audio")
    with pytest.raises(ClaraError, match="None of 10 clips can be read"):
        write_embeddings(zoo, clips, out, broken=told.append)
    assert read(out)["paths"].tolist() == found["paths"].tolist()  # what was there stays
    clips[1].write_bytes(good)
    assert write_embeddings(zoo, clips, out, broken=told.append).clips == 1


@pytest.mark.slow
def test_killed_it_goes_on(clips: list[Path], tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model")
    code = (
        "import sys; from clara.apps import embedding_file as e; e.PART_CLIPS = 2; from clara.cli import main; main()"
    )
    line = [
        sys.executable,
        "-c",
        code,
        "embed",
        str(clips[0].parent),
        "-o",
        str(tmp_path / "x.npz"),
        "-m",
        f"dir:{model}",
    ]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL)
    parts = tmp_path / ".x.npz.parts"
    while process.poll() is None and not list(parts.glob("*.npz")):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(list(parts.glob("*.npz")))
    again = subprocess.run(line, capture_output=True, text=True, timeout=600)
    assert again.returncode == 0, again.stderr
    assert "10 clips" in again.stdout
    assert done == 0 or f"{2 * done} clips were done by a former run" in again.stderr
