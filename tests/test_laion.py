"""LAION-CLAP: its own small models, converted, give what its own wrapper gave (`golden/make_laion.py`)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from claps import save_roberta
from golden.clips import TEXTS, clip
from goldens import read_golden
from torch import Tensor

from clara.audio.clap_mel import ClapMelConfig
from clara.audio.features import pad_waves
from clara.errors import ClaraError
from clara.zoo.convert import read_foreign
from clara.zoo.factory import convert_checkpoint
from clara.zoo.loading import load

GOLDEN = Path(__file__).parent / "golden"
SECONDS = {"unfused": (0.4, 3.1, 10.0), "fused": (0.4, 10.0, 10.005, 17.3)}


def golden_of(which: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return read_golden(f"laion-{which}", ClapMelConfig())


@pytest.fixture
def peer_file(tmp_path: Path) -> Callable[..., tuple[Path, str]]:
    """peer_file(which, change=…) -> (its file, its tokenizer's folder); `change` edits the state."""

    def write(which: str, change: Callable[[dict], Any] = lambda state: None) -> tuple[Path, str]:
        state, _ = golden_of(which)
        change(state)
        path = tmp_path / "630k-best.pt"
        training = {"epoch": 3, "state_dict": state, "best": np.float64(0.5)}
        torch.save(training, path, pickle_protocol=4, _use_new_zipfile_serialization=False)
        return path, str(save_roberta(tmp_path / "roberta"))

    return write


@pytest.mark.parametrize("which", ["unfused", "fused"])
def test_its_vectors(which: str, peer_file: Callable, tmp_path: Path) -> None:
    path, tokenizer = peer_file(which)
    convert_checkpoint(path, tmp_path / "ours", "laion", tokenizer)
    zoo = load(f"dir:{tmp_path / 'ours'}", "cpu")
    _, golden = golden_of(which)
    waves = [torch.from_numpy(clip(s, 48000, i)) for i, s in enumerate(SECONDS[which])]
    with torch.no_grad():
        audio_BD = zoo.model.encode_audio(*pad_waves(waves))
    for ours, theirs in ((audio_BD, golden["audio"]), (zoo.embed_text(list(TEXTS)), golden["text"])):
        assert float((ours * theirs).sum(1).min()) >= 0.99999
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    long = "fusion" if which == "fused" else "windows"
    pairs = [(wave.numpy(), 48000) for wave in waves]
    torch.testing.assert_close(zoo.embed_audio(pairs[:3], long=long), audio_BD[:3], rtol=0, atol=1e-5)
    assert zoo.config.front_end.options["int16"] is True


def test_what_the_file_says_is_built(peer_file: Callable) -> None:
    fused = read_foreign(peer_file("fused")[0], "laion", peer_file("fused")[1]).config
    assert (fused.audio.options["fusion"], fused.front_end.options["bank"]) == (True, "htk")
    unfused = read_foreign(peer_file("unfused")[0], "laion", peer_file("unfused")[1]).config
    assert (unfused.audio.options["depths"], unfused.front_end.options["bank"]) == ([2, 1], "slaney")
    assert unfused.text.options["pooling"] == "pooler" and unfused.embed_dim == 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("module.audio_branch.norm.weight"), r"missing audio\.norm\.weight"),
        (lambda s: s.update({"module.audio_branch.wings": torch.ones(2)}), r"unknown audio_branch\.wings \(2,\)"),
        (
            lambda s: s.update({"module.audio_branch.logmel_extractor.melW": torch.ones(513, 64)}),
            "not a bank of slaney",
        ),
        (lambda s: s.pop("module.audio_branch.patch_embed.proj.weight"), "lacks what becomes audio.patch_embed.proj"),
    ],
)
def test_another_file_is_refused(change: Callable, message: str, peer_file: Callable, tmp_path: Path) -> None:
    path, tokenizer = peer_file("unfused", change)
    with pytest.raises(ClaraError, match=message):
        convert_checkpoint(path, tmp_path / "ours", "laion", tokenizer)


@pytest.mark.peers
@pytest.mark.parametrize("which", ["unfused", "fused"])
def test_its_own_code_at_full_size(which: str, tmp_path: Path) -> None:
    """laion_clap itself with HTSAT-tiny, in a process of its own, since it changes what it imports."""
    pytest.importorskip("laion_clap")
    code = f"""
import sys, torch
sys.path[:0] = [{str(GOLDEN)!r}]
import make_laion
from pathlib import Path
folder, fused = Path({str(tmp_path)!r}), {which == "fused"}
make_laion.fix_draws()
make_laion.save_roberta(folder / "roberta")
clap, weights = make_laion.peer(folder, fused, "HTSAT-tiny")
torch.save(make_laion.vectors(clap, fused), folder / "theirs.pt")
weights.rename(folder / "weights.pt")
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    convert_checkpoint(tmp_path / "weights.pt", tmp_path / "ours", "laion", str(tmp_path / "roberta"))
    zoo, theirs = load(f"dir:{tmp_path / 'ours'}", "cpu"), torch.load(tmp_path / "theirs.pt")
    waves = [(clip(s, 48000, i), 48000) for i, s in enumerate(SECONDS[which])]
    ours = zoo.embed_audio(waves, long="fusion" if which == "fused" else "windows")
    for mine, their in ((ours, theirs["audio"]), (zoo.embed_text(list(TEXTS)), theirs["text"])):
        assert float((mine * their).sum(1).min()) >= 0.99999
        torch.testing.assert_close(mine, their, rtol=0, atol=1e-4)
