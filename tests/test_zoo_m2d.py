"""M2D-CLAP: its small models, converted, give what its own portable runtime gave (golden/make_m2d.py)."""

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
from golden.make_m2d import FILE, FOLDERS, RATE, SECONDS, TEXT
from safetensors.torch import load_file, save_file
from torch import Tensor
from vocabularies import save_bert

from clara.audio.features import pad_waves
from clara.config import Spec
from clara.errors import ClaraError
from clara.towers.base import AUDIO_TOWERS
from clara.zoo.factory import Loaded, convert_checkpoint, load_foreign
from clara.zoo.loading import load

GOLDEN = Path(__file__).parent / "golden"
CLOSE = {"rtol": 0.0, "atol": 2e-5}
VERSIONS = pytest.mark.parametrize("version", FOLDERS)
BERT = "text_encoder.text_encoder."


def state_of(version: str) -> dict[str, Tensor]:
    stored = load_file(GOLDEN / f"m2d-{version}.safetensors")
    return {k.removeprefix("weights."): v.float() for k, v in stored.items() if k.startswith("weights.")}


@pytest.fixture
def peer_file(tmp_path: Path) -> Callable[..., tuple[Path, str, str]]:
    """peer_file(version, change=…, name=…) -> (its file in its folder, 'm2d', the text encoder's folder)."""

    def write(
        version: str, change: Callable[[dict[str, Tensor]], Any] = lambda state: None, name: str = ""
    ) -> tuple[Path, str, str]:
        folder = tmp_path / (name or FOLDERS[version])
        folder.mkdir()
        state = state_of(version)
        change(state)
        torch.save({"model": state, "epoch": 30}, folder / FILE)
        text = save_bert(tmp_path / "text")
        (text / "config.json").write_text(json.dumps({"model_type": "bert", **TEXT}))
        bert = {k.removeprefix(BERT): v for k, v in state_of("2025").items() if k.startswith(BERT)}
        save_file(bert, text / "model.safetensors", {"format": "pt"})
        return folder / FILE, "m2d", str(text)

    return write


@torch.no_grad()
def check_parity(loaded: Loaded, given: dict[str, Tensor]) -> None:
    model, waves = loaded.model, [torch.from_numpy(clip(s, RATE, i)) for i, s in enumerate(SECONDS)]
    alone_BD = torch.cat([model.encode_audio(w[None], normalized=False) for w in waves])
    torch.testing.assert_close(alone_BD, given["audio"], **CLOSE)
    torch.testing.assert_close(model.encode_audio(*pad_waves(waves), normalized=False), given["audio"], **CLOSE)
    text_BD = model.encode_text(*loaded.tokenizer(TEXTS), normalized=False)
    torch.testing.assert_close(text_BD, given["text"], **CLOSE)
    if "mel" in given:
        x_BNF, _ = model.front_end(waves[1][None], torch.tensor([len(waves[1])]))
        torch.testing.assert_close(x_BNF[0].T, given["mel"], rtol=0.0, atol=2e-4)


@VERSIONS
def test_its_vectors(version: str, peer_file: Callable) -> None:
    given = load_file(GOLDEN / f"m2d-{version}.safetensors")
    assert given["audio"].std(0).mean() > 0.05
    assert given["text"].std(0).mean() > 0.005
    check_parity(load_foreign(*peer_file(version)), given)


@VERSIONS
def test_a_converted_folder(version: str, peer_file: Callable, tmp_path: Path) -> None:
    path, family, text = peer_file(version)
    folder = convert_checkpoint(path, tmp_path / "ours", family, text)
    zoo, given = load(f"dir:{folder}", "cpu"), load_file(GOLDEN / f"m2d-{version}.safetensors")
    unit = torch.nn.functional.normalize
    audio_BD = zoo.embed_audio([(clip(s, RATE, i), RATE) for i, s in enumerate(SECONDS)])
    torch.testing.assert_close(audio_BD, unit(given["audio"], dim=1), **CLOSE)
    torch.testing.assert_close(zoo.embed_text(TEXTS), unit(given["text"], dim=1), **CLOSE)
    assert "not to be passed on" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("version", "change", "message"),
    [
        ("2024", lambda s: s.pop("norm.bias"), r"missing audio\.encoder\.norm\.bias"),
        ("2024", lambda s: s.pop("cls_token"), r"lacks what becomes audio\.token"),
        ("2024", lambda s: s.pop("norm_stats"), "lacks norm_stats"),
        ("2024", lambda s: s.update({"head.weight": torch.ones(2, 3)}), r"unknown head\.weight \(2, 3\)"),
        ("2024", lambda s: s.update({"pos_embed": torch.ones(1, 3, 48)}), r"\(1, 3, 48\), expected \(1, 21, 48\)"),
        ("2024", lambda s: s.update(args={"lr": 1}), "holds other things than tensors"),
        ("2025", lambda s: s.pop(f"{BERT}embeddings.LayerNorm.weight"), r"missing text\..*LayerNorm\.weight"),
        (
            "2025",
            lambda s: s.update({f"{BERT}embeddings.word_embeddings.weight": torch.ones(90, 48)}),
            "the text encoder has 90 tokens, the tokenizer 88",
        ),
    ],
)
def test_wrong_files_are_refused(
    version: str, change: Callable[[dict[str, Any]], Any], message: str, peer_file: Callable
) -> None:
    with pytest.raises(ClaraError, match=message):
        load_foreign(*peer_file(version, change))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("weights", "'weights' is not a folder name of M2D"),
        ("m2d_clap_vit_base-80x64p16x16p24k", "rate '24k'"),
        ("m2d_clap_vit_base-80x64p16x16p16kpN", "text encoder 'N'"),
        ("m2d_clap_vit_base-80x64p16x16p16kpBpXY-1", "extra 'XY'"),
    ],
)
def test_the_folders_name_must_say_what_it_is(name: str, message: str, peer_file: Callable) -> None:
    with pytest.raises(ClaraError, match=message):
        load_foreign(*peer_file("2024", name=name))


def test_the_tower_says_what_it_cannot_take() -> None:
    with pytest.raises(ClaraError, match="31 bins, the m2d tower was built for 32"):
        AUDIO_TOWERS.create(Spec("m2d", {"bins": 32, "width": 16, "layers": 1, "heads": 1}))(
            torch.ones(1, 9, 31), torch.ones(1, 9, dtype=torch.bool)
        )
    with pytest.raises(ClaraError, match="on 81 bins and 608 frames do not fit"):
        AUDIO_TOWERS.create(Spec("m2d", {"bins": 81}))


@pytest.mark.peers
def test_the_peers_own_code_and_files(tmp_path: Path) -> None:
    """CLARA_PEERS: a folder with a checkout of nttcslab/m2d as 'm2d'."""
    if "CLARA_PEERS" not in os.environ:
        pytest.skip("CLARA_PEERS is not set")
    peer = Path(os.environ["CLARA_PEERS"]) / "m2d"
    subprocess.run([sys.executable, GOLDEN / "make_m2d.py", peer, tmp_path], check=True)
    for version, folder in FOLDERS.items():
        given = load_file(tmp_path / f"m2d-{version}.safetensors")
        check_parity(load_foreign(tmp_path / folder / FILE, "m2d", str(tmp_path / "text")), given)
