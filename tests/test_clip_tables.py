"""Tables as Python holds them: DataFrames, data sets and dictionaries of clips, and answers as tables."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
from tiny import save_tiny, tiny_zoo
from typer.testing import CliRunner

from clara.apps.classifier import Classifier
from clara.apps.search import Index
from clara.audio import waveform
from clara.audio.sources import expand
from clara.cli import app
from clara.data.clip_tables import read_rows
from clara.data.shards import ShardConfig, read_shard, write_shards
from clara.errors import ClaraError
from clara.zoo.embedder import Embedder

RATE = 16000
LABELS = ["low_hum", "whistle"]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return tiny_zoo(tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Eight clips as files, with labels."""
    folder, rows = tmp_path_factory.mktemp("clips"), []
    t = np.arange(RATE) / RATE
    for i in range(8):
        hz = (100 + 5 * i) if i % 2 == 0 else (2000 + 50 * i)
        sf.write(folder / f"{i}.wav", 0.3 * np.sin(2 * np.pi * hz * t), RATE)
        rows.append({"audio": str(folder / f"{i}.wav"), "label": LABELS[i % 2], "speaker": f"s{i}", "note": i})
    return rows


def as_kind(kind: str, records: list[dict[str, Any]]) -> Any:
    """The same clips in another table."""
    if kind == "dicts":
        return records
    if kind == "pandas":
        return pytest.importorskip("pandas").DataFrame(records).assign(language=np.nan)
    if kind == "arrays":
        return [{**r, "audio": dict(zip(("array", "sampling_rate"), sf.read(r["audio"])))} for r in records]
    datasets = pytest.importorskip("datasets")
    codes = [{**r, "label": LABELS.index(r["label"])} for r in records]
    if kind == "dataset of bytes":
        codes = [{**r, "audio": {"bytes": Path(r["audio"]).read_bytes(), "path": "elsewhere.wav"}} for r in codes]
    table = datasets.Dataset.from_list(codes).cast_column("label", datasets.ClassLabel(names=LABELS))
    return table.cast_column("audio", datasets.Audio())


KINDS = ("dicts", "pandas", "arrays", "dataset", "dataset of bytes")


@pytest.mark.parametrize("kind", KINDS)
def test_every_table_is_the_same_rows(kind: str, records: list[dict[str, Any]], tmp_path: Path) -> None:
    table = as_kind(kind, records)
    rows = read_rows(table, tmp_path / "kept")
    assert [r.label for r in rows] == [r["label"] for r in records]
    assert [r.text for r in rows] == [(r["label"].replace("_", " "),) for r in records]
    assert [(r.speaker, r.language, r.split) for r in rows] == [(r["speaker"], None, "train") for r in records]
    for row, record in zip(rows, records):
        assert np.allclose(waveform.read(row.audio, RATE), waveform.read(record["audio"], RATE), atol=1e-6)
    in_memory = kind in ("arrays", "dataset of bytes")
    assert (tmp_path / "kept").is_dir() == in_memory
    if in_memory:
        with pytest.raises(ClaraError, match=r"table:1: its audio is in no file"):
            read_rows(table)
    assert read_rows(table, tmp_path / "kept") == rows  # the same call names the same files


@pytest.mark.parametrize("kind", KINDS)
def test_shards_fit_and_index_take_them(
    kind: str, records: list[dict[str, Any]], zoo: Embedder, tmp_path: Path
) -> None:
    table = as_kind(kind, records)
    index = write_shards(table, tmp_path, ShardConfig(sample_rate=RATE))
    assert index["count"] == 8
    (tar,) = tmp_path.glob("*.tar")
    assert [s.row.label for s in read_shard(tar)] == [r["label"] for r in records]
    fitted = Classifier(zoo, LABELS).fit(table)
    assert fitted.fitted is not None and fitted.fitted.clips == 8
    expected_ND = zoo.embed_audio([r["audio"] for r in records])
    torch.testing.assert_close(zoo.embed_audio(table), expected_ND, atol=1e-5, rtol=0)
    assert len(set(range(len(Index.build(zoo, table))))) == 8


def test_finetune_takes_them(records: list[dict[str, Any]], tmp_path: Path) -> None:
    from clara.train.finetune import finetune

    model = f"dir:{save_tiny(tmp_path / 'model')}"
    out = finetune(as_kind("pandas", records), model, tmp_path / "run", ["steps=2", "data.batch_size=4"])
    assert (out / "model.safetensors").is_file()


