"""Voices are measured as they were made, and get the words that are clearly true of them, in every language."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import vowels
from typer.testing import CliRunner

from clara.audio.acoustics import measure
from clara.cli import app
from clara.data import acoustics
from clara.data.acoustics import AcousticConfig, annotate, voices
from clara.data.annotate import work_through
from clara.data.manifest import Row, read_manifest, write_manifest
from clara.data.samples import read_index, read_shard, verify_shards
from clara.data.shards import ShardConfig, write_shards
from clara.errors import ClaraError
from clara.text.captions import facts_of

Voice = Callable[..., np.ndarray]


def voice(hz: float, syllables: float = 4.0, tilt: float = 1.0, seconds: float = 1.5, seed: int = 0) -> np.ndarray:
    wave = vowels.voice(np.random.default_rng(seed), hz, syllables, tilt, seconds)
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32)


@pytest.mark.parametrize("hz", [80.0, 130.0, 220.0, 400.0])
def test_pitch_is_found_in_noise_at_any_rate(hz: float) -> None:
    t = np.arange(24000) / 16000
    contour = hz * 2 ** (np.sin(2 * np.pi * 1.5 * t) / 12)
    phase = 2 * np.pi * np.cumsum(contour) / 16000
    wave = sum(np.sin(k * phase) / k for k in range(1, 12)) * 0.1
    noisy = (wave + 0.02 * np.random.default_rng(0).standard_normal(len(t))).astype(np.float32)
    found = measure(noisy, 16000)
    assert abs(12 * np.log2(found.pitch_hz / hz)) < 0.3
    assert abs(found.pitch_range - 1 / np.sqrt(2)) < 0.1
    assert found.voiced_seconds > 1.3
    assert measure(noisy[::2], 8000).pitch_hz == pytest.approx(found.pitch_hz, rel=0.01)


def test_syllables_loudness_and_brightness_follow_how_it_was_made() -> None:
    slow, fast = measure(voice(150, 2.0, seconds=3.0), 16000), measure(voice(150, 6.0, seconds=3.0), 16000)
    assert abs(slow.rate - 2.0) < 0.4 and abs(fast.rate - 6.0) < 0.6
    soft, pressed = measure(voice(150, tilt=1.6), 16000), measure(voice(150, tilt=0.3), 16000)
    assert pressed.brightness_db > soft.brightness_db + 3 and pressed.effort_db > soft.effort_db + 0.7
    quieter = measure(0.1 * voice(150), 16000)
    assert quieter.loudness_db == pytest.approx(measure(voice(150), 16000).loudness_db - 20, abs=0.1)
    assert quieter.effort_db == pytest.approx(measure(voice(150), 16000).effort_db, abs=0.05)


def test_full_scale_at_1_khz_is_3_db_below_0() -> None:
    wave = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)
    found = measure(wave, 16000)
    assert found.loudness_db == pytest.approx(-3.01, abs=0.1) and abs(found.effort_db) < 0.05


def test_trembling_is_heard_as_jitter() -> None:
    rng = np.random.default_rng(0)

    def at(depth: float) -> float:
        steps = np.repeat(rng.standard_normal(100), 320)
        phase = 2 * np.pi * np.cumsum(180 * 2 ** (depth * steps / 12)) / 16000
        return measure(sum(np.sin(k * phase) / k for k in range(1, 8)).astype(np.float32) * 0.1, 16000).jitter

    assert at(0.0) < 0.02 < 0.15 < at(0.7)


def test_a_flat_voice_that_ends_in_creak_is_not_lively() -> None:
    contour = np.where(np.arange(32000) < 22000, 180.0, 90.0)  # a creak's period is two of the voice's
    phase = 2 * np.pi * np.cumsum(contour) / 16000
    wave = sum(np.sin(k * phase) / k for k in range(1, 12)).astype(np.float32) * 0.1
    found = measure(wave, 16000)
    assert found.pitch_hz == pytest.approx(180, rel=0.01) and found.pitch_range < 0.3


@pytest.mark.parametrize("wave", [np.zeros(10), np.zeros(16000), np.random.default_rng(0).normal(0, 0.1, 16000)])
def test_what_is_no_voice_has_no_pitch(wave: np.ndarray) -> None:
    found = measure(wave.astype(np.float32), 16000)
    assert found.pitch_hz is None and found.rate is None and np.isfinite(found.loudness_db)


def test_it_is_faster_than_a_hundred_times_real_time() -> None:
    wave = voice(150, seconds=10.0)
    measure(wave, 16000)
    start = time.process_time()
    measure(wave, 16000)
    assert time.process_time() - start < 0.1


def rows_and_measures(**of_last: float) -> tuple[list[Row], dict[str, dict]]:
    """Forty clips of two speakers, alike but for the last."""
    plain = dataclasses.asdict(measure(voice(170), 16000))
    rng, rows, measured = np.random.default_rng(0), [], {}
    for i in range(40):
        rows.append(Row(f"{i}.wav", "c", language="pl", emotion="anger", speaker="ab"[i % 2]))
        measured[f"{i}.wav"] = {k: v + 0.01 * rng.standard_normal() for k, v in plain.items()}
    measured["39.wav"] |= {k: measured["39.wav"][k] + v for k, v in of_last.items()}
    return rows, measured


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ()),
        ({"pitch_hz": 80.0}, ("high",)),
        ({"pitch_hz": -60.0}, ("low",)),
        ({"pitch_hz": 15.0}, ()),  # in the outer quantile, but not to be heard
        ({"effort_db": 2.0, "loudness_db": 6.0}, ("loud",)),
        ({"effort_db": 2.0, "loudness_db": -6.0}, ()),  # what is measured disagrees
        ({"rate": -1.5, "effort_db": -2.0, "loudness_db": -1.0}, ("quiet", "slow")),
        ({"jitter": 0.4, "pitch_range": 2.0, "effort_db": -0.1}, ("lively", "trembling")),
        ({"jitter": 0.4, "effort_db": 0.5}, ()),  # hoarse
        ({"brightness_db": -5.0}, ("dark",)),
    ],
)
def test_words_are_given_only_where_they_are_clear(change: dict[str, float], words: tuple[str, ...]) -> None:
    rows, measured = rows_and_measures(**change)
    found = voices(rows, measured)
    assert found["39.wav"] == words
    assert not any(found[r.audio] for r in rows[:-1])
    few = voices(rows, measured, AcousticConfig(least_clips=50))
    assert not any(few.values())


def test_a_speaker_is_loud_against_his_own_clips() -> None:
    rows, measured = rows_and_measures()
    for i, r in enumerate(rows):
        if r.speaker == "b":
            measured[r.audio]["effort_db"] += 5.0  # he always is
            measured[r.audio]["loudness_db"] += 9.0
        if i in (37, 39):
            measured[r.audio]["effort_db"] += 2.0
            measured[r.audio]["loudness_db"] += 2.0
    found = voices(rows, measured, AcousticConfig(least_clips=15))
    assert [a for a, words in found.items() if words] == ["37.wav", "39.wav"]


def test_what_the_word_decides_is_not_said_of_the_voice() -> None:
    rows, measured = rows_and_measures()
    rows = [dataclasses.replace(r, transcript="yes" if i < 20 else "go") for i, r in enumerate(rows)]
    for i, r in enumerate(rows):
        measured[r.audio]["brightness_db"] += 8.0 * (i < 20) + 4.0 * (i in (5, 30))
    found = voices(rows, measured)
    assert [a for a, words in found.items() if words] == ["5.wav", "30.wav"]
    assert found["5.wav"] == found["30.wav"] == ("bright",)
    again = [dataclasses.replace(r, text=("said again",)) for r in rows]
    assert voices([*rows, *again], measured) == found, "a clip of several rows is one clip"
    unread = voices([dataclasses.replace(r, transcript=None) for r in rows], measured)
    assert sum("bright" in words for words in unread.values()) >= 8


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A manifest of 24 voices, four of them high, and a siren."""
    rows = []
    for i in range(24):
        sf.write(tmp_path / f"{i}.wav", voice(280 if i < 4 else 150, seconds=0.6, seed=i), 16000)
        rows.append(Row(f"{tmp_path}/{i}.wav", "c", language="pl", emotion="anger", task="emotion", seconds=0.6))
    sf.write(tmp_path / "siren.wav", voice(500, seconds=0.6), 16000)
    rows.append(Row(f"{tmp_path}/siren.wav", "c", label="siren", task="sound", seconds=0.6, original={"take": 3}))
    write_manifest(tmp_path / "rows.jsonl", rows)
    return tmp_path / "rows.jsonl"


