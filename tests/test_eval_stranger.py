"""What someone meets who has a corpus, one command, and things that go wrong."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from layouts import write_clip
from tiny import tiny_zoo
from typer.testing import CliRunner

from clara import metrics
from clara.cli import app
from clara.data.corpora import Names, looks_like, published
from clara.data.manifest import load_corpus, read_manifest, rows_from_corpus, write_manifest
from clara.data.samples import read_shard
from clara.data.shards import ShardConfig, write_shards
from clara.errors import ClaraError
from clara.eval import embeddings, runner
from clara.eval.runner import run
from clara.zoo.embedder import Embedder

RECIPES = Path(__file__).parents[1] / "recipes" / "eval"
EMOTION = RECIPES / "emotion-zero-shot.yaml"
TESS = {"angry": "angry", "disgust": "disgust", "fear": "Fear", "happy": "happy", "neutral": "neutral"}
TESS |= {"ps": "Pleasant_surprise", "sad": "Sad"}


def link(clip: Path, path: Path) -> None:
    """A clip of an official layout: one sound under many names, embedded once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.link(clip, path)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.wav"
    write_clip(path)
    return path


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return tiny_zoo(tmp_path_factory.mktemp("zoo"))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few resamples and no pictures."""
    interval = metrics.bootstrap_interval
    monkeypatch.setattr(
        metrics, "bootstrap_interval", lambda f, *x, seed=0, samples=4: interval(f, *x, seed=seed, samples=4)
    )
    monkeypatch.setattr(runner, "draw_confusions", lambda *_: None)


def ravdess(folder: Path, clip: Path, actors: range = range(1, 25)) -> Path:
    """Audio_Speech_Actors_01-24.zip, unpacked: 60 clips an actor."""
    for actor in actors:
        for emotion in range(1, 9):
            for intensity in (1,) if emotion == 1 else (1, 2):
                for statement in (1, 2):
                    for repetition in (1, 2):
                        name = f"03-01-{emotion:02d}-{intensity:02d}-{statement:02d}-{repetition:02d}-{actor:02d}.wav"
                        link(clip, folder / f"Actor_{actor:02d}" / name)
    return folder


def evaluate(zoo: Embedder, data: Path, out: Path, *settings: str, recipe: Path = EMOTION) -> tuple[list, list[str]]:
    lines: list[str] = []
    return run(recipe, zoo, data, out, settings, lines.append), lines


@pytest.mark.parametrize("name", ["Audio_Speech_Actors_01-24", "RAVDESS", "my downloads/Audio_Speech_Actors_01-24"])
def test_ravdess_as_it_comes_gives_a_number(name: str, clip: Path, zoo: Embedder, tmp_path: Path) -> None:
    folder = ravdess(tmp_path / name, clip)
    data = folder if name.startswith("Audio") else folder.parent
    (got,), lines = evaluate(zoo, data, tmp_path / "out")
    assert (got.name, got.clips, len(got.labels)) == ("ravdess", 1440, 8)
    assert got.labels["neutral"] == 96 and got.labels["calm"] == 192
    assert lines[0].startswith("ravdess en plain: accuracy 0.") and not any("are there" in line for line in lines)
    assert lines[-2].startswith(f"not found under {data}: emodb, nemo, crema_d, tess")
    (file,) = (tmp_path / "out").glob("emotion-zero-shot.*.json")
    assert lines[-1] == f"results: {file}"


def test_tess_and_crema_d_as_they_come(clip: Path, zoo: Embedder, tmp_path: Path) -> None:
    for age in ("OAF", "YAF"):
        for code, emotion in TESS.items():
            for word in ("back", "bar"):
                link(clip, tmp_path / "data" / "TESS Toronto" / f"{age}_{emotion}" / f"{age}_{word}_{code}.wav")
    crema = tmp_path / "data" / "CREMA-D-master"
    for code in ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD"):
        link(clip, crema / "AudioWAV" / f"1001_DFA_{code}_XX.wav")
    (crema / "VideoDemographics.csv").write_text("ActorID,Age,Sex,Race,Ethnicity\n1001,51,Male,x,y\n")
    results, lines = evaluate(zoo, tmp_path / "data", tmp_path / "out")
    assert {r.name: r.clips for r in results} == {"crema_d": 6, "tess": 28}
    assert "tess: 28 of the 2800 clips of tess are there: do not compare the figures with others'" in lines
    assert results[0].data[0] == {
        "corpora": ["crema_d"], "layout": "official", "clips": 6, "missing": 0, "published": 7442
    }  # fmt: skip


def test_half_of_the_files_or_copies_of_them_are_told(clip: Path, zoo: Embedder, tmp_path: Path) -> None:
    folder = ravdess(tmp_path / "RAVDESS", clip, range(1, 13))
    _, lines = evaluate(zoo, tmp_path, tmp_path / "out")
    assert "ravdess: 720 of the 1440 clips of ravdess are there: do not compare the figures with others'" in lines
    ravdess(folder, clip, range(13, 25))
    ravdess(folder / "audio_speech_actors_01-24", clip)
    _, lines = evaluate(zoo, tmp_path, tmp_path / "out")
    assert "ravdess: 2880 clips of ravdess, which publishes 1440: are there copies among them?" in lines


def test_a_table_that_names_clips_which_are_not_there(clip: Path, zoo: Embedder, tmp_path: Path) -> None:
    folder = tmp_path / "ESC-50-master"
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for i, label in enumerate(("dog", "rain", "chirping_birds", "dog")):
        lines.append(f"1-{i}-A-0.wav,4,0,{label},True,1,A")
    for i in (0, 1, 2):
        link(clip, folder / "audio" / f"1-{i}-A-0.wav")
    (folder / "meta").mkdir()
    (folder / "meta" / "esc50.csv").write_text("\n".join(lines) + "\n")
    results, told = evaluate(zoo, tmp_path, tmp_path / "out", recipe=RECIPES / "sound-zero-shot.yaml")
    assert {r.name: r.clips for r in results} == {"esc50": 3, "esc50-all": 3, "esc10": 2}
    assert "esc50: 3 of the 4 clips of esc50 are there: do not compare the figures with others'" in told
    for path in (folder / "audio").iterdir():
        path.unlink()
    with pytest.raises(ClaraError, match="none of its 4 clips is below"):
        evaluate(zoo, tmp_path, tmp_path / "out", recipe=RECIPES / "sound-zero-shot.yaml")


def test_audiocaps_with_both_tables_and_half_of_the_clips(clip: Path, zoo: Embedder, tmp_path: Path) -> None:
    folder = tmp_path / "AudioCaps"
    ids = [f"video{i:02d}" for i in range(6)]
    for video in ids[::2]:
        link(clip, folder / "clips" / f"Y{video}.wav")
    lines = [f"{n},{video},30,{video} caption {k}" for n, video in enumerate(ids) for k in range(5)]
    (folder / "test.csv").write_text("\n".join(["audiocap_id,youtube_id,start_time,caption", *lines]) + "\n")
    wide = [f"Y{video}.wav,{','.join(f'{video} caption {k}' for k in range(5))}" for video in ids[:4]]
    head = "file_name," + ",".join(f"caption_{i}" for i in range(1, 6))
    (folder / "test957.csv").write_text("\n".join([head, *wide]) + "\n")
    results, told = evaluate(zoo, tmp_path, tmp_path / "out", recipe=RECIPES / "retrieval-audiocaps.yaml")
    found = {r.name: (r.clips, r.notes["captions"], r.manifest["missing"]) for r in results}
    assert found == {"audiocaps": (3, 15, 3), "audiocaps-957": (2, 10, 2)}
    assert "audiocaps: 3 of the 975 clips of audiocaps are there: do not compare the figures with others'" in told
    assert "audiocaps-957: 2 of the 4 clips of audiocaps are there: do not compare the figures with others'" in told
    assert any(line.startswith("audiocaps-883: Unknown split in audiocaps 'test883'") for line in told)


def test_a_broken_clip_stops_one_corpus_and_is_named(clip: Path, zoo: Embedder, tmp_path: Path) -> None:
    ravdess(tmp_path / "RAVDESS", clip, range(1, 3))
    bad = tmp_path / "RAVDESS" / "Actor_02" / "03-01-05-01-01-01-02.wav"
    bad.unlink()
    bad.write_bytes(b"broken" * 20)
    link(clip, tmp_path / "TESS" / "OAF_angry" / "OAF_back_angry.wav")
    link(clip, tmp_path / "TESS" / "OAF_sad" / "OAF_back_sad.wav")
    with pytest.raises(
        ClaraError, match=r"1 of the evaluations could not be made. ravdess: .*03-01-05-01-01-01-02.wav"
    ):
        evaluate(zoo, tmp_path, tmp_path / "out")
    (file,) = (tmp_path / "out").glob("*.json")
    saved = json.loads(file.read_text())
    assert [r["name"] for r in saved["results"]] == ["tess"] and saved["faults"][0]["name"] == "ravdess"


def test_what_was_stopped_goes_on(clip: Path, zoo: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i, word in enumerate(("back", "bar", "base", "bath")):
        write_clip(tmp_path / "TESS" / f"OAF_{word}_{'angry' if i % 2 else 'sad'}.wav", 300.0 + 100 * i)
    monkeypatch.setattr(embeddings, "CHUNK", 2)
    embed, calls = zoo.embed_audio, []

    def stops(sources: list, **kwargs):
        calls.append(len(sources))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return embed(sources, **kwargs)

    monkeypatch.setattr(zoo, "embed_audio", stops)
    lines: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run(EMOTION, zoo, tmp_path, tmp_path / "out", log=lines.append)
    assert lines[0].startswith("tess: stopped. The same command goes on from there")
    (got,), _ = evaluate(zoo, tmp_path, tmp_path / "out")
    assert (got.speed["cached"], got.speed["embedded"]) == (2, 2)


def test_names_that_are_no_utf_8(clip: Path, zoo: Embedder, tmp_path: Path) -> None:
    data = tmp_path / os.fsdecode(b"donn\xe9es")
    try:
        link(clip, data / "TESS" / "OAF_angry" / "OAF_back_angry.wav")
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    (got,), lines = evaluate(zoo, data, tmp_path / "out")
    assert got.clips == got.speed["embedded"] == 1 and "donn" in lines[-2]
    (again,), _ = evaluate(zoo, data, tmp_path / "out")
    assert again.speed["cached"] == 1
    rows = [replace(row, original={"file": row.audio}) for row in rows_from_corpus("tess", data / "TESS")]
    write_manifest(tmp_path / "rows.jsonl", rows)
    assert list(read_manifest(tmp_path / "rows.jsonl")) == rows
    write_shards(rows, tmp_path / "shards", ShardConfig(workers=1))
    (path,) = (tmp_path / "shards").glob("*.tar")
    assert next(read_shard(path)).row.original == rows[0].original
    listed = runner.write_clips(tmp_path / "clips.jsonl", [{"file": rows[0].audio, "found": True}])
    assert listed["found"] == 1 and json.loads((tmp_path / "clips.jsonl").read_text())["file"] == rows[0].audio


def test_a_trial_takes_some_of_each_class_and_says_so(clip: Path, zoo: Embedder, tmp_path: Path) -> None:
    ravdess(tmp_path / "RAVDESS", clip, range(1, 5))
    (got,), lines = evaluate(zoo, tmp_path, tmp_path / "out", "limit=16")
    assert got.limit == 16 and set(got.labels.values()) == {2}
    assert lines[0].endswith("| a trial on at most 16 clips")
    with pytest.raises(ClaraError, match="limit=0: expected"):
        evaluate(zoo, tmp_path, tmp_path / "out", "limit=0")


def test_faults_of_the_command_come_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*more: str, model: str = "clara-small.base", out: str = "out") -> str:
        args = ["eval", "words", *more, "--model", model, "--out", str(tmp_path / out)]
        done = CliRunner().invoke(app, args)
        assert done.exit_code == 2
        return done.output

    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    assert "--data" in ask()
    assert "No such file or folder" in ask("--data", str(tmp_path / "gone"))
    assert "clara-small.base" in ask("--data", str(tmp_path / "empty"), model="clara-smal.base")
    assert "cannot be written into" in ask("--data", str(tmp_path / "empty"), out="file")
    denied = SimpleNamespace(access=lambda path, mode: False, W_OK=os.W_OK, X_OK=os.X_OK)
    monkeypatch.setattr("clara.eval.runner.os", denied)  # as root everything may be written
    assert "cannot be written into" in ask("--data", str(tmp_path / "empty"))
    monkeypatch.undo()
    monkeypatch.setattr("clara.eval.runner._loaded", lambda name, world: type("Zoo", (), {"name": name, "sha256": "0"}))
    told = ask("--data", str(tmp_path / "empty"))
    assert "No corpus of words.yaml was found under" in told and told.count("Corpus 'lithuanian_words' not found") == 1
    assert not (tmp_path / "out").exists()


def test_a_corpus_is_known_by_its_clips_and_others_are_not(clip: Path, tmp_path: Path) -> None:
    files = load_corpus("ravdess").FILES
    assert not looks_like(tmp_path, files)
    ravdess(tmp_path / "a", clip, range(1, 2))
    assert looks_like(tmp_path / "a", files) and not looks_like(tmp_path / "a", load_corpus("tess").FILES)
    link(clip, tmp_path / "a" / "Actor_01" / "03-01-01-01-01-01-99.wav")  # no such actor
    assert not looks_like(tmp_path / "a", files)
    link(clip, tmp_path / "b" / "Actor_01" / "holiday.wav")
    assert not looks_like(tmp_path / "b", files)
    anything = Names("**/*.wav", r"(?P<label>\w+)", "word.wav")
    assert not looks_like(tmp_path / "b", anything)


def test_how_many_clips_are_published() -> None:
    counts = {name: load_corpus(name).INFO for name in ("ravdess", "tess", "audiocaps", "packed")}
    assert published(counts["ravdess"], where={"vocal_channel": "speech"}) == 1440
    assert published(counts["ravdess"]) is None
    assert published(counts["tess"]) == 2800 and published(counts["tess"], ("test",)) is None
    assert published(counts["audiocaps"], ("test",)) == 975 and published(counts["audiocaps"], ("test957",)) is None
    assert published(counts["packed"]) is None
