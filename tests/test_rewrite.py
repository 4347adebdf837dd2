"""Keywords -> captions by a text-to-text model: the whole path, on a tiny T5 with random weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import soundfile as sf
import torch
from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer
from typer.testing import CliRunner

from clara.cli import app
from clara.data import rewrite
from clara.data.manifest import Row, read_manifest, write_manifest
from clara.data.rewrite import RewriteConfig, Writer, keywords
from clara.data.samples import read_shard, verify_shards
from clara.data.shards import ShardConfig, write_shards
from clara.errors import ClaraError


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A T5 of two layers that has learnt nothing, with a vocabulary of its own."""
    folder = tmp_path_factory.mktemp("t5")
    text = folder / "text.txt"
    text.write_text("anger woman Polish dog barking rain falls a man says hello with joy and sorrow\n" * 50)
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / "spiece"), vocab_size=60, hard_vocab_limit=False,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    tokenizer = T5Tokenizer.from_pretrained(str(folder), extra_ids=0)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    sf.write(tmp_path / "a.wav", np.zeros(1600), 16000)
    rows = [
        Row(f"{tmp_path}/a.wav", "c", emotion="anger", gender="female", language="pl", text_augmented=("old",)),
        Row(f"{tmp_path}/a.wav".replace("a.wav", "b.wav"), "c", text=("rain falls",)),
        Row(f"{tmp_path}/a.wav".replace("a.wav", "c.wav"), "c"),
    ]
    for name in "bc":
        sf.write(tmp_path / f"{name}.wav", np.zeros(1600), 16000)
    write_manifest(tmp_path / "rows.jsonl", rows)
    return tmp_path / "rows.jsonl"


def test_keywords_are_the_labels_else_the_captions(source: Path) -> None:
    assert [keywords(r) for r in read_manifest(source)] == [["anger", "Polish", "woman"], ["rain falls"], []]
    assert keywords(Row("x", "c", language="lt", task="word", label="į_apačią")) == ["Lithuanian", "į apačią"]


def test_a_manifest_gets_what_the_model_writes(source: Path, t5: str) -> None:
    out = source.with_name("new.jsonl")
    arguments = ["captions", "rewrite", str(source), str(out), "--model", t5, "--captions", "2", "--longest", "8"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    expected = Writer(RewriteConfig(t5, captions=2, longest=8))([["anger", "Polish", "woman"], ["rain falls"]])
    before, rows = list(read_manifest(source)), list(read_manifest(out))
    assert expected[0] and [list(r.text_augmented) for r in rows] == [["old", *expected[0]], expected[1], []]
    assert [
        dataclasses.replace(r, text_augmented=b.text_augmented) for r, b in zip(rows, before, strict=True)
    ] == before


def test_a_batch_gives_what_each_clip_gives_alone(t5: str) -> None:
    writer = Writer(RewriteConfig(t5, longest=8))
    words = [["anger"], ["dog barking", "rain", "woman", "Polish"]]
    assert writer(words) == [writer([w])[0] for w in words]


def test_shards_and_interruptions(source: Path, t5: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shards(read_manifest(source), tmp_path / "shards", ShardConfig())
    config, asked = RewriteConfig(t5, longest=8, batch_size=1), []

    def breaks(self: Writer, batch: list) -> list[list[str]]:
        asked.extend(batch)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return [["made up"] for _ in batch]

    monkeypatch.setattr(rewrite.Writer, "__call__", breaks)
    with pytest.raises(KeyboardInterrupt):
        rewrite.rewrite(tmp_path / "shards", tmp_path / "out", config)
    assert rewrite.rewrite(tmp_path / "shards", tmp_path / "out", config) == {"clips": 2, "captions": 2}
    assert asked == [["anger", "Polish", "woman"], ["rain falls"], ["rain falls"]]
    assert verify_shards(tmp_path / "out") == []
    texts = [s.row.text_augmented for p in (tmp_path / "out").glob("*.tar") for s in read_shard(p)]
    assert texts == [("old", "made up"), ("made up",), ()]


def test_mistakes_are_told(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ClaraError, match="keywords"):
        RewriteConfig("x", prompt="write a caption")
    with pytest.raises(ClaraError, match="not a text-to-text model"):
        Writer(RewriteConfig(str(tmp_path / "nothing")))
    write_manifest(tmp_path / "bare.jsonl", [Row("c.wav", "c")])
    with pytest.raises(ClaraError, match="no clip has labels"):
        rewrite.rewrite(tmp_path / "bare.jsonl", tmp_path / "o.jsonl", RewriteConfig("x"))