def test_a_manifest_gets_its_voices(corpus: Path) -> None:
    out = corpus.with_name("new.jsonl")
    result = CliRunner().invoke(app, ["captions", "acoustic", str(corpus), str(out)])
    assert result.exit_code == 0 and "24 voices" in result.stdout and "high 4" in result.stdout
    rows = list(read_manifest(out))
    assert [("voice", "high") in facts_of(dataclasses.asdict(r)) for r in rows] == [True] * 4 + [False] * 21
    assert rows[0].original["acoustics"]["pitch_hz"] > 270 and rows[-1].original == {"take": 3}
    assert sorted(p.name for p in corpus.parent.glob("*.jsonl*")) == ["new.jsonl", "rows.jsonl"]


def test_shards_get_the_same_and_stay_whole(corpus: Path, tmp_path: Path) -> None:
    write_shards(read_manifest(corpus), tmp_path / "shards", ShardConfig(samples_per_shard=10))
    counts = annotate(tmp_path / "shards", tmp_path / "out", AcousticConfig())
    assert counts["clips"] == 24 and counts["high"] == 4 and verify_shards(tmp_path / "out") == []
    before, after = (
        [s for p in sorted((tmp_path / n).glob("*.tar")) for s in read_shard(p)] for n in ("shards", "out")
    )
    assert [s.audio for s in before] == [s.audio for s in after]
    measured = [s.row.original.get("acoustics") for s in after]
    assert ["high" in m["voice"] for m in measured[:-1]] == [True] * 4 + [False] * 20 and measured[-1] is None
    assert read_index(tmp_path / "out")["count"] == 25


