"""Speech from text: words of a language as a manifest, in voices drawn from the seed. Needs espeakng-loader."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from typer.testing import CliRunner

from clara.audio.acoustics import measure
from clara.cli import app
from clara.data.espeak import Espeak, Manner
from clara.data.manifest import read_manifest
from clara.data.shards import read_shard, write_shards
from clara.data.synth_speech import SpeechConfig, as_recorded, synthesise, texts
from clara.errors import ClaraError
from clara.text.captions import facts_of

needs_espeak = pytest.mark.skipif(
    not __import__("importlib.util").util.find_spec("espeakng_loader"), reason="clara[synth] is not installed"
)
CONFIG = SpeechConfig(("lt", "sw"), only=("zero", "stop"), takes=3)


def test_texts_are_the_words_of_the_language_with_true_rows() -> None:
    words = {t.spoken: t.columns for t in texts("lt", CONFIG)}
    assert words["nulis"] == {"task": "word", "label": "zero"}
    everything = texts("lt", SpeechConfig(kinds=("words", "labels", "sentences")))
    assert len({t.spoken for t in everything}) == len(everything) > 200
    rain = next(t for t in everything if t.spoken == "lietus")
    assert "label" not in rain.columns and all("lietus" in c and c != "lietus" for c in rain.columns["text"])
    assert not any("{" in t.spoken or ":" in t.spoken for t in everything)


@needs_espeak
def test_a_manifest_that_shards_and_captions_understand(tmp_path: Path) -> None:
    made = synthesise(tmp_path / "out", CONFIG)
    rows = list(read_manifest(tmp_path / "out" / "manifest.jsonl"))
    assert made["clips"] == len(rows) >= 12 and made["skipped"] == {}
    assert {f for r in rows for f in facts_of(dataclasses.asdict(r))} == {
        ("word", "lt:zero"), ("word", "lt:stop"), ("language", "lt"),
        ("word", "sw:zero"), ("word", "sw:stop"), ("language", "sw"),
    }  # fmt: skip
    assert len({tuple(r.original[k] for k in ("variant", "rate", "pitch")) for r in rows}) == len(rows)
    for row in rows:
        wave, rate = sf.read(row.audio)
        assert rate == 16000 and 0.1 < len(wave) / rate == pytest.approx(row.seconds, abs=1e-3)
        assert np.abs(wave).max() > 0.02
    assert write_shards(rows, tmp_path / "shards")["count"] == len(rows)
    assert all(s.row.original["synthetic"] for s in read_shard(next((tmp_path / "shards").glob("*.tar"))))


@needs_espeak
def test_the_same_seed_draws_the_same_voices_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    one = dataclasses.replace(CONFIG, languages=("lt",))
    synthesise(tmp_path / "a", one)
    synthesise(tmp_path / "b", dataclasses.replace(one, only=("stop", "zero")))  # in another order
    files = {p.name for p in (tmp_path / "a" / "lt").iterdir()}
    assert files == {p.name for p in (tmp_path / "b" / "lt").iterdir()}
    manifest = (tmp_path / "a" / "manifest.jsonl").read_text()
    kept, *lost = sorted((tmp_path / "a" / "lt").iterdir())
    for path in lost:
        path.unlink()
    before = kept.stat().st_mtime_ns
    synthesise(tmp_path / "a", one)
    assert {p.name for p in (tmp_path / "a" / "lt").iterdir()} == files
    assert [r.original for r in read_manifest(tmp_path / "a" / "manifest.jsonl")] == [
        json.loads(line)["original"] for line in manifest.splitlines()
    ]
    assert kept.stat().st_mtime_ns == before
    synthesise(tmp_path / "c", dataclasses.replace(one, seed=1))
    assert not {p.name for p in (tmp_path / "c" / "lt").iterdir()} & files


def test_speech_stands_between_pauses_over_a_noise_floor() -> None:
    config = SpeechConfig(pause=(0.1, 0.3), snr_db=(20.0, 20.0))
    speech = 0.5 * np.sin(np.arange(8000) * 0.2).astype(np.float32)
    clips = [as_recorded(speech, config, np.random.default_rng(i)) for i in range(20)]
    assert all(8000 + 3200 <= len(c) <= 8000 + 9600 for c in clips) and len({len(c) for c in clips}) > 15
    for clip in clips:
        before = int(np.correlate(clip, speech, "valid").argmax())
        assert 1600 - 32 <= before <= 4800 + 32 and np.abs(clip).max() <= 1.0
        floor, level = np.square(clip[: before - 40]).mean(), np.square(clip[before : before + 8000]).mean()
        assert 10 < 10 * np.log10(level / floor) < 30
    assert np.array_equal(clips[3], as_recorded(speech, config, np.random.default_rng(3)))
    assert np.abs(as_recorded(2 * speech, config, np.random.default_rng(0))).max() <= 1.0


@needs_espeak
def test_manner_is_heard() -> None:
    from clara.data.espeak import espeak

    low, high = (espeak().speak("labas rytas", Manner("lt", "m1", pitch=p)) for p in (10, 90))
    assert measure(high, espeak().sample_rate).pitch_hz > 1.2 * measure(low, espeak().sample_rate).pitch_hz
    slow, fast = (espeak().speak("labas rytas", Manner("lt", "m1", rate=r)) for r in (90, 300))
    assert len(slow) > 1.5 * len(fast)
    again = espeak().speak("labas rytas", Manner("lt", "m1", pitch=10))
    assert len(again) == pytest.approx(len(low), rel=0.02)  # its oscillators start where they stopped


@needs_espeak
@pytest.mark.parametrize("code", ["en", "fr", "zh", "pt"])
def test_every_voice_of_a_language_speaks(code: str) -> None:
    from clara.data.espeak import espeak

    voices = espeak().voices_of(code)
    assert voices and not any("latn" in v for v in voices)
    for voice in voices:
        assert len(espeak().speak("1 2 3", Manner(voice, "f2"))) > 0.3 * espeak().sample_rate
    with pytest.raises(ClaraError, match="'xx'"):
        espeak().speak("1", Manner("xx"))


@needs_espeak
def test_what_it_would_read_in_english_is_left_out(tmp_path: Path) -> None:
    made = synthesise(tmp_path / "ja", SpeechConfig(("ja",), only=("forward", "digit"), takes=1))
    assert "数字" in made["skipped"]["ja"]
    assert not any("数字" in (r.transcript or "") for r in read_manifest(tmp_path / "ja" / "manifest.jsonl"))


@needs_espeak
def test_the_verb(tmp_path: Path) -> None:
    arguments = ["speak", str(tmp_path), "--language", "lt", "--only", "zero", "--takes", "2"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0 and "manifest.jsonl" in result.stdout, result.output
    result = CliRunner().invoke(app, [*arguments, "--language", "yo"])
    assert result.exit_code == 2 and "'yo'" in result.stderr


def test_mistakes_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for bad, word in (
        ({"kinds": ("song",)}, "song"),
        ({"rate": (300, 100)}, "rate"),
        ({"takes": 0}, "take"),
        ({"pause": (0.3, 0.1)}, "pause"),
    ):
        with pytest.raises(ClaraError, match=word):
            SpeechConfig(**bad)
    with pytest.raises(ClaraError, match="'zeero'"):
        texts("lt", SpeechConfig(only=("zeero",)))
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ClaraError, match=r"clara\[synth\]"):
        Espeak()
