"""A table of twenty clips and one call."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile as sf
import torch
from tones import tone, tone_config, write_tones

import clara
from clara.data.clip_tables import read_rows
from clara.data.manifest import Row
from clara.errors import ClaraError
from clara.train.finetune import finetune
from clara.train.held_out import Judge, hold_out
from clara.train.trainer import run

NEW = {"a mouse squeaks": 3000, "a cow": 250}
QUICK = ("data.workers=0", "threads=1", "device=cpu", "precision=fp32", "data.augment=null", "optim.lr=0.003")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny checkpoint that knows the four tones of `tones`."""
    root = tmp_path_factory.mktemp("base")
    return f"dir:{run(tone_config(write_tones(root / 'tones-0.tar'), root / 'out'))}"


def write_table(folder: Path, texts: dict[str, float], clips: int) -> Path:
    lines = ["audio,text,split"]
    for i in range(clips):
        text, frequency = list(texts.items())[i % len(texts)]
        sf.write(folder / f"{i}.wav", tone(frequency * (1 + 0.005 * i)), 16000)
        lines.append(f"{i}.wav,{text},{'train' if i < 20 else 'test'}")
    path = folder / "my clips.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_twenty_clips_suffice_and_the_same_call_goes_on(base: str, tmp_path: Path) -> None:
    table = write_table(tmp_path, NEW, 24)
    folder = finetune(table, base, tmp_path / "out", QUICK, parts="all")
    zoo = clara.load(f"dir:{folder}")
    clips = [tmp_path / f"{i}.wav" for i in range(20, 24)]  # never trained on
    best = (zoo.embed_audio(clips) @ zoo.embed_text(list(NEW)).T).argmax(1)
    assert best.tolist() == [0, 1, 0, 1]
    finetune(table, base, tmp_path / "out", (*QUICK, "steps=61"), parts="all")
    assert (tmp_path / "out" / "step-61").is_dir()