def test_it_goes_on_where_it_stopped(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, real = corpus.with_name("new.jsonl"), acoustics.acoustics.measure
    monkeypatch.setattr(acoustics, "CHUNK", 5)
    calls = []

    def breaks(wave: np.ndarray, rate: int) -> object:
        calls.append(1)
        if len(calls) == 13:
            raise KeyboardInterrupt
        return real(wave, rate)

    monkeypatch.setattr(acoustics.acoustics, "measure", breaks)
    with pytest.raises(KeyboardInterrupt):
        annotate(corpus, out)
    cache = out.with_name("new.jsonl.measured.jsonl")
    assert not out.exists() and len(cache.read_text().splitlines()) == 10
    with cache.open("a") as file:
        file.write(json.dumps(["half a li"])[:-5])
    calls[:] = [0] * 100
    annotate(corpus, out)
    assert len(calls) == 114 and out.exists() and not cache.exists()


def test_a_cache_of_any_text_is_read_again(tmp_path: Path) -> None:
    cache, made = tmp_path / "c.jsonl", {"a": "one\u2028two\x85three", "b": "łódź"}
    asked: list[str] = []

    def work(keys: list[str]) -> list[tuple[str, str]]:
        asked.extend(keys)
        return [(k, made[k]) for k in keys]

    assert work_through(["a"], cache, work, 1) == {"a": made["a"]}
    assert work_through(["a", "b"], cache, work, 1) == made and asked == ["a", "b"]
    whole = cache.read_bytes()
    cache.write_bytes(whole[: whole.index("ź".encode()) + 1])
    assert work_through(["a", "b"], cache, work, 1) == made and asked == ["a", "b", "b"]
    assert cache.read_bytes() == whole


def test_mistakes_are_told(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ClaraError, match="written over"):
        annotate(corpus, corpus)
    write_manifest(tmp_path / "sounds.jsonl", [Row("siren.wav", "c", label="siren", task="sound")])
    with pytest.raises(ClaraError, match="no speech"):
        annotate(tmp_path / "sounds.jsonl", tmp_path / "o.jsonl")
    with pytest.raises(ClaraError, match="outer"):
        AcousticConfig(outer=0.6)
