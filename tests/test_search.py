"""The index: the right order, chunks that change nothing, and files that belong together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_zoo
from torch.nn.functional import normalize

from clara.apps.hit_files import as_m3u, as_table, records
from clara.apps.query import Hit, Hits
from clara.apps.search import Index, top_k
from clara.errors import ClaraError
from clara.zoo.embedder import Embedder


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return tiny_zoo(tmp_path_factory.mktemp("search"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five sweeps of different pitch."""
    clips = tmp_path / "clips"
    clips.mkdir()
    t = np.arange(8000) / 16000
    for hz in (100, 200, 400, 1600, 3200):
        sf.write(clips / f"{hz}.wav", 0.3 * np.sin(2 * np.pi * hz * t * (1 + t)), 16000)
    return clips


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_chunks_change_nothing(chunk: int) -> None:
    audio_ND, query_QD = normalize(torch.randn(100, 16), dim=-1), normalize(torch.randn(4, 16), dim=-1)
    scores, rows = top_k(query_QD, audio_ND, 9, chunk)
    expected, at = (query_QD @ audio_ND.T).topk(9, dim=1)
    assert torch.equal(rows, at)
    torch.testing.assert_close(scores, expected)
    assert top_k(query_QD, audio_ND, 500, chunk)[1].shape == (4, 100)


def test_queries(zoo: Embedder, folder: Path) -> None:
    index = Index.build(zoo, folder)
    assert [Path(p).name for p in index.paths] == ["100.wav", "1600.wav", "200.wav", "3200.wav", "400.wav"]
    hits = index.query(zoo, audio=folder / "400.wav", top=2)
    assert len(hits) == 2 and hits[0].path.endswith("400.wav") and hits[0].score == pytest.approx(1.0, abs=1e-5)
    order = (zoo.embed_text(["ein Ton"]) @ index.audio_ND.T)[0].argsort(descending=True).tolist()
    assert [h.path for h in index.query(zoo, text="ein Ton", top=9)] == [index.paths[i] for i in order]


def test_any_path_is_kept(tmp_path: Path) -> None:
    paths = ["a b/дождь 雨.wav", "caf\udce9.wav"]  # the second: Latin-1 on a system of UTF-8, as Python reads it
    Index(torch.eye(2), paths, "m", "0").save(tmp_path / "i")
    assert Index.load(tmp_path / "i").paths == paths


def test_saved_and_loaded(zoo: Embedder, folder: Path, tmp_path: Path) -> None:
    index = Index.build(zoo, [folder / "100.wav", folder / "200.wav"])
    for name in ("sub/my.index", "sub/my.index.safetensors"):
        index.save(tmp_path / name)
        again = Index.load(tmp_path / name)
        assert torch.equal(again.audio_ND, index.audio_ND)
        assert (again.paths, again.model, again.sha256) == (index.paths, index.model, index.sha256)
    assert {p.name for p in (tmp_path / "sub").iterdir()} == {"my.index.safetensors"}


def test_adding_is_building_with_both(zoo: Embedder, folder: Path) -> None:
    array = (np.ones(8000, np.float32), 16000)
    old = Index.build(zoo, [folder / "100.wav", folder / "200.wav", array])
    stale = Index(old.audio_ND.roll(1, 0), old.paths, old.model, old.sha256)
    new = Index.build(zoo, [folder / "200.wav", folder / "400.wav", array])
    more = stale.add(new)
    named = "<array (8000,) at 16000 Hz>"
    assert [Path(p).name for p in more.paths] == ["100.wav", named, "200.wav", "400.wav", named] and len(more) == 5
    assert torch.equal(more.audio_ND, torch.cat([stale.audio_ND[[0, 2]], new.audio_ND]))
    with pytest.raises(ClaraError, match="Indexes of two checkpoints"):
        Index(old.audio_ND, old.paths, "other", "0" * 64).add(old)


