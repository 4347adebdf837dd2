"""The CLAP score of clips and prompts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile as sf
import torch
from tiny import save_tiny
from tones import tone
from torch.nn.functional import normalize
from typer.testing import CliRunner

from clara import cli, load
from clara.apps.pairs import score_embeddings
from clara.errors import ClaraError


def test_score_is_the_mean_cosine_and_others_are_those_of_other_texts() -> None:
    rng = torch.Generator().manual_seed(0)
    audio, text = (normalize(torch.randn(6, 8, generator=rng), dim=-1) for _ in range(2))
    text[5] = text[0]
    found = score_embeddings(audio, text, ["a", "b", "c", "d", "e", "a"])
    cosine = audio @ text.T
    assert found.scores == pytest.approx(cosine.diagonal().tolist(), abs=1e-6)
    assert found.score == pytest.approx(float(cosine.diagonal().mean()), abs=1e-6)
    assert found.interval[0] < found.score < found.interval[1]
    strange = [float(cosine[i, j]) for i in range(6) for j in range(6) if i != j and {i, j} != {0, 5}]
    assert found.shuffled == pytest.approx(sum(strange) / len(strange), abs=1e-6)
    assert score_embeddings(audio, text, ["a"] * 6).shuffled is None
    with pytest.raises(ClaraError, match="Got 6 clips and 5 texts"):
        score_embeddings(audio, text[:5], ["a"] * 5)


def test_the_verb_reads_a_table(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "tiny")
    for name, hz in (("a", 300), ("b", 3000)):
        sf.write(tmp_path / f"{name}.wav", tone(hz), 16000)
    (tmp_path / "p.csv").write_text('audio,text\na.wav,"low, deep"\nb.wav,high\n')
    run = CliRunner().invoke(cli.app, ["score", str(tmp_path / "p.csv"), "-m", f"dir:{folder}", "--json"])
    told = json.loads(run.output)
    zoo = load(f"dir:{folder}")
    audio, text = zoo.embed_audio([tmp_path / "a.wav", tmp_path / "b.wav"]), zoo.embed_text(["low, deep", "high"])
    assert told["score"] == pytest.approx(float((audio * text).sum(1).mean()), abs=1e-4)
    assert [e["text"] for e in told["each"]] == ["low, deep", "high"] and told["sha256"] == zoo.sha256
    (tmp_path / "p.csv").write_text("audio,prompt\na.wav,x\n")
    run = CliRunner().invoke(cli.app, ["score", str(tmp_path / "p.csv"), "-m", f"dir:{folder}"])
    assert run.exit_code == 2 and "no column text" in run.output
