"""Rows -> shards -> samples; interrupted, damaged and foreign shards; the odd clips that corpora hold."""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import webdataset as wds
from typer.testing import CliRunner

from clara.audio.waveform import info, read
from clara.cli import app
from clara.data import shards
from clara.data.manifest import Row, rows_from_corpus
from clara.data.shards import ShardConfig, read_index, read_shard, sample_from_wds, verify_shards, write_shards
from clara.errors import ClaraError

RATE = 16000


@pytest.fixture
def rows(tmp_path: Path, wav: Callable[..., Path]) -> list[Row]:
    """Five rows of two splits, of different rates and formats, one of them a member of a tar."""
    names = [("a.wav", 16000), ("b.flac", 48000), ("c.ogg", 22050), ("d.wav", 8000)]
    made = [wav(0.2 + 0.1 * i, rate, name) for i, (name, rate) in enumerate(names)]
    with tarfile.open(tmp_path / "in.tar", "w") as tar:
        tar.add(made[3], "folder/d.wav")
    texts = {"text": ("a tone",), "text_augmented": ("ein Ton", "un son"), "visual_captions": ("a speaker",)}
    facts = {"language": "de", "emotion": "anger", "label": "dog", "task": "emotion", "speaker": "s"}
    more = {"gender": "female", "age": "33", "transcript": "Ü", "license": "CC0", "original": {"take": 2}}
    full = Row(str(made[0]), "toy", **texts, **facts, **more)
    bare = {"original": {"label": "no class", "emotion": "no emotion", "language": "no code"}}
    others = [Row(str(p), "toy", "train" if i < 2 else "valid", **bare) for i, p in enumerate(made[1:])]
    return [full, *others, Row(f"{tmp_path / 'in.tar'}::folder/d.wav", "toy", "valid")]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def names_of(path: Path) -> list[str]:
    with tarfile.open(path) as tar:
        return tar.getnames()


def test_what_is_written_is_read_back(rows: list[Row], out: Path) -> None:
    index = write_shards(rows, out, ShardConfig(samples_per_shard=2))
    assert [(e["name"], e["count"]) for e in index["shards"]] == [
        ("toy-train-000000.tar", 2),
        ("toy-train-000001.tar", 1),
        ("toy-valid-000000.tar", 2),
    ]
    assert index["count"] == 5
    assert index["hours"] == pytest.approx((0.2 + 0.3 + 0.4 + 0.5 + 0.5) / 3600, abs=1e-5)
    assert verify_shards(out) == []
    samples = [s for e in index["shards"] for s in read_shard(out / e["name"])]
    first = samples[0]
    assert first.row.audio == f"{out}/toy-train-000000.tar::{first.key}.flac"
    for sample, row in zip(samples, rows, strict=True):
        assert dataclasses.replace(sample.row, audio=row.audio, seconds=None) == row
        assert (info(sample.audio).sample_rate, info(sample.audio).channels, sample.suffix) == (RATE, 1, "flac")
        assert sample.row.seconds == pytest.approx(info(sample.audio).seconds, abs=1e-3)
        if "::" not in row.audio:
            wave, expected = read(sample.audio, RATE), read(row.audio, RATE)
            n = min(len(wave), len(expected)) - 200
            np.testing.assert_allclose(wave[200:n], expected[200:n], atol=2e-3)
    np.testing.assert_array_equal(read(samples[3].audio, RATE), read(samples[4].audio, RATE))


def test_webdataset_reads_them_as_it_reads_laions(rows: list[Row], out: Path) -> None:
    write_shards(rows, out)
    samples = list(wds.WebDataset(str(out / "toy-train-000000.tar"), shardshuffle=False))
    assert [sorted(k for k in s if k[0] != "_") for s in samples] == [["flac", "json"]] * 3
    assert sample_from_wds(samples[0]).row.text == ("a tone",)
    names = names_of(out / "toy-train-000000.tar")
    assert [n.rpartition(".")[2] for n in names] == ["flac", "json"] * 3, "the original CLARA pairs neighbours"


