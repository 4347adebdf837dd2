"""Captions and their events -> mixed clips with what is true of them, from tones that can be told apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from typer.testing import CliRunner

from clara.audio.waveform import read
from clara.cli import app
from clara.config import arch_config
from clara.data import scenes
from clara.data.entries import Entry, scan
from clara.data.loader import ClipPlan, DataConfig, TrainBatches
from clara.data.manifest import Row
from clara.data.samples import Sample, read_shard, verify_shards
from clara.data.scenes import Pool, SceneConfig, choose, mix_scenes, read_lines, repeat, trim
from clara.data.shards import ShardConfig, write_shards
from clara.errors import ClaraError
from clara.text.captions import Caption, CaptionConfig, facts_of, judge, open_tasks
from clara.text.tokenizer import build_tokenizer

RATE = 16000
HZ = {"rain": 500.0, "dog": 1100.0, "laughing": 2300.0, "male": 200.0, "female": 330.0, "other man": 260.0}
LINES = [
    {"text": "A dog barks while it rains", "events": [["sound", "dog"], ["sound", "rain"]], "stages": [0, 0]},
    {"text": "Rain, then a man talks", "events": [["sound", "rain"], ["speaker", "male"]], "stages": [0, 1]},
    {"text": "Two men talk", "events": [["speaker", "male"], ["speaker", "male"]], "stages": [0, 0]},
    {"text": "People talk", "events": [["speech", "many"]], "stages": [0]},
    {"text": "A crowd laughs", "events": [["sound", "laughing", "people"]], "stages": [0]},
    {"text": "A girl laughs", "events": [["sound", "laughing", "child"]], "stages": [0]},
    {"text": "A cat and rain", "events": [["sound", "cat"], ["sound", "rain"]], "stages": [0, 0]},
    {"text": "A child speaks", "events": [["speaker", "child"]], "stages": [0]},
]


def tone(path: Path, hz: float, seconds: float) -> str:
    t = np.arange(int(seconds * RATE)) / RATE
    sf.write(path, np.concatenate([np.zeros(RATE // 4), 0.2 * np.sin(2 * np.pi * hz * t), np.zeros(RATE // 4)]), RATE)
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`clips/` of tones with their labels, `events.jsonl`."""
    folder = tmp_path_factory.mktemp("scenes")
    rows = [
        Row(tone(folder / f"{k}.wav", HZ[k], 1.0), "noises", task="sound", label=k) for k in ("rain", "dog", "laughing")
    ]
    rows += [Row(tone(folder / "cat.wav", 3000.0, 1.0), "noises", "valid", task="sound", label="cat")]
    for name, gender in (("male", "male"), ("other man", "male"), ("female", "female")):
        path = tone(folder / f"{name}.wav", HZ[name], 2.0)
        rows.append(Row(path, "voices", task="emotion", emotion="anger", language="pl", gender=gender, speaker=name))
    rows.append(Row(tone(folder / "word.wav", 700.0, 0.5), "voices", language="pl", gender="male", speaker="short"))
    write_shards(rows, folder / "clips", ShardConfig(format="wav"))
    (folder / "events.jsonl").write_text("\n".join(map(json.dumps, LINES)) + "\n")
    return folder


def samples(folder: Path) -> dict[str, Sample]:
    found = [s for p in sorted(folder.glob("*.tar")) for s in read_shard(p)]
    return {s.row.text[0]: s for s in found}


def heard(wave: np.ndarray) -> set[str]:
    t = np.arange(len(wave)) / RATE
    power = {k: abs((wave * np.exp(-2j * np.pi * hz * t)).mean()) for k, hz in HZ.items()}
    return {k for k, p in power.items() if p > 0.002}


