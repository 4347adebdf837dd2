"""Windows of any length and overlap, the events found by them, and their files."""

from __future__ import annotations

import csv
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
from tiny import save_tiny, tiny_zoo
from typer.testing import CliRunner

from clara.apps.classifier import Classifier
from clara.apps.event_files import write_events
from clara.apps.search import Index
from clara.apps.synth import clips
from clara.audio.windows import plan
from clara.cli import app
from clara.errors import ClaraError
from clara.zoo.embedder import Embedder
from clara.zoo.events import Event, FindConfig, Timeline
from clara.zoo.loading import load

RATE = 16000


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return tiny_zoo(tmp_path_factory.mktemp("find"))  # hears two seconds at once


def noise(seconds: float) -> tuple[np.ndarray, int]:
    return np.random.default_rng(0).standard_normal(round(seconds * RATE)).astype(np.float32) * 0.1, RATE


def line(score_N: list[float], hop: float = 1.0, **config: Any) -> Timeline:
    return Timeline(("a",), np.arange(len(score_N) + 1) * hop, np.array([score_N]), FindConfig(**config))


def test_windows_overlap_and_hold_what_the_source_holds(zoo: Embedder) -> None:
    wave, _ = noise(5.3)
    times_W2, audio_WD = zoo.embed_windows((wave, RATE), window=2.0, hop=0.5)
    assert times_W2[:, 0].tolist() == pytest.approx([0.5 * i for i in range(8)])
    assert times_W2[-1].tolist() == pytest.approx([3.5, 5.3])  # longer than a second: judged as it is
    for i in (0, 3, 7):
        start, end = (round(t * RATE) for t in times_W2[i].tolist())
        torch.testing.assert_close(zoo.embed_audio((wave[start:end], RATE))[0], audio_WD[i], atol=1e-5, rtol=0)
    times_W2, audio_WD = zoo.embed_windows((wave, RATE), window=0.5, hop=0.4)  # a short tail reaches back
    assert times_W2[-1].tolist() == pytest.approx([4.8, 5.3], abs=1e-4)
    torch.testing.assert_close(zoo.embed_audio((wave[-8000:], RATE))[0], audio_WD[-1], atol=1e-5, rtol=0)


def test_the_embedders_own_windows_hold_unless_a_call_says_otherwise(tmp_path: Path, zoo: Embedder) -> None:
    save_tiny(tmp_path)
    own, clip = load(f"dir:{tmp_path}", "cpu", window=1.0, hop=0.5), noise(3.0)
    assert len(own.embed_windows(clip)[0]) == 5
    assert len(own.embed_windows(clip, window=1.5)[0]) == 2
    asked = zoo.embed_audio(clip, window=1.0, hop=0.5)
    torch.testing.assert_close(own.embed_audio(clip), asked)
    assert not torch.allclose(asked, zoo.embed_audio(clip), atol=1e-4)
    assert len(Classifier(own, ["rain", "dog"]).windows(clip)) == 5
    assert len(Classifier(zoo, ["rain", "dog"]).windows(clip, window=1.0)) == 3


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"window": 2.5}, r"window=2.5: expected 0.1 to 2 seconds"),
        ({"window": 0.0}, "window=0: expected"),
        ({"window": 1.0, "hop": 1.5}, "hop=1.5: expected 0.01 to 1 seconds"),
        ({"hop": 0.0}, "hop=0: expected"),
        ({"window": float("nan")}, "window=nan: expected seconds"),
        ({"window": "wide"}, "window='wide': expected seconds"),
        ({"hop": 1.0, "long": "first"}, "long='first' takes one piece"),
    ],
)
def test_windows_that_cannot_be_are_refused(zoo: Embedder, how: dict[str, Any], message: str) -> None:
    with pytest.raises(ClaraError, match=message):
        zoo.embed_audio(noise(1.0), **how)


@pytest.mark.parametrize("seconds", [0.3, 1.0, 2.0, 4.25, 7.9])
def test_pooled_frames_cover_the_source(zoo: Embedder, seconds: float) -> None:
    times_W2, audio_WD = zoo.embed_windows(noise(seconds), window=1.0, hop=0.25, frames=True)
    starts = times_W2[:, 0]
    assert starts[0] == 0 and times_W2[-1, 1] == pytest.approx(seconds, abs=1e-3)
    assert ((starts[1:] - starts[:-1]) <= 0.25 + 1e-4).all() and (starts[1:] > starts[:-1]).all()
    torch.testing.assert_close(audio_WD.norm(dim=1), torch.ones(len(starts)))