def test_what_cannot_be_read_is_left_out_where_that_is_wanted(
    zoo: Embedder, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clara.apps.search.TOGETHER", 3)
    whole = Index.build(zoo, folder)
    (folder / "1.wav").write_text("no audio")
    told: list[str] = []
    index = Index.build(zoo, folder, broken=told.append)
    assert index.paths == whole.paths and len(told) == 1 and str(folder / "1.wav") in told[0]
    torch.testing.assert_close(index.audio_ND, whole.audio_ND, atol=1e-5, rtol=0)
    with pytest.raises(ClaraError, match=r"1\.wav cannot be decoded"):
        Index.build(zoo, folder)
    with pytest.raises(ClaraError, match="None of 1 clips"):
        Index.build(zoo, folder / "1.wav", broken=told.append)


def test_an_index_prints_as_one_line_and_is_compared_by_identity() -> None:
    index = Index(torch.eye(2), ["a", "b"], "m", "0")
    assert repr(index) == "Index(model='m', sha256='0')"
    assert index == index and index != Index(torch.eye(2), ["a", "b"], "m", "0") and {index}


def test_embeddings_may_be_numpys_and_must_be_rows() -> None:
    index = Index(torch.eye(3), ["a", "b", "c"], "m", "0")
    assert [h.path for h in index.nearest(np.array([[0.0, 2.0, 1.0]]), top=2)[0]] == ["b", "c"]
    for wrong in (torch.zeros(3), torch.zeros(1, 2)):
        with pytest.raises(ClaraError, match=r"expected \(B, 3\)"):
            index.nearest(wrong)
    with pytest.raises(ClaraError, match=r"top=1.5"):
        index.nearest(torch.eye(3), top=1.5)


def test_what_does_not_fit_is_refused(zoo: Embedder, folder: Path, tmp_path: Path) -> None:
    index = Index.build(zoo, folder)
    with pytest.raises(ClaraError, match="or both"):
        index.query(zoo)
    with pytest.raises(ClaraError, match="Got 5 clips to search by"):
        index.query(zoo, audio=folder)
    for arguments in (("name", folder), (str(folder), zoo)):
        with pytest.raises(ClaraError, match=r"expected what clara.load\(name\) gives"):
            Index.build(*arguments)
    with pytest.raises(ClaraError, match="top=0"):
        index.query(zoo, text="a", top=0)
    with pytest.raises(ClaraError, match="build it again, or load that model"):
        Index(index.audio_ND, index.paths, "other", "0" * 64).query(zoo, text="a")
    with pytest.raises(ClaraError, match="No index at"):
        Index.load(tmp_path / "none")
    file = index.save(tmp_path / "i")
    whole = load_file(file)
    about = json.loads(whole["about"].numpy().tobytes())

    def damaged(message: str, **changes: object) -> None:
        save_file({**whole, **{k: v for k, v in changes.items() if isinstance(v, torch.Tensor)}}, file)
        with pytest.raises(ClaraError, match=message):
            Index.load(tmp_path / "i")

    def told(value: object) -> torch.Tensor:
        return torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)

    damaged("4 paths and 5 embeddings", about=told({**about, "paths": about["paths"][:-1]}))
    for wrong in (torch.zeros(5), index.audio_ND.half(), 2 * index.audio_ND):
        damaged("is damaged", audio=wrong.contiguous())
    damaged("is damaged", about=told({}))


def test_a_query_of_several_parts(zoo: Embedder, folder: Path) -> None:
    index = Index.build(zoo, folder)
    clip, text = folder / "400.wav", "ein Ton"
    both_D = 0.3 * zoo.embed_text([text])[0] + 0.7 * zoo.embed_audio(clip)[0]
    wanted = normalize(both_D, dim=0) @ index.audio_ND.T
    found = index.query(zoo, text=text, audio=clip, weight=0.3, top=5)
    assert [h.score for h in found] == pytest.approx(wanted.sort(descending=True).values.tolist(), abs=1e-5)
    near = index.query(zoo, audio=clip, top=5)
    away = index.query(zoo, audio=clip, unlike=[Path(near[1].path)], top=5)
    assert [h.path for h in away].index(near[1].path) == 4
    array = (np.ones(8000, np.float32), 16000)
    assert index.query(zoo, text=text, unlike=array, top=1) == index.query(zoo, text=text, unlike=[array], top=1)
    with pytest.raises(ClaraError, match=r"weight=1.5"):
        index.query(zoo, text=text, audio=clip, weight=1.5)


def test_a_floor_of_zero_is_a_floor() -> None:
    hits = Hits([Hit("near.wav", 0.2), Hit("far.wav", -0.1)])
    assert [hits.fits(h) for h in hits] == [None, None] and "does not fit" not in as_table(hits)
    hits.floor = 0.0
    assert [r["fits"] for r in records(hits)] == [True, False]
    assert as_table(hits).splitlines()[1].endswith("(does not fit)") and "far.wav" not in as_m3u(hits)
