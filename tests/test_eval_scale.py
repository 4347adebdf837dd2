"""Embedding many clips: threads, cache and processes change how long it takes, not what comes out."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile as sf
import torch
import torch.multiprocessing as mp

from clara.audio import waveform
from clara.data.manifest import Row
from clara.errors import ClaraError
from clara.eval import embeddings
from clara.eval.clips import Context
from clara.eval.embeddings import EmbeddingCache, Spent, Supply, content_key, embed_clips
from clara.report.maps import places, read_sample
from clara.train.distributed import World, processes


def embed(sources: list, batch_size: int = 16) -> torch.Tensor:
    """Mean, spread and length of each clip."""
    waves = [torch.from_numpy(waveform.read(s, 16000)) for s in sources]
    return torch.stack([torch.stack([w.mean(), w.std(), torch.tensor(len(w) / 1e4)]) for w in waves])


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(0)
    for i in range(10):
        sf.write(tmp_path / f"{i}.wav", 0.1 * rng.standard_normal(800 + 100 * i), 22050)
    return [str(tmp_path / f"{i}.wav") for i in range(10)]


def test_threads_and_cache_give_the_same_vectors(names: list[str], tmp_path: Path) -> None:
    plain = embed_clips(embed, names, Supply(), "a")
    for supply in (Supply(workers=3), Supply(workers=2, cache=tmp_path / "c"), Supply(cache=tmp_path / "d")):
        got = embed_clips(embed, names, supply, "a")
        assert list(got) == names
        for name in names:
            torch.testing.assert_close(got[name], plain[name], atol=1e-6, rtol=0)


def test_what_was_embedded_is_not_embedded_again(names: list[str], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(embeddings, "CHUNK", 3)
    supply, calls = Supply(cache=tmp_path / "c"), []

    def stops(sources: list, batch_size: int = 16) -> torch.Tensor:
        calls.append(len(sources))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return embed(sources)

    with pytest.raises(KeyboardInterrupt):
        embed_clips(stops, names, supply, "a")
    spent = Spent()
    embed_clips(embed, names, supply, "a", spent)
    assert (spent.cached, spent.embedded) == (6, 4)  # two chunks were whole
    Path(names[0]).rename(tmp_path / "moved.wav")
    sf.write(names[1], np.zeros(900), 22050)
    spent = Spent()
    got = embed_clips(embed, [str(tmp_path / "moved.wav"), names[1]], supply, "a", spent)
    assert (spent.cached, spent.embedded) == (1, 1)  # the same bytes elsewhere; other bytes at a known place
    assert got[names[1]][1] == 0
    spent = Spent()
    embed_clips(embed, names[2:], supply, "b", spent)
    assert spent.embedded == 8  # another checkpoint


def test_clips_decoded_ahead_are_few(names: list[str], monkeypatch) -> None:
    under_way, most, lock = [0], [0], threading.Lock()
    decoded = embeddings._decoded

    def counting(clip):
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        return decoded(clip)

    def embed_some(sources: list, batch_size: int = 16) -> torch.Tensor:
        with lock:
            under_way[0] -= len(sources)
        return embed(sources)

    monkeypatch.setattr(embeddings, "_decoded", counting)
    monkeypatch.setattr(embeddings, "CHUNK", 2)
    embed_clips(embed_some, names, Supply(workers=1), "a")
    assert most[0] <= 2 + embeddings.AHEAD * 1 + 1


def test_a_missing_clip_is_named(tmp_path: Path) -> None:
    for supply in (Supply(), Supply(workers=2), Supply(cache=tmp_path / "c")):
        with pytest.raises(ClaraError, match=r"gone\.wav"):
            embed_clips(embed, [str(tmp_path / "gone.wav")], supply, "a")
    with pytest.raises(ClaraError, match="cache"):
        embed_clips(embed, [], Supply(world=World(0, 2, torch.device("cpu"))), "a")


def test_the_key_of_a_clip_is_of_its_bytes(names: list[str]) -> None:
    assert content_key(names[0]) == content_key(Path(names[0]).read_bytes()) != content_key(names[1])


def test_an_old_time_stamp_is_not_trusted(names: list[str], tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path / "c", "a")
    cache.add(names[:2], ["k0", "k1"], [torch.zeros(3), torch.ones(3)])
    os.utime(names[0], (1, 1))
    assert list(cache.known(names)) == [names[1]]
    found, none = cache.by_content(["k0", "k2"])
    torch.testing.assert_close(found, torch.zeros(3))
    assert none is None


def process(rank: int, port: int, names: list[str], folder: str) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    with processes("cpu") as world:
        spent = Spent()
        got = embed_clips(embed, names, Supply(cache=Path(folder) / "c", world=world), "a", spent)
        torch.save({"vectors": got, "embedded": spent.embedded}, Path(folder) / f"{rank}.pt")


@pytest.mark.slow
def test_two_processes_share_the_clips(names: list[str], tmp_path: Path) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    mp.spawn(process, (port, names, str(tmp_path)), nprocs=2)
    plain = embed_clips(embed, names, Supply(), "a")
    for rank in range(2):
        got = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert got["embedded"] == 5
        assert set(got["vectors"]) == set(names)
        for name in names:
            torch.testing.assert_close(got["vectors"][name], plain[name])


def test_a_map_keeps_what_is_near_near(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = np.repeat(np.eye(8)[:2] * 5, 20, axis=0) + 0.1 * rng.standard_normal((40, 8))
    for method in ("pca", "tsne"):
        if method == "tsne":
            pytest.importorskip("sklearn.manifold")
        at = places(vectors, method)
        centres = at[:20].mean(0), at[20:].mean(0)
        apart = np.linalg.norm(centres[0] - centres[1])
        assert apart > 3 * np.linalg.norm(at[:20] - centres[0], axis=1).mean(), method
    np.testing.assert_allclose(places(vectors), places(vectors.copy()))
    assert places(np.ones((1, 4))).shape == (1, 2)
    with pytest.raises(ClaraError, match="Unknown map"):
        places(vectors, "umap")
    (tmp_path / "x.npz").write_bytes(b"no")
    with pytest.raises(ClaraError, match="no embeddings"):
        read_sample(tmp_path / "x.npz")


def test_a_cache_that_is_none_is_named(names: list[str], tmp_path: Path) -> None:
    supply = Supply(cache=tmp_path / "c")
    embed_clips(embed, names[:1], supply, "a")
    (file,) = (tmp_path / "c").glob("*.sqlite")
    file.write_bytes(b"no database" * 100)
    with pytest.raises(ClaraError, match=rf"{file.name} cannot be used .*delete that file"):
        embed_clips(embed, names[:1], supply, "a")


def test_other_precision_is_another_cache(names: list[str], tmp_path: Path) -> None:
    zoo = SimpleNamespace(sha256="0", long="windows", half=False, embed_audio=embed)
    rows = [Row(name, "tones", "test", text=("a",)) for name in names[:2]]
    for zoo.half, made in ((False, 2), (True, 2), (True, 0)):
        context = Context(zoo, tmp_path, supply=Supply(cache=tmp_path / "c"))
        context.audio(rows)
        assert context.spent.embedded == made