def test_frames_of_a_whole_window_are_its_embedding(zoo: Embedder) -> None:
    clip = noise(2.0)
    pooled = zoo.embed_windows(clip, frames=True)[1]
    torch.testing.assert_close(pooled, zoo.embed_windows(clip)[1], atol=1e-5, rtol=0)
    half = zoo.embed_windows(clip, window=1.0, frames=True)[1]
    assert not torch.allclose(half[0], half[1], atol=1e-3)


def test_hysteresis_gaps_and_shortest_events() -> None:
    scores = [0.1, 0.3, 0.6, 0.3, 0.1, 0.3, 0.1, 0.1, 0.8, 0.1, 0.7]
    spans = [(e.start, e.end, e.score) for e in line(scores, threshold=0.5, gap_seconds=0.0).events()]
    assert spans == [(1, 4, 0.6), (8, 9, 0.8), (10, 11, 0.7)]  # 0.3 alone begins nothing
    joined = line(scores, threshold=0.5, gap_seconds=1.0).events()
    assert [(e.start, e.end, e.score) for e in joined] == [(1, 4, 0.6), (8, 11, 0.8)]
    long = line(scores, threshold=0.5, gap_seconds=0.0, least_seconds=2.0).events()
    assert [(e.start, e.end) for e in long] == [(1, 4)]
    assert [(e.start, e.end) for e in line(scores, low=0.5, gap_seconds=0.0).events()] == [(2, 3), (8, 9), (10, 11)]
    for wrong in ({"threshold": 0.2, "low": 0.3}, {"threshold": 1.5}, {"threshold": 0.0}, {"gap_seconds": -1.0}):
        with pytest.raises(ClaraError, match="expected"):
            FindConfig(**wrong)