def test_scenes_hold_what_their_captions_and_facts_say(folder: Path, tmp_path: Path) -> None:
    made = mix_scenes(folder / "events.jsonl", folder / "clips", tmp_path, SceneConfig())
    assert made["scenes"] == 5 and verify_shards(tmp_path) == []
    # the cat is in another split, no clip of laughter tells whose it is, nobody is a child
    assert made["lacking"] == {"sound/cat": 1, "sound/laughing/child": 1, "speaker/child": 1}
    assert made["facts"]["sound/rain"] == 2 and made["facts"]["speaker/male"] >= 2
    found = samples(tmp_path)
    facts = {text: facts_of(vars(s.row)) for text, s in found.items()}
    rain, voice = ("sound", "rain"), {("language", "pl"), ("speaker", "male")}
    assert facts["A dog barks while it rains"] == {("sound", "dog"), rain}
    assert facts["Rain, then a man talks"] == {rain, *voice}
    waves = {text: read(s.audio, RATE) for text, s in found.items()}
    assert heard(waves["A dog barks while it rains"]) == {"dog", "rain"}
    assert heard(waves["Two men talk"]) == {"male", "other man"}  # two people, no word alone
    assert heard(waves["A crowd laughs"]) == {"laughing"}
    assert len(heard(waves["People talk"])) == 2
    for text, sample in found.items():
        assert 5.0 <= len(waves[text]) / RATE <= 10.0 and 0.02 < np.abs(waves[text]).max() <= scenes.PEAK + 1e-4
        assert (sample.row.corpus, sample.row.split, sample.row.task) == ("scenes", "train", "caption")
        assert sample.row.original["parts"][0].split("::")[0] in ("noises-train-000000.tar", "voices-train-000000.tar")


