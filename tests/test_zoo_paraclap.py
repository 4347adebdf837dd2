"""ParaCLAP: its own small model, converted, gives what its own code gave (golden/make_paraclap.py)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from golden.clips import TEXTS, clip
from golden.make_paraclap import RATE, SECONDS
from safetensors.torch import load_file
from torch import Tensor
from vocabularies import save_bert

from clara.audio.features import pad_waves
from clara.errors import ClaraError
from clara.zoo.factory import Loaded, convert_checkpoint, load_foreign
from clara.zoo.loading import load

GOLDEN = Path(__file__).parent / "golden/paraclap.safetensors"
CLOSE = {"rtol": 0.0, "atol": 1e-5}
CONV = "audio_branch.base.encoder.pos_conv_embed.conv."
NEWER = {f"{CONV}parametrizations.weight.original{i}": f"{CONV}weight_{c}" for i, c in enumerate("gv")}


@pytest.fixture
def peer_file(tmp_path: Path) -> Callable[..., tuple[Path, str]]:
    """peer_file(change=…) -> (its file, the folder of its tokenizer); `change` edits the tensors."""

    def write(change: Callable[[dict[str, Tensor]], Any] = lambda state: None) -> tuple[Path, str]:
        stored = load_file(GOLDEN)
        state = {k.removeprefix("weights."): v.float() for k, v in stored.items() if k.startswith("weights.")}
        change(state)
        torch.save(state, tmp_path / "best.pth.tar")
        text = save_bert(tmp_path / "bert")
        (text / "config.json").write_text(json.dumps({"model_type": "bert"}))
        return tmp_path / "best.pth.tar", str(text)

    return write


@torch.no_grad()
def check_parity(loaded: Loaded, given: dict[str, Tensor]) -> None:
    model, waves = loaded.model, [torch.from_numpy(clip(s, RATE, i)) for i, s in enumerate(SECONDS)]
    alone_BD = torch.cat([model.encode_audio(w[None], normalized=False) for w in waves])
    text_BD = model.encode_text(*loaded.tokenizer(TEXTS), normalized=False)
    torch.testing.assert_close(alone_BD, given["audio"], **CLOSE)
    torch.testing.assert_close(text_BD, given["text"], **CLOSE)
    audio_BD, text_BD = model.encode_audio(*pad_waves(waves)), model.encode_text(*loaded.tokenizer(TEXTS))
    torch.testing.assert_close(model.scale * audio_BD @ text_BD.T, given["similarity"], rtol=0.0, atol=1e-4)


def test_its_vectors_and_similarities(peer_file: Callable) -> None:
    given = load_file(GOLDEN)
    assert min(given["audio"].std(0).mean(), given["text"].std(0).mean()) > 0.02
    check_parity(load_foreign(*_family(peer_file())), given)


def test_the_older_names_of_weight_norm(peer_file: Callable) -> None:
    def older(state: dict[str, Tensor]) -> None:
        for new, old in NEWER.items():
            state[old] = state.pop(new)

    check_parity(load_foreign(*_family(peer_file(older))), load_file(GOLDEN))


def test_a_converted_folder(peer_file: Callable, tmp_path: Path) -> None:
    path, text = peer_file()
    folder = convert_checkpoint(path, tmp_path / "ours", "paraclap", text)
    zoo, given = load(f"dir:{folder}", device="cpu"), load_file(GOLDEN)
    unit = torch.nn.functional.normalize
    audio_BD = zoo.embed_audio([(clip(s, RATE, i), RATE) for i, s in enumerate(SECONDS)])
    torch.testing.assert_close(audio_BD, unit(given["audio"], dim=1), **CLOSE)
    torch.testing.assert_close(zoo.embed_text(TEXTS), unit(given["text"], dim=1), **CLOSE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("audio_projection.layer_norm.bias"), r"missing audio_head\.layer_norm\.bias"),
        (lambda s: s.pop("audio_projection.linear1.weight"), r"lacks what becomes audio_head\.linear1\.weight"),
        (lambda s: s.pop(next(iter(NEWER))), r"missing audio\..*original0"),
        (lambda s: s.update({"classifier.weight": torch.ones(2, 3)}), r"unknown classifier\.weight \(2, 3\)"),
        (
            lambda s: s.update({"audio_branch.base.adapter.weight": torch.ones(2)}),
            r"unknown audio_branch.*adapter",
        ),
        (
            lambda s: s.update({"audio_projection.linear2.weight": torch.ones(2, 3)}),
            r"\(2, 3\), expected \(16, 16\)",
        ),
        (lambda s: s.update(epoch=3), "other things than tensors: .'epoch'"),
        (
            lambda s: s.update({"text_branch.base.embeddings.word_embeddings.weight": torch.ones(90, 64)}),
            "has 90 tokens, the tokenizer 88",
        ),
        (
            lambda s: [s.pop(k) for k in list(s) if ".conv_layers.6." in k],
            "6 convolutions over samples, wav2vec 2.0 has 7",
        ),
    ],
)
def test_wrong_files_are_refused(change: Callable[[dict[str, Any]], Any], message: str, peer_file: Callable) -> None:
    with pytest.raises(ClaraError, match=message):
        load_foreign(*_family(peer_file(change)))


def _family(files: tuple[Path, str]) -> tuple[Path, str, str]:
    return files[0], "paraclap", files[1]


@pytest.mark.peers
def test_the_peers_own_code_and_file(tmp_path: Path) -> None:
    """CLARA_PEERS: a folder with a checkout of KeiKinn/ParaCLAP as 'ParaCLAP'."""
    if "CLARA_PEERS" not in os.environ:
        pytest.skip("CLARA_PEERS is not set")
    peer = Path(os.environ["CLARA_PEERS"]) / "ParaCLAP"
    subprocess.run([sys.executable, GOLDEN.parent / "make_paraclap.py", peer, tmp_path], check=True)
    given = load_file(tmp_path / "paraclap.safetensors")
    check_parity(load_foreign(tmp_path / "best.pth.tar", "paraclap", str(tmp_path / "bert")), given)
