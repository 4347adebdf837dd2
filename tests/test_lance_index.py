"""The index on disk: the same hits as the exact one, filters, updates of what changed, versions."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from test_search import folder, zoo  # noqa: F401 - fixtures
from torch.nn.functional import normalize
from typer.testing import CliRunner

from clara.apps import lance_index
from clara.apps.lance_index import LanceIndex
from clara.apps.search import Index
from clara.cli import app
from clara.errors import ClaraError
from clara.zoo.embedder import Embedder

pytest.importorskip("lancedb")


@pytest.fixture
def library(zoo: Embedder, folder: Path, tmp_path: Path) -> LanceIndex:  # noqa: F811
    index = LanceIndex.open(tmp_path / "my library.lance", zoo)
    assert str(index.update(zoo, folder)) == "5 added, 0 changed, 0 removed, 0 unchanged"
    return index


def names(index: LanceIndex | Index, zoo: Embedder, **query: object) -> list[str]:  # noqa: F811
    return [Path(h.path).stem for h in index.query(zoo, **{"text": "ein Ton", "top": 9, **query})]


def test_hits_are_those_of_the_exact_index(zoo: Embedder, folder: Path, library: LanceIndex) -> None:  # noqa: F811
    exact = Index.build(zoo, folder)
    for query in ({"text": "ein Ton"}, {"audio": folder / "400.wav"}, {"text": "a", "unlike": [folder / "100.wav"]}):
        wanted, found = exact.query(zoo, **query, top=3), LanceIndex.open(library.folder).query(zoo, **query, top=3)
        assert [h.path for h in found] == [h.path for h in wanted]
        assert [h.score for h in found] == pytest.approx([h.score for h in wanted], abs=1e-3)
        assert [(h.start, h.end) for h in found] == [(h.start, h.end) for h in wanted]


def test_only_what_changed_is_embedded(
    zoo: Embedder,  # noqa: F811
    folder: Path,  # noqa: F811
    library: LanceIndex,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []
    real = lance_index.embed_windows_of
    monkeypatch.setattr(lance_index, "embed_windows_of", lambda z, s, *how: seen.extend(s) or real(z, s, *how))
    assert library.update(zoo, folder).unchanged == 5 and seen == []
    (folder / "100.wav").unlink()
    sf.write(folder / "200.wav", 0.3 * np.sin(np.arange(9000) / 3), 16000)
    sf.write(folder / "it's.wav", 0.3 * np.sin(np.arange(8000) / 5), 16000)
    changes = library.update(zoo, folder)
    assert (changes.added, changes.changed, changes.removed, changes.unchanged) == (1, 1, 1, 3)
    assert sorted(Path(p).name for p in seen) == ["200.wav", "it's.wav"]
    assert names(library, zoo) == names(Index.build(zoo, folder), zoo)
    (folder / "it's.wav").unlink()
    assert library.update(zoo, folder / "400.wav").removed == 0 and library.update(zoo, folder).removed == 1


def test_a_file_that_breaks_stays_out_and_is_tried_again(zoo: Embedder, folder: Path, library: LanceIndex) -> None:  # noqa: F811
    (folder / "x.wav").write_text("no audio")
    with pytest.raises(ClaraError, match=r"x\.wav cannot be decoded"):
        library.update(zoo, folder)
    for _ in range(2):
        told: list[str] = []
        assert library.update(zoo, folder, broken=told.append).added == 0 and len(told) == 1
    assert library.files() == 5


def test_filters_and_columns(zoo: Embedder, folder: Path, library: LanceIndex) -> None:  # noqa: F811
    about = {
        str(folder / "400.wav"): {"language": "de", "take": 3, "kept": True, "who": "O'Neill"},
        str(folder / "200.wav"): {"language": "tr", "take": 4, "date": "2020-05-01"},
    }
    assert library.update(zoo, folder, about).described == 2
    assert library.update(zoo, folder, about).described == 0
    assert names(library.where("language = 'de' and take < 4"), zoo) == ["400"]
    assert names(library.where("date < '2021'"), zoo) == ["200"]
    assert names(library.where("path like '%/1%.wav'").where("duration > 0.4"), zoo, top=1)[0] in ("100", "1600")
    (hit,) = library.where("who = 'O''Neill'").query(zoo, text="a")
    assert hit.about["take"] == 3 and hit.about["kept"] is True
    with pytest.raises(ClaraError, match="Columns: path, start, end, duration, date, language"):
        library.where("colour = 'red'")
    with pytest.raises(ClaraError, match="expected text, numbers or truth values"):
        library.update(zoo, folder, {str(folder / "400.wav"): {"odd": [1, 2]}})
    with pytest.raises(ClaraError, match="expected a name of letters"):
        library.update(zoo, folder, {str(folder / "400.wav"): {"path": "x"}})


def test_deleting_and_returning(zoo: Embedder, folder: Path, library: LanceIndex) -> None:  # noqa: F811
    before = library.versions()[-1][0]
    assert library.delete("path like '%/400.wav'") == 1 and len(library) == 4
    assert "400" not in names(library, zoo)
    library.restore(before)
    assert len(library) == 5 and "400" in names(library, zoo)
    with pytest.raises(ClaraError, match="Version 999"):
        library.restore(999)


def test_what_does_not_fit_is_refused(zoo: Embedder, folder: Path, library: LanceIndex, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(ClaraError, match="No index at"):
        LanceIndex.open(tmp_path / "none.lance")
    (tmp_path / "other.lance").mkdir()
    (tmp_path / "other.lance" / "file").touch()
    with pytest.raises(ClaraError, match="No index at"):
        LanceIndex.open(tmp_path / "other.lance", zoo)
    with pytest.raises(ClaraError, match="has no path"):
        library.update(zoo, (np.ones(8000, np.float32), 16000))
    with pytest.raises(ClaraError, match="top=0"):
        library.nearest(torch.eye(library.table.schema.field("vector").type.list_size)[:1], top=0)
    with pytest.raises(ClaraError, match="expected one for each"):
        library.add_vectors(zoo.embed_text(["a"]), ["a", "b"])


@pytest.mark.parametrize(("flat", "graph", "kind"), [(500, 10**9, "IVF_HNSW_SQ"), (500, 500, "IVF_PQ")])
def test_many_windows_are_searched_approximately(
    zoo: Embedder,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flat: int,
    graph: int,
    kind: str,
) -> None:
    monkeypatch.setattr(lance_index, "FLAT_ROWS", flat)
    monkeypatch.setattr(lance_index, "HNSW_ROWS", graph)
    index = LanceIndex.open(tmp_path / "i.lance", zoo)
    width = zoo.config.embed_dim
    audio_ND = normalize(torch.randn(100, width).repeat_interleave(10, 0) + 0.3 * torch.randn(1000, width), dim=-1)
    paths = [f"/none/{i}.wav" for i in range(1000)]
    index.add_vectors(audio_ND, paths)
    index.tidy()
    assert index.table.index_stats("vector_idx").index_type == kind
    index.add_vectors(normalize(torch.randn(1, width), dim=-1), ["/none/new.wav"])
    index.tidy()
    exact = Index(audio_ND, paths, zoo.name, zoo.sha256)
    queries = audio_ND[::100] + 0.1 * torch.randn(10, width)
    both = zip(index.nearest(queries, 10), exact.nearest(queries, 10))
    shared = [len({h.path for h in a} & {h.path for h in b}) for a, b in both]
    assert sum(shared) / 100 >= 0.95


def test_verbs(zoo: Embedder, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    model = f"dir:{tmp_path / 'm'}"
    from tiny import save_tiny

    save_tiny(tmp_path / "m")
    (tmp_path / "about.csv").write_text("audio,mood,date\nclips/400.wav,loud,2020-01-01\nclips/200.wav,low,\n")
    library = str(tmp_path / "lib.lance")

    def call(*arguments: str) -> str:
        result = CliRunner().invoke(app, [*arguments, "-m", model])
        assert result.exit_code == 0, result.output
        return result.stdout

    made = call("index", str(folder), "-o", library, "--table", str(tmp_path / "about.csv"))
    assert made == f"5 added, 0 changed, 0 removed, 0 unchanged -> {library}: 5 windows of 5 files\n"
    monkeypatch.chdir(os.path.dirname(folder))
    assert "0 added, 0 changed, 0 removed, 5 unchanged" in call("index", folder.name, "-o", library)
    (hit,) = json.loads(call("search", "a", "--index", library, "--where", "mood = 'loud'", "--json"))
    assert hit["file"] == str(folder / "400.wav") and hit["date"] == "2020-01-01" and hit["mood"] == "loud"
    call("search", "a", "--index", library, "-o", "hits.m3u")
    assert (
        str(folder / "400.wav") in Path("hits.m3u").read_text()
        and "#EXTVLCOPT:start-time=0.00" in Path("hits.m3u").read_text()
    )
    call("search", "a", "--index", library, "-o", "hits.csv")
    assert Path("hits.csv").read_text().splitlines()[0] == "file,score,start,end,fits,duration,date,mood"
    wrong = CliRunner().invoke(app, ["search", "a", "--index", library, "--where", "no = 1", "-m", model])
    assert wrong.exit_code == 2 and "Columns: path" in wrong.stderr