def test_stages_follow_one_another_and_continuous_sounds_fill_theirs(folder: Path, tmp_path: Path) -> None:
    mix_scenes(folder / "events.jsonl", folder / "clips", tmp_path, SceneConfig(seconds=(6.0, 6.0), overlap=0.0))
    wave = read(samples(tmp_path)["Rain, then a man talks"].audio, RATE)
    assert heard(wave[: len(wave) // 2]) == {"rain"} and not heard(wave[len(wave) // 2 :]) & {"rain"}
    levels = np.abs(wave[: len(wave) // 2].reshape(-1, RATE // 10)).max(1)
    assert levels.min() > 0.5 * levels.max()  # one second of rain, three times


def test_what_a_scene_says_of_other_sounds_and_voices(folder: Path, tmp_path: Path) -> None:
    mix_scenes(folder / "events.jsonl", folder / "clips", tmp_path, SceneConfig())
    (entry,) = [e for e in scan(DataConfig((f"{tmp_path}/*.tar",), 1)) if "a man talks" in e.meta["text"][0]]
    verdict = {
        fact: judge(frozenset({fact}), entry.facts, entry.facts, open_tasks(entry.facts))
        for fact in (("sound", "rain"), ("sound", "dog"), ("speaker", "female"), ("emotion", "anger"))
    }
    assert list(verdict.values()) == [1, -1, -1, 0]  # how the man feels nobody says


def test_a_voice_in_a_scene_stays_undecided_where_it_is_not_captioned(folder: Path, tmp_path: Path) -> None:
    """Languages and speakers are dropped from most steps; the others must not be false of the scene then."""
    mix_scenes(folder / "events.jsonl", folder / "clips", tmp_path, SceneConfig())
    captions = CaptionConfig(("en",), attributes=0.0, original=1.0)
    config = DataConfig((f"{tmp_path}/*.tar",), 8, captions=captions)
    batches = TrainBatches(config, build_tokenizer(arch_config("test-conv").tokenizer), RATE, 0, (0, 1))
    chosen = [e for e in batches.entries if e.meta["text"][0] == "Rain, then a man talks"]
    plans = [ClipPlan(e) for e in chosen]
    texts = [batches._text(p, np.random.default_rng(0)) for p in plans]
    assert texts[0].own.text == "Rain, then a man talks"  # and no list of its facts
    asked = [Caption(k, frozenset({(t, k)})) for t, k in (("speaker", "male"), ("language", "pl"), ("sound", "dog"))]
    positive, ignore, _ = batches._targets(plans, texts, [texts[0].own, *asked], 4)
    assert positive.tolist() == [[True, False, False, False]]
    assert ignore.tolist() == [[False, True, True, False]]


def test_a_run_is_repeatable_and_goes_on_where_it_stopped(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SceneConfig(audio=ShardConfig(2))
    mix_scenes(folder / "events.jsonl", folder / "clips", tmp_path / "a", config)
    rendered, whole = [], scenes.render_scene

    def breaks(*args):
        rendered.append(args)
        if len(rendered) == 4:
            raise KeyboardInterrupt
        return whole(*args)

    monkeypatch.setattr(scenes, "render_scene", breaks)
    with pytest.raises(KeyboardInterrupt):
        mix_scenes(folder / "events.jsonl", folder / "clips", tmp_path / "b", config)
    mix_scenes(folder / "events.jsonl", folder / "clips", tmp_path / "b", config)
    assert len(rendered) == 4 + 3  # the first shard of two was whole
    for path in (tmp_path / "a").glob("*.*"):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    mix_scenes(folder / "events.jsonl", folder / "clips", tmp_path / "c", SceneConfig(seed=1))
    other, same = samples(tmp_path / "c"), samples(tmp_path / "b")
    assert all(other[text].audio != same[text].audio for text in same)
    with pytest.raises(ClaraError, match="also holds"):
        mix_scenes(folder / "events.jsonl", folder / "clips", tmp_path / "b", SceneConfig())


def test_counts_and_most_events_choose_lines(folder: Path) -> None:
    lines, pool = read_lines(folder / "events.jsonl"), Pool(scan(DataConfig((f"{folder}/clips/*.tar",), 1)))
    sizes = [len(line.events) for line, _ in choose(lines, pool, SceneConfig(counts=(1, 2)))[0]]
    assert sorted(sizes) == [1, 2, 2]
    assert {len(line.events) for line, _ in choose(lines, pool, SceneConfig(most_events=1))[0]} == {1}
    whole = dict(choose(lines, pool, SceneConfig())[0])
    part = choose(lines[1:2], pool, SceneConfig())[0]
    assert part == [(lines[1], whole[lines[1]])]  # a scene is the same whatever other lines there are


def test_a_boy_is_no_man() -> None:
    def entry(speaker: str, age: str) -> Entry:
        meta = {"corpus": "voices", "speaker": speaker, "seconds": 2.0, "language": "ar", "gender": "male", "age": age}
        return Entry("a.tar", speaker, 0, 0, meta, facts_of(meta))

    pool = Pool([entry("boy", "5"), entry("man", "30")])
    drawn = {k: {pool.draw(("speaker", k), np.random.default_rng(n)).key for n in range(20)} for k in ("male", "child")}
    assert drawn == {"male": {"man"}, "child": {"boy"}}
    assert pool.draw(("speaker", "female"), np.random.default_rng(0)) is None


def test_cli_and_mistakes(folder: Path, tmp_path: Path) -> None:
    arguments = ["captions", "scenes", str(folder / "events.jsonl"), str(folder / "clips"), str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*arguments, "--counts", "0,1", "--seconds", "5", "6", "--without", "voices"])
    assert done.exit_code == 0 and "1 scenes" in done.output and "sound/rain 1" in done.output
    assert list(samples(tmp_path / "out")) == ["A dog barks while it rains"]
    assert CliRunner().invoke(app, [*arguments, "--counts", "many"]).exit_code != 0
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "x", "events": [["sound", "dog"]], "stages": []}\n')
    with pytest.raises(ClaraError, match=r"bad.jsonl:1: .*number of stages"):
        read_lines(bad)
    bad.write_text('{"text": "a cat", "events": [["sound", "cat"]], "stages": [0]}\n')
    with pytest.raises(ClaraError, match="sound/cat"):
        mix_scenes(bad, folder / "clips", tmp_path / "none", SceneConfig())
    with pytest.raises(ClaraError, match="least first"):
        SceneConfig(seconds=(9.0, 5.0))


def test_trim_and_repeat() -> None:
    wave = np.concatenate([np.zeros(400), np.ones(1600), np.zeros(800)]).astype(np.float32)
    assert len(trim(wave, RATE)) in range(1600, 1600 + 2 * 160)
    assert len(trim(np.zeros(500, np.float32), RATE)) == 500
    again = repeat(np.ones(1600, np.float32), 10000, 320)
    assert len(again) == 10000 and np.allclose(again[400:9000], 1.0, atol=0.01)  # fades add up to one
