"""The command line: every verb does what the library does; a user's mistake is one line and exit status 2."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from tiny import save_tiny
from typer.testing import CliRunner, Result

import clara
from clara.cli import app

BASE = Path(clara.__file__).parent / "checkpoints" / "clara-small.base"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"dir:{save_tiny(tmp_path_factory.mktemp('cli'))}"


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    t = np.arange(12000) / 16000
    for hz in (100, 400, 1600):
        sf.write(folder / f"{hz}.wav", 0.3 * np.sin(2 * np.pi * hz * t * (1 + t)), 16000)
    return folder


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def done(*arguments: object) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: object) -> str:
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("clara: ")
    return result.stderr


def test_list_show_languages(model: str) -> None:
    assert "clara-small.base" in done("list") and "test-conv" not in done("list")
    assert done("list", "*.base").startswith("clara-small.base")
    assert done("list", "--licence", "none stated", "--task", "emotion").split()[0] == "wav2vec2_bert.paraclap"
    assert "No checkpoint fits" in refused("list", "--license", "restricted", "--language", "de")
    assert "Did you mean 'emotion'" in refused("list", "--task", "emotions")
    foreign = done("show", "dasheng_sonar.glap")
    assert "converter: glap" in foreign and "| ESC-50, zero-shot |" in foreign
    assert "kind: conv" in done("show", "clara-small")
    shown = done("show", model)
    assert "kind: sentencepiece" in shown and "Random weights, for tests." in shown
    assert "de  German" in done("languages")


def test_embed(model: str, clips: Path, tmp_path: Path) -> None:
    assert "3 clips" in done("embed", clips, "--out", tmp_path / "new" / "x.npz", "-m", model)
    saved = np.load(tmp_path / "new" / "x.npz", allow_pickle=False)
    zoo = clara.load(model, "cpu")
    torch.testing.assert_close(torch.from_numpy(saved["audio"]), zoo.embed_audio(clips))
    assert saved["paths"].tolist() == [str(clips / n) for n in ("100.wav", "1600.wav", "400.wav")]
    assert str(saved["sha256"]) == zoo.sha256 and str(saved["model"]) == model


def test_classify(model: str, clips: Path) -> None:
    one = clips / "100.wav"
    text = done("classify", one, "--task", "emotion", "--language", "de", "-m", model, "--top", 9)
    assert text.startswith(str(one)) and all(name in text for name in ("Wut", "Freude", "Angst"))
    own = ("--labels", "a dog, rain", "--template", "the sound of {}", "--template", "{}", "-m", model)
    records = json.loads(done("classify", clips, *own, "--json"))
    zoo = clara.load(model, "cpu")
    predictions = clara.Classifier(zoo, ["a dog", "rain"], templates=["the sound of {}", "{}"])(clips)
    assert [r["top"][0]["label"] for r in records] == [p.label for p in predictions]
    assert [r["top"][0]["score"] for r in records] == pytest.approx([p.score for p in predictions], abs=1e-4)
    assert all(r["calibrated"] for r in json.loads(done("classify", one, *own, "--calibrate", clips, "--json")))
    assert "(calibrated)" in done("classify", one, *own, "--calibrate", clips)


def test_labels_may_hold_commas_and_be_given_one_by_one(model: str, clips: Path) -> None:
    line, wanted = '"rain, then wind", a "loud" bang', ["rain, then wind", 'a "loud" bang', "dog"]
    (first, *_) = json.loads(done("classify", clips, "--labels", line, "--labels", "dog", "--json", "-m", model))
    assert sorted(s["label"] for s in first["top"]) == sorted(wanted)
    assert "Quote a whole label" in refused("classify", clips, "--labels", '"rain" then,dog', "-m", model)
    assert "at least two" in refused("classify", clips, "--labels", "", "-m", model)


def test_classify_windows(model: str, tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    sf.write(path, 0.1 * np.random.randn(16000 * 5), 16000)
    records = json.loads(done("classify", path, "--labels", "a,b", "--windows", "--json", "-m", model))
    assert [(r["start"], r["end"]) for r in records] == [(0, 2), (2, 4), (4, 5)]
    assert "4.0–5.0 s" in done("classify", path, "--labels", "a,b", "--windows", "-m", model)


def test_index_and_search(model: str, clips: Path, tmp_path: Path) -> None:
    first = done("search", "--like", clips / "400.wav", "--folder", clips, "--top", 1, "-m", model)
    assert first.split()[:2] == ["+1.000", str(clips / "400.wav")] and first.split()[2].startswith("0.0–")
    assert "3 windows of 3 files" in done("index", clips, "--out", tmp_path / "i", "-m", model)
    found = json.loads(done("search", "un son", "--folder", clips, "-m", model, "--json"))
    library = ("--index", tmp_path / "i", "-m", model)
    assert len(found) == 3 and json.loads(done("search", "un son", *library, "--json")) == found
    whole = json.loads(done("search", "un son", "--like", clips / "400.wav", "--weight", 1, *library, "--json"))
    assert [hit["file"] for hit in whole] == [hit["file"] for hit in found]
    away = done("search", "un son", "--not", clips / "400.wav", "--not", "un chien", *library)
    assert len(away.splitlines()) == 3
    assert "write --like" in refused("search", clips / "400.wav", "--folder", clips, "-m", model)
    assert "one of them" in refused("search", "rain", "--folder", clips, *library)
    done("search", "un son", *library, "--out", tmp_path / "hits.csv")
    assert (tmp_path / "hits.csv").read_text().startswith("file,score,start,end,fits\n")
    assert "Known: .csv" in refused("search", "un son", *library, "--out", tmp_path / "hits.xls")


def test_broken_clips_are_left_out_on_request(model: str, clips: Path, tmp_path: Path) -> None:
    labels = ("--labels", "a,b", "-m", model)
    plain, spans = done("classify", clips, *labels), done("classify", clips, *labels, "--windows")
    (clips / "200.wav").write_text("no audio")
    for flags, expected in (((), plain), (("--windows",), spans)):
        assert "200.wav cannot be decoded" in refused("classify", clips, *labels, *flags)
        result = call("classify", clips, *labels, *flags, "--skip-broken")
        assert (result.exit_code, result.stdout) == (0, expected) and "left out: " in result.stderr
    found = call("embed", clips, "-o", tmp_path / "x.npz", "-m", model, "--skip-broken")
    assert "3 clips" in found.stdout and len(np.load(tmp_path / "x.npz")["paths"]) == 3
    assert len(call("search", "a", "--folder", clips, "-m", model, "--skip-broken").stdout.splitlines()) == 3


def test_what_cannot_be_written_is_told_before_the_work(
    model: str, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clara.zoo.embedder.Embedder.embed_audio", lambda *_: pytest.fail("embedded for nothing"))
    (tmp_path / "file").write_text("no folder")
    refused("embed", clips, "-o", tmp_path / "file" / "x.npz", "-m", model)
    refused("index", clips, "-m", model, "--out", tmp_path / "file" / "index")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clips", "file"]


def test_an_older_file_outlives_a_failed_write(
    model: str, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    done("embed", clips, "-o", tmp_path / "x.npz", "-m", model)
    before = (tmp_path / "x.npz").read_bytes()
    monkeypatch.setattr("numpy.savez", full)
    assert "No space left" in refused("embed", clips, "-o", tmp_path / "x.npz", "-m", model)
    assert (tmp_path / "x.npz").read_bytes() == before


def test_mistakes_are_one_line(model: str, clips: Path, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no audio")
    (tmp_path / "bad.yaml").write_text("a: [1\nb: 2\n")
    assert "Did you mean 'clara-small.base'" in refused("classify", clips, "--task", "emotion", "-m", "clara-smal.base")
    assert "no weights" in refused("embed", clips, "--out", tmp_path / "x.npz", "-m", "clara-small")
    assert "No such audio file" in refused("classify", tmp_path / "no.wav", "--task", "emotion", "-m", model)
    assert "cannot be decoded" in refused("classify", tmp_path / "text.wav", "--task", "emotion", "-m", model)
    assert "Did you mean 'emotion'" in refused("classify", clips, "--task", "emotions", "-m", model)
    assert "Unknown language 'xx'" in refused("classify", clips, "--task", "emotion", "--language", "xx", "-m", model)
    assert "not empty" in refused("classify", clips, "--labels", "a,", "-m", model)
    assert "--task emotion" in refused("classify", clips, "-m", model)
    assert "one of them" in refused("search", "rain", "-m", model)
    assert "ends in .npz" in refused("embed", clips, "--out", tmp_path / "x.txt", "-m", model)
    assert "Did you mean 'clara-small'" in refused("show", "clara-smll")
    assert "Unknown train recipe" in refused("train", "no-such-recipe")
    assert "is not valid YAML" in refused("train", tmp_path / "bad.yaml")
    assert "Unknown eval recipe" in refused("eval", "no-such-recipe", "--data", tmp_path)
    assert "--manifest" in refused("shards", tmp_path / "out")
    assert "No such manifest" in refused("shards", tmp_path / "out", "--manifest", tmp_path / "none.jsonl")


def test_what_the_system_refuses_is_one_line(model: str, clips: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "file").write_text("no folder")
    assert f"Is a directory: {tmp_path / 'folder.npz'}" in refused(
        "embed", clips, "-o", tmp_path / "folder.npz", "-m", model
    )
    assert "File exists" in refused("demo", "-o", tmp_path / "file", "-m", model)
    (tmp_path / "taken.safetensors").mkdir()
    for place in (tmp_path / "file" / "index", tmp_path / "taken"):
        assert str(place.parent) in refused("index", clips, "-m", model, "--out", place)


def test_version() -> None:
    assert done("--version") == f"clara {clara.__version__}\n"


def test_shards(clips: Path, tmp_path: Path) -> None:
    rows = [{"audio": str(p), "corpus": "sweeps", "text": [p.stem]} for p in sorted(clips.iterdir())]
    manifest, out = tmp_path / "rows.jsonl", tmp_path / "shards"
    manifest.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert "3 clips" in done("shards", out, "--manifest", manifest, "--format", "wav", "--workers", 1)
    assert "0 problems" in done("shards", out, "--verify")
    tar = next(out.glob("*.tar"))
    tar.write_bytes(tar.read_bytes()[:3000])
    result = call("shards", out, "--verify")
    assert result.exit_code == 1 and tar.name in result.stdout


def test_eval_writes_figures(model: str, clips: Path, tmp_path: Path) -> None:
    labels = ("dog", "rain", "siren")
    lines = [f"{path.name},{label}" for path, label in zip(sorted(clips.iterdir()), labels, strict=True)]
    (clips / "clips.csv").write_text("\n".join(["audio,label", *lines]))
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "evaluations:\n  a: {kind: zero_shot, data: {corpus: csv, folder: clips}, task: sound, languages: [en]}\n"
        "pictures: false\n"
    )
    done("eval", recipe, "--data", tmp_path, "-m", model, "-o", tmp_path / "results", "--set", "pictures=false")
    (written,) = (tmp_path / "results").glob("mine.*.json")
    assert json.loads(written.read_text())["results"][0]["name"] == "a"


def test_train_and_finetune_pass_what_they_are_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = []
    monkeypatch.setattr("clara.train.trainer.train", lambda *a: calls.append(a) or tmp_path)
    monkeypatch.setattr("clara.train.finetune.finetune", lambda *a: calls.append(a) or tmp_path)
    recipe = tmp_path / "r.yaml"
    recipe.write_text("steps: 1\n")
    assert done("train", recipe, "--set", "steps=2", "--set", "optim.lr=0.1") == f"dir:{tmp_path}\n"
    done("train", "clara-small-dev")
    (tmp_path / "clips.csv").touch()
    done("finetune", tmp_path / "clips.csv", "-m", f"dir:{tmp_path}", "-o", "y", "--set", "steps=2")
    assert calls[0] == (recipe, ["steps=2", "optim.lr=0.1"])
    assert calls[1][0].name == "clara-small-dev.yaml"
    assert calls[2] == (tmp_path / "clips.csv", f"dir:{tmp_path}", Path("y"), ["steps=2"], None, "auto")


def test_an_unknown_option_is_a_usage_error() -> None:
    assert call("classify", "a.wav", "--lables", "a,b").exit_code == 2


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch, model: str, clips: Path) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("clara.zoo.embedder.Embedder.embed_audio", interrupted)
    result = call("embed", clips, "--out", "x.npz", "-m", model)
    assert result.exit_code == 130 and result.stderr == "clara: interrupted\n"


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A line as a shell runs it, `clara` being this one."""
    code = ["bash", "-c", line.replace("clara", f"{shlex.quote(sys.executable)} -m clara", 1)]
    return subprocess.run(code, capture_output=True, encoding="latin-1", timeout=900, env=os.environ | environment)


@pytest.mark.skipif(os.name == "nt", reason="pipes and closed streams of a POSIX shell")
def test_pipes_closed_streams_and_poor_terminals() -> None:
    assert shell("clara list | true").stderr == ""
    assert shell("clara list <&- >&- 2>&-").returncode == 0
    assert "Unknown model '\\u96e8'" in shell("clara show 雨", PYTHONIOENCODING="latin-1").stderr


@pytest.mark.skipif(not BASE.is_dir(), reason="the trained checkpoint is not in this checkout")
def test_what_a_user_types_first(clips: Path) -> None:
    text = done("classify", clips / "100.wav", "--task", "emotion", "--language", "de")
    assert re.search(r"100\.wav  .+ 0\.\d\d, .+ 0\.\d\d", text)
