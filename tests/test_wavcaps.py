"""WavCaps: its own small models, converted, give what its own code gave (`golden/make_wavcaps.py`)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from golden.clips import TEXTS, clip
from goldens import read_golden
from torch import Tensor
from torch.nn.functional import normalize
from vocabularies import save_bert

from clara.audio.clap_mel import ClapMelConfig
from clara.audio.features import pad_waves
from clara.errors import ClaraError
from clara.zoo.embedder import Embedder
from clara.zoo.factory import convert_checkpoint, load_foreign
from clara.zoo.loading import load

GOLDEN = Path(__file__).parent / "golden"
SECONDS = {"cnn14": (0.4, 10.0, 13.3), "htsat": (0.4, 7.3, 10.0)}
KINDS = ("cnn14", "htsat")
AUDIO = "audio_encoder.audio_enc."


def golden_of(kind: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return read_golden(f"wavcaps-{kind}", ClapMelConfig(32000))


@pytest.fixture
def peer_file(tmp_path: Path) -> Callable[..., tuple[Path, str, str]]:
    """peer_file(kind, change=…) -> what `load_foreign` takes; `change` edits the state."""

    def write(kind: str, change: Callable[[dict], Any] = lambda state: None) -> tuple[Path, str, str]:
        state, _ = golden_of(kind)
        change(state)
        path = tmp_path / f"{kind}.pt"
        torch.save({"model": state, "epoch": 3}, path)
        text = save_bert(tmp_path / "text")
        (text / "config.json").write_text(json.dumps({"model_type": "bert"}))
        return path, "wavcaps", str(text)

    return write


def vectors(zoo: Embedder, kind: str) -> tuple[Tensor, Tensor]:
    """Unscaled vectors of the golden clips, in one batch, and texts."""
    waves = [torch.from_numpy(clip(s, 32000, i)) for i, s in enumerate(SECONDS[kind])]
    with torch.no_grad():
        audio_BD = zoo.model.encode_audio(*pad_waves(waves), normalized=False)
        text_BD = zoo.model.encode_text(*zoo.tokenizer(TEXTS), normalized=False)
    return audio_BD, text_BD


@pytest.mark.parametrize("kind", KINDS)
def test_its_vectors(kind: str, peer_file: Callable, tmp_path: Path) -> None:
    path, family, text = peer_file(kind)
    convert_checkpoint(path, tmp_path / "ours", family, text)
    zoo = load(f"dir:{tmp_path / 'ours'}", "cpu")
    _, golden = golden_of(kind)
    audio_BD, text_BD = vectors(zoo, kind)
    for ours, theirs in ((audio_BD, golden["audio"]), (text_BD, golden["text"])):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
        torch.testing.assert_close(normalize(ours), normalize(theirs), rtol=0, atol=1e-4)
    clips = [(clip(s, 32000, i), 32000) for i, s in enumerate(SECONDS[kind])]
    torch.testing.assert_close(zoo.embed_audio(clips, batch_size=1), normalize(audio_BD), rtol=0, atol=1e-5)
    torch.testing.assert_close(zoo.embed_text(list(TEXTS), batch_size=1), normalize(text_BD), rtol=0, atol=1e-5)
    assert abs(zoo.scale - 1 / 0.05) < 1e-4


def test_punctuation_is_not_read_and_texts_end_at_thirty_tokens(peer_file: Callable) -> None:
    tokenizer = load_foreign(*peer_file("cnn14")).tokenizer
    assert tokenizer.encode('A dog (barks); "rain"!') == tokenizer.encode("a dog barks rain")
    assert tokenizer(["dog " * 50])[0].shape == (1, 30)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (
            "cnn14",
            lambda s: s.pop(f"{AUDIO}conv_block6.bn2.running_var"),
            r"missing audio\.blocks\.5\.bn2\.running",
        ),
        ("htsat", lambda s: s.pop(f"{AUDIO}norm.bias"), r"missing audio\.norm\.bias"),
        ("htsat", lambda s: s.pop("temp"), r"lacks what becomes log_scale"),
        ("htsat", lambda s: s["temp"].fill_(-1), "temperature -1.0: expected one above 0"),
        ("cnn14", lambda s: s.pop("text_encoder.text_encoder.encoder.layer.0.output.dense.bias"), "missing text"),
        ("cnn14", lambda s: s.update({f"{AUDIO}resnet.layer1.0.conv1.weight": torch.ones(1)}), "unknown .*resnet"),
        ("htsat", lambda s: s.update({"text_proj.4.weight": torch.ones(1)}), "unknown text_proj.4.weight"),
        ("htsat", lambda s: s.update({"text_proj.2.bias": torch.ones(1)}), r"text_head\.2\.bias is \(1,\)"),
        ("cnn14", lambda s: s[f"{AUDIO}audio_feats_extractor.log_trans.melW"].zero_(), "not a bank of slaney filters"),
        ("cnn14", lambda s: s.pop(f"{AUDIO}audio_feats_extractor.log_trans.melW"), "what its model hears"),
    ],
)
def test_other_files_are_refused(kind: str, change: Callable, message: str, peer_file: Callable) -> None:
    with pytest.raises(ClaraError, match=message):
        load_foreign(*peer_file(kind, change))


def test_another_tokenizer_and_another_family_are_refused(peer_file: Callable, tmp_path: Path) -> None:
    path, _, text = peer_file("htsat")
    with pytest.raises(ClaraError, match=r"unknown audio_encoder\.audio_enc"):
        load_foreign(path, "msclap", text)
    vocabulary = Path(text) / "vocab.txt"
    vocabulary.write_text(vocabulary.read_text() + "more\n")
    with pytest.raises(ClaraError, match=r"has 89 tokens, .* 88: take bert-base-uncased"):
        load_foreign(path, "wavcaps", text)


@pytest.mark.peers
@pytest.mark.parametrize("small", [True, False], ids=["small", "full size"])
@pytest.mark.parametrize("kind", KINDS)
def test_live(kind: str, small: bool, tmp_path: Path) -> None:
    """Its own code and ours, side by side, random weights. WAVCAPS is a checkout of XinhaoMei/WavCaps."""
    pytest.importorskip("torchlibrosa")
    if not (checkout := os.environ.get("WAVCAPS")):
        pytest.skip("WAVCAPS names no checkout of XinhaoMei/WavCaps")
    from golden import make_wavcaps

    model, path, text = make_wavcaps.peer(kind, Path(checkout), tmp_path, small)
    theirs = make_wavcaps.vectors(model, kind)
    del model
    zoo = Embedder(load_foreign(path, "wavcaps", str(text)), "cpu")
    for name, ours, peers in zip(("audio", "text"), vectors(zoo, kind), theirs):
        cosine = torch.cosine_similarity(ours, peers)
        worst, raw = (normalize(ours) - normalize(peers)).abs().max(), (ours - peers).abs().max()
        print(f"{kind} {name}: cosine ≥ {cosine.min():.7f}, normalised ≤ {worst:.1e}, raw ≤ {raw:.1e}")
        assert cosine.min() >= 0.99999
        assert worst <= 1e-4