def test_every_window_counts_where_it_lies(zoo: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an embedder that hears loudness, the loud second is the event, whatever the overlap."""
    wave = np.full(20 * RATE, 1e-3, np.float32)
    wave[8 * RATE : 11 * RATE] = 0.5
    loud = torch.nn.functional.one_hot(torch.tensor(0), 32).float()

    def encode_audio(wave_BT: torch.Tensor, len_B: torch.Tensor) -> torch.Tensor:
        share = (wave_BT.abs() > 0.1).float().sum(1) / len_B
        return torch.stack([loud.roll(0) * s + loud.roll(1) * (1 - s) for s in share])

    monkeypatch.setattr(zoo.model, "encode_audio", encode_audio)
    monkeypatch.setattr(zoo, "embed_text", lambda texts: torch.stack([loud.roll(int(t)) for t in texts]))
    for window, hop in ((1.0, 1.0), (1.0, 0.25), (2.0, 0.5)):
        (event,) = zoo.find((wave, RATE), "0", window, hop, config=FindConfig(against=("1",)))
        assert event.start == pytest.approx(8, abs=window / 2) and event.end == pytest.approx(11, abs=window / 2)
        assert event.score > 0.9 and event.text == "0"
    found = zoo.find((wave, RATE), ["0", "1"], 1.0, config=FindConfig(0.7, 0.6, against=("2",)))
    assert [e.text for e in found] == ["1", "0", "1"]
    constant = (np.tile(wave[8 * RATE : 10 * RATE], 20), RATE)
    assert zoo.find(constant, "0", config=FindConfig(against=("1",))) == []
    (whole,) = zoo.find(constant, "0", config=FindConfig(against=("1",), constant=True))
    assert (whole.start, whole.end) == (0, 40)


def test_an_hour_is_heard_in_bounded_memory(tmp_path: Path, zoo: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    path, block = tmp_path / "long.wav", noise(60)[0]
    with sf.SoundFile(path, "w", RATE, 1) as file:
        for _ in range(60):
            file.write(block)
    monkeypatch.setattr(
        zoo.model, "encode_audio", lambda wave_BT, len_B: torch.nn.functional.normalize(wave_BT[:, :32])
    )
    zoo.alternatives  # noqa: B018 - embedded once
    tracemalloc.start()
    try:
        found = zoo.timeline(path, "rain", window=1.0, hop=0.5)
        held = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    assert found.scores_QN.shape == (1, 7200) and found.edges_N1[-1] == 3600
    assert held < 60, f"{held:.0f} MiB; the whole recording is 220 MiB"


def test_hits_carry_the_time_of_their_window(tmp_path: Path, zoo: Embedder) -> None:
    sounds = np.concatenate([np.resize(c.wave, 2 * RATE) for c in clips()])
    sf.write(tmp_path / "all.wav", sounds, RATE, subtype="FLOAT")
    sf.write(tmp_path / "one.wav", clips()[4].wave[:RATE], RATE, subtype="FLOAT")
    index = Index.build(zoo, tmp_path)
    assert len(index) == 1 + len(clips())
    hits = index.query(zoo, audio=(sounds[6 * RATE : 8 * RATE], RATE), top=5)
    assert len(hits) == 2  # each clip once, by its best window
    assert (Path(hits[0].path).name, hits[0].start, hits[0].end) == ("all.wav", 6.0, 8.0)
    assert hits[0].score == pytest.approx(1, abs=1e-4)
    again = Index.load(index.add(index).save(tmp_path / "index"))
    assert again.query(zoo, audio=(sounds[6 * RATE : 8 * RATE], RATE)) == hits
    assert Index(index.audio_ND, index.paths, zoo.name, zoo.sha256).query(zoo, text="rain")[0].start is None


def test_files_of_events(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = {"d/my take.wav": line([0.1, 0.9, 0.1], 0.5, gap_seconds=0.0)}
    expected = {
        "e.rttm": "SPEAKER my_take 1 0.500 0.500 <NA> <NA> a 0.9000 <NA>\n",
        "e.txt": "0.500000\t1.000000\ta\n",
        "e.csv": "file,start,end,score,text\nd/my take.wav,0.5,1.0,0.9,a\n",
    }
    for name, text in expected.items():
        write_events(tmp_path / name, found)
        assert (tmp_path / name).read_text() == text
    write_events(tmp_path / "e.json", found)
    (record,) = json.loads((tmp_path / "e.json").read_text())
    assert record == {"file": "d/my take.wav", "start": 0.5, "end": 1.0, "score": 0.9, "text": "a"}
    write_events(tmp_path / "e.png", found)
    assert (tmp_path / "e.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ClaraError, match=r"\.mid"):
        write_events(tmp_path / "e.mid", found)
    with pytest.raises(ClaraError, match="labels of 2 recordings"):
        write_events(tmp_path / "e.txt", {**found, "b.wav": line([0.1])})


def test_the_verb(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny")
    for name, seconds in (("a.wav", 5.0), ("b.wav", 3.0)):
        sf.write(tmp_path / name, noise(seconds)[0], RATE)
    given = ["find", "rain", str(tmp_path / "a.wav"), str(tmp_path / "b.wav"), "-m", f"dir:{tmp_path / 'tiny'}"]
    out = tmp_path / "found.csv"
    settings = ["--also", "a dog", "--window", "1", "--hop", "0.5", "--threshold", "0.0001", "--against", "wind"]
    result = CliRunner().invoke(app, [*given, *settings, "--out", str(out)])
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(out.open(newline="")))
    assert {Path(r["file"]).name for r in rows} == {"a.wav", "b.wav"} and {r["text"] for r in rows} == {"rain", "a dog"}
    assert len(result.stdout.splitlines()) == len(rows)
    result = CliRunner().invoke(app, [*given, "--threshold", "1", "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout) == []
    result = CliRunner().invoke(app, [*given, "--out", str(tmp_path / "labels.txt")])
    assert result.exit_code == 2 and "labels of 2 recordings" in result.output
    result = CliRunner().invoke(app, [*given, "--window", "7"])
    assert result.exit_code == 2 and "window=7" in result.output
    npz = tmp_path / "e.npz"
    embed = ["embed", str(tmp_path / "a.wav"), "-o", str(npz), "--windows", "--window", "1", *given[-2:]]
    assert CliRunner().invoke(app, embed).exit_code == 0
    saved = np.load(npz)
    assert saved["audio"].shape == (5, 32) and saved["times"][1].tolist() == [1, 2] and len(saved["paths"]) == 5


def test_an_event_is_plain() -> None:
    assert Event(0.0, 1.0, 0.5, "a") == Event(0.0, 1.0, 0.5, "a") and plan(None, None, 10.0).hop == 10.0