def test_the_best_state_is_kept_and_told(base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Clips of split test judge, and what is exported is the state that they prefer."""
    table = write_table(tmp_path, NEW, 24)
    finetune(table, base, tmp_path / "out", QUICK, parts="all")
    told = capsys.readouterr().out
    assert told.startswith("about ") and "before training: held-out accuracy" in told
    steps = re.findall(r"step (\d+): held-out accuracy 1.000 \[0.510, 1.000\] on 4 clips, among 2 texts", told)
    assert steps and int(steps[-1]) == 60
    best = json.loads((tmp_path / "out" / "held_out.json").read_text())
    card = (tmp_path / "out" / "checkpoint" / "README.md").read_text()
    assert best["accuracy"] == 1.0 and f"After {best['step']} of 60 steps" in card


def test_a_worse_state_is_not_kept(tmp_path: Path) -> None:
    rows = [Row("a.wav", "c", split="valid", text=("x",)), Row("b.wav", "c", split="valid", text=("y",))]
    for row, hz in zip(rows, (300, 3000)):
        sf.write(tmp_path / row.audio, tone(hz), 16000)
    rows = [replace(row, audio=str(tmp_path / row.audio)) for row in rows]
    judge = Judge(rows, clara.get_tokenizer("test-conv"), tmp_path, 16000, None)
    scores = iter([(0.5, 0.6), (1.0, 0.9), (1.0, 1.0), (1.0, 0.8), (0.5, 0.1)])
    judge.score = lambda model: next(scores)
    assert [judge(None, step) for step in range(5)] == [True, True, False, True, False]
    assert json.loads((tmp_path / "held_out.json").read_text())["step"] == 3


def test_whole_speakers_are_held_out_and_no_text_is_lost() -> None:
    rows = [Row(f"{i}.wav", "c", text=(f"t{i % 4}",), speaker=f"s{i // 4}") for i in range(60)]
    found = hold_out(rows)
    held = {r.speaker for r in found if r.split == "valid"}
    assert held and not held & {r.speaker for r in found if r.split == "train"}
    found = hold_out([replace(r, speaker=None) for r in rows] + [Row("x.wav", "c", text=("once",))])
    taught = {r.text for r in found if r.split == "train"}
    assert sum(r.split == "valid" for r in found) == 9 and len(taught) == 5
    assert hold_out(rows[:9]) == rows[:9]
    assert hold_out([*rows, Row("y.wav", "c", split="test", text=("t0",))])[:60] == rows


def test_heads_alone_are_trained_on_request(base: str, tmp_path: Path) -> None:
    table = write_table(tmp_path, NEW, 6)
    quick = (*QUICK, "steps=2", "data.batch_size=2")
    before = clara.create_model(base).state_dict()
    for parts, moved in (("heads", False), ("all", True)):
        folder = finetune(table, base, tmp_path / parts, [*quick], parts=parts)
        after = clara.create_model(f"dir:{folder}").state_dict()
        differs = {n.split(".")[0] for n in after if not torch.equal(after[n], before[n])}
        assert ("audio" in differs) == moved and ("text" in differs) == moved and "audio_head" in differs
    with pytest.raises(ClaraError, match=r"Unknown part to train .head.\. Did you mean"):
        finetune(table, base, tmp_path / "x", parts="head")


def test_several_captions_of_one_clip_and_labels_by_task(tmp_path: Path) -> None:
    for name in "abc":
        sf.write(tmp_path / f"{name}.wav", tone(300), 16000)
    table = tmp_path / "t.csv"
    table.write_text("audio,text,emotion,label,task\na.wav,one,,,\na.wav,two,,,\nb.wav,,anger,,\nc.wav,,,blue_whale,\n")
    rows = read_rows(table)
    assert [r.text for r in rows] == [("one", "two"), (), ("blue whale",)]
    assert rows[1].emotion == "anger"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,text\na.wav,x\n", "no column audio"),
        ("audio,text\na.wav,\n", r"t.csv:2: no 'text'"),
        ("audio, text\na.wav,x\n", r"columns 'audio', ' text'"),
        ("audio,text\na.wav,a dog, barking\n", r"t.csv:2: expected 2 cells.* needs quotes"),
        ("audio,text\na.wav,x\nb.wav,y\n", r"1 of 2 files are missing: .*b\.wav"),
        ("audio,emotion\na.wav,angr\n", r"t\.csv:2.*Did you mean 'anger'"),
        ("audio,text,split\na.wav,x,dev\n", "Unknown split"),
        ("audio,text\na.wav,x\n", "1 clips of split 'train'"),
    ],
)
def test_a_mistake_in_the_table_is_named(tmp_path: Path, table: str, message: str) -> None:
    sf.write(tmp_path / "a.wav", tone(300), 16000)
    (tmp_path / "t.csv").write_text(table)
    with pytest.raises(ClaraError, match=message):
        finetune(tmp_path / "t.csv", "test-conv", tmp_path / "out")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("steps=0", "steps=0"),
        ("data.batch_size=1", "data.batch_size=1: expected at least 2"),
        ("optim.lr=-1", "optim.lr=-1.0"),
        ("optim.warmup_steps=-1", "optim.warmup_steps=-1"),
        ("seed=-1", "seed=-1"),
    ],
)
def test_a_mistake_in_the_settings_comes_before_the_clips_are_packed(
    base: str, tmp_path: Path, setting: str, message: str
) -> None:
    table = write_table(tmp_path, NEW, 4)
    with pytest.raises(ClaraError, match=message):
        finetune(table, base, tmp_path / "out", [*QUICK, setting])
    with pytest.raises(ClaraError, match=r"architecture and has no weights"):
        finetune(table, "test-conv", tmp_path / "out", QUICK)
    assert not (tmp_path / "out").exists()


def test_broken_clips_are_left_out_where_that_is_wanted(base: str, tmp_path: Path) -> None:
    table = write_table(tmp_path, NEW, 6)
    (tmp_path / "2.wav").write_text("no audio")
    quick = (*QUICK, "steps=1", "data.batch_size=2")
    with pytest.raises(ClaraError, match=r"2\.wav cannot be decoded"):
        finetune(table, base, tmp_path / "out", quick)
    told: list[str] = []
    assert (finetune(table, base, tmp_path / "out", quick, told.append) / "model.safetensors").is_file()
    assert len(told) == 1 and "2.wav" in told[0]


def test_a_table_that_was_mended_is_not_answered_with_the_old_model(base: str, tmp_path: Path) -> None:
    table = write_table(tmp_path, NEW, 24)
    quick = (*QUICK, "steps=1", "data.batch_size=2")
    folder = finetune(table, base, tmp_path / "out", quick)
    shutil.rmtree(tmp_path / "out" / "shards")  # as one does who is told that they hold other rows
    assert finetune(table, base, tmp_path / "out", quick) == folder
    table.write_text(table.read_text().replace("a cow", "a calf"))
    for _ in range(2):
        with pytest.raises(ClaraError, match=r"was trained on other rows than .* choose another --out"):
            finetune(table, base, tmp_path / "out", quick)
        shutil.rmtree(tmp_path / "out" / "shards", ignore_errors=True)