def test_cells_may_be_lists_and_empty(records: list[dict[str, Any]]) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"audio": [r["audio"] for r in records[:2]], "text": [["a", "b"], np.array(["c"])]})
    assert [r.text for r in read_rows(table)] == [("a", "b"), ("c",)]
    table["split"] = [None, pandas.NA]
    assert [r.split for r in read_rows(table)] == ["train", "train"]


def test_what_is_no_table_is_told(records: list[dict[str, Any]], zoo: Embedder, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    with pytest.raises(ClaraError, match=r"columns file, label: expected 'audio'"):
        expand(pandas.DataFrame({"file": ["a.wav"], "label": ["x"]}))
    with pytest.raises(ClaraError, match=r"table:2: a row of type str"):
        read_rows([records[0], "a.wav"])
    with pytest.raises(ClaraError, match="A table of type int"):
        read_rows(3)
    with pytest.raises(ClaraError, match="holds no rows"):
        read_rows([])
    with pytest.raises(ClaraError, match=r"table:1: the cell 'audio' holds nan"):
        read_rows([{"audio": float("nan"), "label": "x"}])
    with pytest.raises(ClaraError, match="1 of 1 files are missing"):
        read_rows([{"audio": "no.wav", "label": "x"}])
    with pytest.raises(ClaraError, match=r"split at table:1"):
        read_rows([{**records[0], "split": "trian"}])


def test_answers_as_tables(records: list[dict[str, Any]], zoo: Embedder, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    paths = [r["audio"] for r in records]
    found = Classifier(zoo, ["<b>hum</b>", "whistle"])([*paths[:2], (np.zeros(RATE, np.float32), RATE)])
    assert [p.source for p in found[:2]] == paths[:2] and found[2].source[1] == RATE
    assert f"score={found[0].score:.3f}, source={paths[0]!r}" in repr(found[0])
    frame = found.to_pandas()
    assert isinstance(frame, pandas.DataFrame) and list(frame.columns) == ["source", "label", "name", "score"]
    assert frame["score"].tolist() == [p.score for p in found] and frame["source"][2].startswith("<array")
    page = found._repr_html_()
    assert page.count("<audio controls") == 3 and "&lt;b&gt;hum&lt;/b&gt;" in page and "<b>hum" not in page
    assert found[0]._repr_html_().count("<audio") == 1
    bare = Classifier(zoo, LABELS).predict(zoo.embed_audio(paths))
    assert bare[0].source is None and "<audio" not in bare._repr_html_()
    with pytest.raises(ClaraError, match="8 embeddings and 1 sources"):
        Classifier(zoo, LABELS).predict(zoo.embed_audio(paths), paths[:1])
    hits = Index.build(zoo, paths).query(zoo, text="a hum", top=3)
    assert hits._repr_html_().count("<audio controls") == 3
    assert hits.to_pandas()["path"].tolist() == [h.path for h in hits]
    gone = Index.build(zoo, [(np.ones(RATE, np.float32) * 0.1, RATE)]).query(zoo, text="a hum")
    assert "cannot be played" in gone._repr_html_()


def test_classify_writes_csv_and_json(records: list[dict[str, Any]], tmp_path: Path) -> None:
    model = f"dir:{save_tiny(tmp_path / 'model')}"
    folder = str(Path(records[0]["audio"]).parent)

    def call(*more: object, code: int = 0) -> str:
        words = ["classify", folder, "--labels", 'hum,"a, b"', "-m", model, *map(str, more)]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == code, result.output
        return result.stdout if code == 0 else result.stderr

    rows = list(csv.DictReader(call("--csv").splitlines()))
    answers = json.loads(call("--json"))
    assert [r["file"] for r in rows] == [a["file"] for a in answers] == [r["audio"] for r in records]
    assert [float(r["score_2"]) for r in rows] == [a["top"][1]["score"] for a in answers]
    assert {r["label"] for r in rows} <= {"hum", "a, b"}
    call("--out", tmp_path / "x.csv")
    assert list(csv.DictReader((tmp_path / "x.csv").read_text().splitlines())) == rows
    call("--out", tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text()) == answers
    windows = list(csv.DictReader(call("--windows", "--csv").splitlines()))
    assert list(windows[0])[:4] == ["file", "start", "end", "label"]
    assert "ends in .csv or .json" in call("--out", tmp_path / "x.txt", code=2)
    assert "one of them" in call("--csv", "--json", code=2)