@pytest.mark.parametrize("form", sorted(shards.FORMATS))
def test_every_format_gives_the_same_bytes_twice(rows: list[Row], tmp_path: Path, form: str) -> None:
    hashes = []
    for name in ("one", "two"):
        index = write_shards(rows, tmp_path / name, ShardConfig(format=form))
        hashes.append([e["sha256"] for e in index["shards"]])
        assert verify_shards(tmp_path / name) == []
        time.sleep(1.1 if form in ("opus", "ogg") and name == "one" else 0)  # their encoders seed by the clock
    assert hashes[0] == hashes[1]


@pytest.mark.slow
def test_two_processes_write_what_one_writes(rows: list[Row], tmp_path: Path) -> None:
    one = write_shards(rows, tmp_path / "one", ShardConfig(samples_per_shard=1))
    bad = [*rows, Row("/nowhere.wav", "toy")]
    with pytest.raises(ClaraError, match=r"Row '/nowhere.wav' of toy: No such audio file"):
        write_shards(iter(bad), tmp_path / "two", ShardConfig(samples_per_shard=1, workers=2))
    written = read_index(tmp_path / "two")["shards"]
    assert written == one["shards"]


def test_an_interrupted_run_goes_on(rows: list[Row], out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ShardConfig(samples_per_shard=1)
    whole = write_shards(rows, out.with_name("whole"), config)
    write, calls = shards._write_shard, []

    def fail_at_third(job: shards._Job) -> dict:
        calls.append(job.name)
        if len(calls) == 3:
            (job.out / f".{job.name}.99999999-1.part").write_bytes(b"half")  # of a process that is gone
            raise KeyboardInterrupt
        return write(job)

    monkeypatch.setattr(shards, "_write_shard", fail_at_third)
    with pytest.raises(KeyboardInterrupt):
        write_shards(rows, out, config)
    assert len(read_index(out)["shards"]) == 2
    damaged = out / "toy-train-000001.tar"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    calls[:] = ["-"] * 3
    assert write_shards(rows, out, config) == whole
    assert calls[3:] == ["toy-train-000001.tar", "toy-train-000002.tar", "toy-valid-000000.tar", "toy-valid-000001.tar"]
    assert list(out.glob(".*.part")) == []
    assert verify_shards(out) == []


def test_shards_of_other_rows_are_not_touched(rows: list[Row], out: Path) -> None:
    write_shards(rows[:1], out)
    with pytest.raises(ClaraError, match="written from other rows or settings"):
        write_shards(rows[1:2], out)
    with pytest.raises(ClaraError, match="written from other rows or settings"):
        write_shards(rows[:1], out, ShardConfig(format="wav"))
    index = write_shards([dataclasses.replace(rows[0], corpus="other/corpus 1.0")], out)
    assert [e["name"] for e in index["shards"]] == ["other_corpus_1_0-train-000000.tar", "toy-train-000000.tar"]
    assert verify_shards(out) == []


def test_a_shorter_run_does_not_leave_old_clips_beside_new(rows: list[Row], out: Path) -> None:
    write_shards(rows[:3], out, ShardConfig(samples_per_shard=1))
    with pytest.raises(ClaraError, match=r"also holds toy-train-000002\.tar"):
        write_shards(rows[:2], out, ShardConfig(samples_per_shard=1))


def test_odd_clips(tmp_path: Path, out: Path, tone: Callable[..., np.ndarray]) -> None:
    stereo = np.stack([tone(0.3, 8000), np.zeros(2400, np.float32)], 1)
    sf.write(tmp_path / "pcm8.wav", stereo, 8000, subtype="PCM_U8")
    sf.write(tmp_path / "fast.wav", tone(0.3, 192000), 192000, subtype="PCM_24")
    sf.write(tmp_path / "one.wav", np.ones(1, np.float32), RATE)
    sf.write(tmp_path / "silence.wav", np.zeros(1600, np.float32), RATE)
    sf.write(tmp_path / "loud.wav", 3 * tone(0.3), RATE, subtype="FLOAT")
    names = ["pcm8", "fast", "one", "silence", "loud"]
    caption = ("x" * 10_000,)
    write_shards([Row(str(tmp_path / f"{n}.wav"), "odd", text=caption) for n in names], out)
    assert verify_shards(out) == []
    clips = dict(zip(names, read_shard(out / "odd-train-000000.tar"), strict=True))
    waves = {n: read(s.audio, RATE) for n, s in clips.items()}
    assert clips["one"].row.text == caption
    assert [len(waves[n]) for n in names] == [4800, 4800, 1, 1600, 4800]
    assert np.abs(waves["pcm8"][500:-500]).max() == pytest.approx(0.25, abs=0.02)
    assert not waves["silence"].any()
    assert waves["loud"][9] > 0.9, "too loud is clipped, not wrapped around"


def broken_clips(folder: Path, tone: Callable[..., np.ndarray]) -> dict[str, str]:
    """name -> what the error says."""
    (folder / "text.wav").write_text("not a wave")
    (folder / "empty.wav").touch()
    sf.write(folder / "nan.wav", np.array([0.0, np.nan], np.float32), RATE, subtype="FLOAT")
    sf.write(folder / "none.wav", np.zeros(0, np.float32), RATE)
    sf.write(folder / "cut.flac", np.random.default_rng(0).uniform(-1, 1, 32000), RATE)
    whole = (folder / "cut.flac").read_bytes()
    (folder / "cut.flac").write_bytes(whole[: len(whole) // 2])
    with tarfile.open(folder / "in.tar", "w") as tar:
        tar.add(folder / "text.wav", "text.wav")
    return {
        "text.wav": "cannot be decoded",
        "empty.wav": "empty",
        "nan.wav": "NaN",
        "none.wav": "no samples",
        "cut.flac": "breaks off",
        "gone.wav": "No such audio file",
        "in.tar::text.wav": "cannot be decoded",
        "in.tar::txet.wav": "Did you mean 'text.wav'",
        "gone.tar::a.wav": "No such tar",
        "text.tar::a.wav": "uncompressed tar",
    }


def test_broken_clips_are_named_or_listed(tmp_path: Path, rows: list[Row], tone: Callable[..., np.ndarray]) -> None:
    expected = broken_clips(tmp_path, tone)
    (tmp_path / "text.tar").write_text("not a tar")
    for name, message in expected.items():
        with pytest.raises(ClaraError) as e:
            write_shards([rows[0], Row(str(tmp_path / name), "toy")], tmp_path / "raise")
        assert message in str(e.value)
        assert f"Row '{tmp_path / name}' of toy" in str(e.value)
        assert not list((tmp_path / "raise").glob("*.tar"))
    bad = [Row(str(tmp_path / name), "toy") for name in expected]
    index = write_shards([*bad, rows[0]], tmp_path / "skip", ShardConfig(on_error="skip"))
    (entry,) = index["shards"]
    assert entry["count"] == 1
    assert [s["audio"].rpartition("/")[2] for s in entry["skipped"]] == [n.rpartition("::")[2] for n in expected]
    assert all(m in s["why"] for m, s in zip(expected.values(), entry["skipped"], strict=True))
    assert verify_shards(tmp_path / "skip") == []


def test_the_command_says_what_it_left_out(tmp_path: Path, wav: Callable[..., Path]) -> None:
    (tmp_path / "a.csv").write_text(f"audio,text\n{wav(name='good.wav')},a\nbad.wav,b\n")
    (tmp_path / "bad.wav").write_text("no audio")
    call = ["shards", str(tmp_path / "o"), "--corpus", "csv", "--data", str(tmp_path / "a.csv"), "--workers", "1"]
    refused = CliRunner().invoke(app, call)
    assert refused.exit_code == 2 and "--skip-broken" in refused.output and "Traceback" not in refused.output
    result = CliRunner().invoke(app, [*call, "--skip-broken"])
    assert result.exit_code == 0 and "1 clips" in result.output and "1 left out" in result.output
    assert "bad.wav cannot be decoded" in result.output


def test_long_rows_are_cut_into_equal_parts(tmp_path: Path, out: Path, wav: Callable[..., Path]) -> None:
    rows = [Row(str(wav(5.0, 22050, "long.wav")), "toy"), Row(str(wav(1.0, 44100, "short.wav")), "toy")]
    index = write_shards(rows, out, ShardConfig(max_seconds=2.0))
    samples = list(read_shard(out / "toy-train-000000.tar"))
    assert index["count"] == 4
    lengths = [s.row.seconds for s in samples]
    assert max(lengths) <= 2.0
    assert min(lengths) > 0.99
    assert sum(lengths) == pytest.approx(6.0, abs=0.002)
    whole = read(rows[0].audio, RATE)
    parts = np.concatenate([read(s.audio, RATE) for s in samples[:3]])
    np.testing.assert_allclose(parts[200:79000], whole[200:79000], atol=2e-3)
    assert verify_shards(out) == []


def test_a_three_hour_file_needs_little_memory(tmp_path: Path, out: Path) -> None:
    path = tmp_path / "long.flac"
    with sf.SoundFile(path, "w", 1000, 1) as file:
        for _ in range(18):
            file.write(np.zeros(600 * 1000, np.int16))
    tracemalloc.start()
    index = write_shards([Row(str(path), "toy")], out, ShardConfig(sample_rate=1000, max_seconds=60.0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert index["count"] in (180, 181)
    assert index["hours"] == pytest.approx(3.0)
    assert peak < 6e6, "3 hours decoded are 43 MB"


def tar_of(path: Path, members: list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def encoded(seconds: float = 0.1, container: str = "FLAC") -> bytes:
    buffer = io.BytesIO()
    sf.write(buffer, np.random.default_rng(0).uniform(-0.5, 0.5, int(seconds * 48000)), 48000, format=container)
    return buffer.getvalue()


@pytest.mark.parametrize("keep", [0.3, 0.7, "data"])
def test_verify_finds_a_truncated_tar(rows: list[Row], out: Path, keep: float | str) -> None:
    write_shards(rows[:3], out)
    path = out / "toy-train-000000.tar"
    whole = path.read_bytes()
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512  # all members, no end-of-archive mark
    path.write_bytes(whole[: end if keep == "data" else int(len(whole) * keep)])
    problems = [str(p) for p in verify_shards(out)]
    assert any("sha256 differs" in p for p in problems)
    assert any("truncated" in p for p in problems)
    (out / "index.json").unlink()
    assert any("truncated" in str(p) for p in verify_shards(out)), "also without an index"
    with pytest.raises(ClaraError, match="truncated"):
        list(read_shard(path))


def test_verify_finds_bad_samples(tmp_path: Path) -> None:
    good, meta = encoded(2.0), b'{"text": "x"}'
    members = [("ok.flac", good), ("ok.json", meta), ("text.flac", b"no audio"), ("text.json", meta)]
    members += [("lone.flac", good), ("bad.flac", good), ("bad.json", b"{"), ("list.flac", good), ("list.json", b"[]")]
    members += [("silent.json", meta), ("cut.flac", good[: len(good) // 2]), ("cut.json", meta)]
    members += [("short.ogg", encoded(1.0, "OGG")), ("short.json", b'{"seconds": 2.0}')]
    members += [("ok.flac", good), ("ok.json", meta)]
    tar_of(tmp_path / "0.tar", members)
    found = {p.key: p.what for p in verify_shards(tmp_path)}
    assert found.keys() == {"text", "lone", "bad", "list", "silent", "cut", "short", "ok"}
    assert "cannot be decoded" in found["text"]
    assert "no JSON" in found["lone"]
    assert "invalid JSON" in found["bad"]
    assert "expected an object" in found["list"]
    assert "no audio" in found["silent"]
    assert "breaks off" in found["cut"]
    assert "of 2.00 s" in found["short"]
    assert "occurs twice" in found["ok"]


def test_verify_compares_folder_and_index(rows: list[Row], out: Path) -> None:
    write_shards(rows, out)
    (out / "toy-valid-000000.tar").rename(out / "copy.tar")
    found = sorted(str(p) for p in verify_shards(out))
    assert found == ["copy.tar: not listed in index.json", "toy-valid-000000.tar: listed in index.json, but missing"]
    (out / "copy.tar").write_bytes((out / "toy-train-000000.tar").read_bytes())
    assert sum("occurs twice, first in copy.tar" in str(p) for p in verify_shards(out)) == 3


def test_no_shards_and_no_index(tmp_path: Path) -> None:
    with pytest.raises(ClaraError, match="No shards"):
        verify_shards(tmp_path)
    with pytest.raises(ClaraError, match="no index"):
        read_index(tmp_path)
    (tmp_path / "index.json").write_text("[]")
    with pytest.raises(ClaraError, match=r"index\.json is not an index of shards") as caught:
        read_index(tmp_path)
    assert "delete" not in str(caught.value).lower(), "it may be another program's, such as our own search index"
    with pytest.raises(ClaraError, match="No such shard"):
        list(read_shard(tmp_path / "a.tar"))
    with pytest.raises(ClaraError, match="No rows"):
        write_shards([], tmp_path / "out")


def test_laion_and_original_clara_shards(tmp_path: Path) -> None:
    metas: list[dict] = [
        {"text": "she says “hi”", "original_data": {"emotion": "Angry", "gender": "woman", "age": 31}},
        {"text": ["dog", ""], "tag": ["dog"], "original_data": {"title": "x"}},
        {"text": ["the sound of a"], "tag": ["a", "b"], "text_augment_all": ["an a and a b"], "original_data": {}},
        {"text": "palabra", "original_data": {"language": "es-ES", "speaker_id": 7}},
        {"text": "x", "original_data": {"class_names": ["Dog_bark"]}, "captions": {"0": {"caption": "a frame"}}},
        {"text": None, "original_data": None},
    ]
    members = []
    for i, meta in enumerate(metas):
        members += [(f"{i}.flac", encoded()), (f"{i}.json", json.dumps(meta).encode())]
    path = tar_of(tmp_path / "root" / "EmoV_DB" / "valid" / "0.tar", members)
    tar_of(path.with_name("1.tar"), members)
    found = [(p.key, p.what.partition(":")[0]) for p in verify_shards(tmp_path / "root")]
    assert found == [("5", "nothing to learn from")] * 2, "their keys start from 0 in every shard"
    rows = [s.row for s in read_shard(path)]
    assert {(r.corpus, r.split) for r in rows} == {("EmoV_DB", "valid")}
    assert (rows[0].emotion, rows[0].gender, rows[0].age, rows[0].task) == ("anger", "female", "31", "emotion")
    assert rows[0].text == (metas[0]["text"],)
    assert rows[0].original == metas[0]["original_data"]
    assert (rows[1].text, rows[1].label, rows[1].task, rows[1].language) == (("dog",), "dog", "sound", None)
    assert (rows[2].label, rows[2].text_augmented, rows[2].task) == (None, ("an a and a b",), "caption")
    assert (rows[3].language, rows[3].speaker) == ("es", "7")
    assert (rows[4].label, rows[4].visual_captions) == ("dog bark", ("a frame",))
    assert rows[5].text == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "flacc"}, "Did you mean 'flac'"),
        ({"format": "opus", "sample_rate": 22050}, "Opus at 22050 Hz"),
        ({"on_error": "ignore"}, "Unknown on_error"),
        ({"samples_per_shard": 0}, "above 0"),
        ({"max_seconds": 0.0}, "above 0"),
    ],
)
def test_bad_settings(options: dict, message: str) -> None:
    with pytest.raises(ClaraError, match=message):
        ShardConfig(**options)


def test_real_clips(shared_data: Path, out: Path) -> None:
    rows = [r for r in rows_from_corpus("packed", shared_data / "korean_emotional") if r.speaker == "ned"]
    index = write_shards(rows, out)
    assert index["count"] == 20
    assert index["hours"] == pytest.approx(sum(r.seconds for r in rows) / 3600, rel=1e-3)
    assert {r["license"][0] for r in index["shards"]} == {"CC BY-NC-SA 4.0, research"}
    assert verify_shards(out) == []
    back = [s.row for e in index["shards"] for s in read_shard(out / e["name"])]
    assert [(r.emotion, r.speaker, r.transcript) for r in back] == [(r.emotion, r.speaker, r.transcript) for r in rows]
