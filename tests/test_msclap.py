"""Microsoft CLAP: its own small models, converted, give what its own wrapper gave (`golden/make_msclap.py`)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile as sf
import torch
from golden.clips import TEXTS, clip
from goldens import read_golden
from torch import Tensor
from torch.nn.functional import normalize
from vocabularies import save_bert, save_gpt2

from clara.audio.clap_mel import ClapMelConfig, filters
from clara.audio.features import pad_waves
from clara.errors import ClaraError
from clara.zoo.convert import read_foreign
from clara.zoo.embedder import Embedder
from clara.zoo.factory import convert_checkpoint, load_foreign
from clara.zoo.loading import load

GOLDEN = Path(__file__).parent / "golden"
SECONDS = {"2022": (0.4, 3.1, 5.0), "2023": (0.4, 3.1, 7.0)}
TOKENIZER = {"2022": save_bert, "2023": save_gpt2}
VERSIONS = ("2022", "2023")


def golden_of(version: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    # the HTSAT of 2023 has its filters laid out for 32 kHz
    return read_golden(f"msclap-{version}", ClapMelConfig(32000 if version == "2023" else 44100))


@pytest.fixture
def peer_file(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """peer_file(version, change=…) -> (its file, the folder of its tokenizer); `change` edits the state."""

    def write(version: str, change: Callable[[dict], Any] = lambda state: None) -> tuple[Path, Path]:
        state, _ = golden_of(version)
        change(state)
        path = tmp_path / f"CLAP_weights_{version}.pth"
        torch.save({"model": state}, path)
        text = TOKENIZER[version](tmp_path / "text")
        (text / "config.json").write_text(json.dumps({"model_type": "bert" if version == "2022" else "gpt2"}))
        return path, text

    return write


def vectors(zoo: Embedder, version: str) -> tuple[Tensor, Tensor]:
    """Unscaled vectors of the golden clips, in one batch, and texts."""
    waves = [torch.from_numpy(clip(s, 44100, i)) for i, s in enumerate(SECONDS[version])]
    with torch.no_grad():
        audio_BD = zoo.model.encode_audio(*pad_waves(waves), normalized=False)
        text_BD = zoo.model.encode_text(*zoo.tokenizer(TEXTS), normalized=False)
    return audio_BD, text_BD


@pytest.mark.parametrize("version", VERSIONS)
def test_its_vectors(version: str, peer_file: Callable, tmp_path: Path) -> None:
    path, text = peer_file(version)
    convert_checkpoint(path, tmp_path / "ours", "msclap", str(text))
    zoo = load(f"dir:{tmp_path / 'ours'}", "cpu")
    _, golden = golden_of(version)
    audio_BD, text_BD = vectors(zoo, version)
    for ours, theirs in ((audio_BD, golden["audio"]), (text_BD, golden["text"])):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
        torch.testing.assert_close(normalize(ours), normalize(theirs), rtol=0, atol=1e-4)
    # from files and strings, one by one: the same
    for i, seconds in enumerate(SECONDS[version]):
        sf.write(tmp_path / f"{i}.wav", clip(seconds, 44100, i), 44100)
    files = [tmp_path / f"{i}.wav" for i in range(3)]
    torch.testing.assert_close(zoo.embed_audio(files, batch_size=1), normalize(audio_BD), rtol=0, atol=1e-5)
    torch.testing.assert_close(zoo.embed_text(list(TEXTS), batch_size=1), normalize(text_BD), rtol=0, atol=1e-5)


def test_what_the_file_says_is_built(peer_file: Callable) -> None:
    config = read_foreign(*_at("2022", peer_file)).config
    assert (config.audio.kind, config.text.options["pooling"], config.embed_dim) == ("cnn14", "cls", 16)
    assert config.front_end.options["f_max"] == 14000.0 and config.front_end.options["window_seconds"] == 5.0

    def as_published(state: dict) -> None:
        state["audio_encoder.base.htsat.logmel_extractor.melW"] = filters(ClapMelConfig(44100, f_max=8000.0))

    config = read_foreign(*_at("2023", peer_file, as_published)).config
    assert (config.audio.kind, config.text.options["pooling"]) == ("htsat", "last")
    heard = config.front_end.options
    assert (heard["f_max"], heard["bank_rate"], heard["window_seconds"]) == (8000.0, None, 7.0)


def test_masks_of_older_files_are_left(peer_file: Callable) -> None:
    def old(state: dict) -> None:
        state["caption_encoder.base.h.0.attn.bias"] = torch.ones(1, 1, 77, 77)
        state["caption_encoder.base.h.0.attn.masked_bias"] = torch.tensor(-1e4)

    load_foreign(*_at("2023", peer_file, old))
    load_foreign(*_at("2022", peer_file, lambda s: s.update({"caption_encoder.base.embeddings.position_ids": _IDS})))


_IDS = torch.arange(100)[None]
AUDIO_2022, AUDIO_2023 = "audio_encoder.base.", "audio_encoder.base.htsat."


@pytest.mark.parametrize(
    ("version", "change", "message"),
    [
        ("2022", lambda s: s.pop("audio_encoder.base.conv_block3.bn1.bias"), r"missing audio\.blocks\.2\.bn1\.bias"),
        ("2022", lambda s: s.pop("audio_encoder.base.bn0.weight"), r"lacks what becomes audio\.bn0\.weight"),
        ("2023", lambda s: s.pop("logit_scale"), "missing log_scale"),
        ("2023", lambda s: s.pop("caption_encoder.base.h.0.ln_1.bias"), r"missing text\..*ln_1\.bias"),
        ("2022", lambda s: s.update(extra=torch.ones(2)), r"unknown extra \(2,\)"),
        ("2023", lambda s: s.update({f"{AUDIO_2023}extra": torch.ones(2)}), "unknown audio_encoder.base.htsat.extra"),
        ("2022", lambda s: s.update({"audio_encoder.projection.linear1.bias": _IDS}), "unknown audio_encoder.proj"),
        ("2022", lambda s: s.update({"audio_encoder.base.fc1.bias": torch.ones(5)}), r"fc1\.weight is \(12, 8\)"),
        ("2022", lambda s: s.pop(f"{AUDIO_2022}logmel_extractor.melW"), "does not say what its model hears"),
        (
            "2022",
            lambda s: s[f"{AUDIO_2022}logmel_extractor.melW"].mul_(2),
            "not a bank of slaney filters of 50–14000 Hz",
        ),
        ("2023", lambda s: s[f"{AUDIO_2023}spectrogram_extractor.stft.conv_real.weight"].fill_(1), "not a Hann window"),
        ("2023", lambda s: s.update({"clap.x": torch.ones(1)}), "msclap's captioner"),
    ],
)
def test_other_files_are_refused(version: str, change: Callable, message: str, peer_file: Callable) -> None:
    with pytest.raises(ClaraError, match=message):
        load_foreign(*_at(version, peer_file, change))


def _at(version: str, peer_file: Callable, change: Callable = lambda s: None) -> tuple[Path, str, str]:
    path, text = peer_file(version, change)
    return path, "msclap", str(text)


def test_other_tokenizers_and_other_formats_are_refused(peer_file: Callable, tmp_path: Path) -> None:
    path, text = peer_file("2023")
    (text / "vocab.json").unlink()
    with pytest.raises(ClaraError, match=r"Tokenizer .* cannot be loaded"):
        load_foreign(path, "msclap", str(tmp_path / "nothing"))
    bert = save_bert(tmp_path / "bert")
    (bert / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ClaraError, match="was trained with 265 and 0: take gpt2"):
        load_foreign(path, "msclap", str(bert))
    torch.save({"state_dict": {}}, path)
    with pytest.raises(ClaraError, match="has no 'model': it holds"):
        load_foreign(path, "msclap", str(bert))


@pytest.mark.peers
@pytest.mark.parametrize("small", [True, False], ids=["small", "full size"])
@pytest.mark.parametrize("version", VERSIONS)
def test_live(version: str, small: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Its own wrapper and ours, side by side, random weights: files and strings in, vectors out."""
    pytest.importorskip("msclap")
    from golden.make_msclap import files, peer

    folder = tmp_path_factory.mktemp("peer")  # msclap reads 'gpt' and 'clip' out of the path
    wrapper, path, text = peer(version, folder, small)
    paths = files(version, folder)
    theirs = wrapper.get_audio_embeddings(paths), wrapper.get_text_embeddings(TEXTS)
    del wrapper
    zoo = Embedder(load_foreign(path, "msclap", str(text)), "cpu")
    for name, ours, peers in zip(("audio", "text"), vectors(zoo, version), theirs):
        cosine = torch.cosine_similarity(ours, peers)
        worst, raw = (normalize(ours) - normalize(peers)).abs().max(), (ours - peers).abs().max()
        print(f"{version} {name}: cosine ≥ {cosine.min():.7f}, normalised ≤ {worst:.1e}, raw ≤ {raw:.1e}")
        assert cosine.min() >= 0.99999
        assert worst <= 1e-4
    torch.testing.assert_close(zoo.embed_audio(paths), normalize(theirs[0]), rtol=0, atol=1e-4)
