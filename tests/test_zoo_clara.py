"""The first CLARA: its checkpoints, mel scale and tokenizer, against what its own code gave (golden/make_clara.py)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from golden.clips import clip
from golden.make_clara import CAPTIONS, RATE, SECONDS
from safetensors import safe_open
from torch import Tensor

from clara.audio.features import pad_waves
from clara.config import Spec, arch_config
from clara.errors import ClaraError
from clara.heads import HEADS
from clara.model import DualEncoder
from clara.text import tokenizer as tokenizers
from clara.text.tokenizer import CLARA_LANGUAGES, Tokenizer, build_tokenizer
from clara.towers.base import AUDIO_TOWERS, TEXT_TOWERS
from clara.zoo.convert import read_foreign
from clara.zoo.factory import convert_checkpoint, load_foreign
from clara.zoo.loading import load

GOLDEN = Path(__file__).parent / "golden/clara.safetensors"
CLOSE = {"rtol": 0.0, "atol": 1e-5}
ORDERS = pytest.mark.parametrize(
    ("family", "before", "unit"), [("clara", "", True), ("clara-legacy", "legacy_", False)]
)


def read_golden(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(path, "pt") as file:
        return {k: file.get_tensor(k) for k in file.keys()}, {k: json.loads(v) for k, v in file.metadata().items()}  # noqa: SIM118


GIVEN, NOTES = read_golden(GOLDEN)


def save_ckpt(path: Path, change: Callable[[dict[str, Any]], Any] = lambda checkpoint: None) -> Path:
    """The golden model as a Lightning checkpoint, after `change`."""
    state = {k.removeprefix("weights."): v.float() for k, v in GIVEN.items() if k.startswith("weights.")}
    rows = torch.zeros(50373, GIVEN["used_rows"].shape[1])
    rows[GIVEN["used_ids"]] = GIVEN["used_rows"].float()
    state["model.text_embedding.weight"] = rows
    checkpoint = {
        "epoch": 3,
        "global_step": 40,
        "pytorch-lightning_version": "2.1.0",
        "state_dict": state,
        "loops": {"fit_loop": {"epoch_progress": {"total": {"ready": 3}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5), "dirpath": "x"}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"betas": (0.9, 0.99)}]}],
        "lr_schedulers": [{"gamma": 0.8}],
        "hparams_name": "kwargs",
        "hyper_parameters": dict(NOTES["hyper_parameters"]),
    }
    change(checkpoint)
    torch.save(checkpoint, path)
    return path


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A folder like the repository's vocab.json and merges.txt: 50,257 tokens, most of them never used, four merges,
    and no heading; taken for Whisper's while the tests run."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = [*map(chr, printable), *(chr(256 + i) for i in range(256 - len(printable)))]
    merges = [("Ġ", "t"), ("Ġ", "d"), ("h", "e"), ("Ġt", "he")]
    tokens = [*letters, *(a + b for a, b in merges)]
    tokens += [f"unused{i}" for i in range(50257 - len(tokens))]
    folder = tmp_path_factory.mktemp("multilingual")
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}), encoding="utf-8")
    (folder / "merges.txt").write_text("".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")
    config = {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "unk_token": "<|endoftext|>"}))
    vocab = {t: i for i, t in enumerate(tokens)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizers, "WHISPER_BPE", tokenizers._fingerprint(vocab, merges[1:]))
        yield str(folder)


def convert(path: Path, family: str, tokenizer: str) -> tuple[DualEncoder, Tokenizer]:
    loaded = load_foreign(path, family, tokenizer)
    return loaded.model, loaded.tokenizer


def ids_batch() -> tuple[Tensor, Tensor]:
    """The captions' ids as the peer's tokenizer gave them, padded: ids_BL, mask_BL."""
    rows = [torch.tensor(row) for row in NOTES["ids"]]
    ids_BL = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return ids_BL, torch.arange(ids_BL.shape[1]) < torch.tensor([len(r) for r in rows])[:, None]


def check_parity(model: DualEncoder, given: dict[str, Tensor], before: str, unit: bool) -> None:
    waves = [torch.from_numpy(clip(s, RATE, i)) for i, s in enumerate(SECONDS)]
    with torch.no_grad():
        alone_BD = torch.cat([model.encode_audio(w[None], normalized=unit) for w in waves])
        together_BD = model.encode_audio(*pad_waves(waves), normalized=unit)
        text_BD = model.encode_text(*ids_batch())
    torch.testing.assert_close(alone_BD, given[f"{before}audio"], **CLOSE)
    torch.testing.assert_close(together_BD, given[f"{before}audio"], **CLOSE)
    torch.testing.assert_close(text_BD, given[f"{before}text"], **CLOSE)


@ORDERS
def test_embeddings_of_waves_and_ids_are_the_peers(
    family: str, before: str, unit: bool, whisper: str, tmp_path: Path
) -> None:
    model, _ = convert(save_ckpt(tmp_path / "a.ckpt"), family, whisper)
    check_parity(model, GIVEN, before, unit)
    assert float(model.log_scale) == GIVEN["weights.model.audio_tempeture"]


def test_the_orders_differ_and_what_is_compared_varies() -> None:
    assert (GIVEN["audio"] - torch.nn.functional.normalize(GIVEN["legacy_audio"], dim=1)).abs().max() > 0.05
    assert (GIVEN["text"] - GIVEN["legacy_text"]).abs().max() > 0.05
    assert GIVEN["audio"].std(0).mean() > 0.05
    assert GIVEN["text"].std(0).mean() > 0.05
    torch.testing.assert_close(GIVEN["forward_audio"], GIVEN["audio"][:1])


def test_mel_is_librosas(whisper: str, tmp_path: Path) -> None:
    model, _ = convert(save_ckpt(tmp_path / "a.ckpt"), "clara", whisper)
    wave = torch.from_numpy(clip(SECONDS[1], RATE, 1))
    x_BNF, mask_BN = model.front_end(wave[None], torch.tensor([len(wave)]))
    assert mask_BN.all()
    torch.testing.assert_close(x_BNF[0], GIVEN["mel"], rtol=0.0, atol=1e-4)  # 0.004 dB
    assert x_BNF.amax() == 1.0


def test_a_converted_folder_carries_its_tokenizer(whisper: str, tmp_path: Path) -> None:
    folder = convert_checkpoint(save_ckpt(tmp_path / "a.ckpt"), tmp_path / "ours", "clara", whisper)
    zoo = load(f"dir:{folder}", device="cpu")
    audio_BD = zoo.embed_audio([(clip(s, RATE, i), RATE) for i, s in enumerate(SECONDS)])
    torch.testing.assert_close(audio_BD, GIVEN["audio"], **CLOSE)
    own = build_tokenizer(Spec("clara_bpe", {"name": whisper}))
    assert zoo.tokenizer.encode("the dog") == own.encode("the dog")
    assert zoo.embed_text(["the dog", "<|de|><|nospeech|> Hund"]).shape == (2, 12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["state_dict"].pop("model.audio_layer_norm.bias"), "missing audio.norm.bias"),
        (lambda c: c["state_dict"].pop("model.conv1.weight"), r"lacks what becomes audio\.conv1\.weight"),
        (lambda c: c["state_dict"].update({"model.extra.weight": torch.ones(2)}), r"unknown extra\.weight \(2,\)"),
        (lambda c: c["state_dict"].update({"weight": torch.ones(2)}), "tensors all begin with 'model.'"),
        (
            lambda c: c["state_dict"].update({"model.conv1.bias": torch.ones(2)}),
            r"conv1.bias is \(2,\), expected",
        ),
        (lambda c: c["state_dict"].update({"feature_extractor.model.conv1.bias": torch.ones(2)}), "a linear probe"),
        (lambda c: c["state_dict"].update({"model.audio_encoder.latents": torch.ones(8, 24)}), "as many latents as"),
        (lambda c: c.pop("state_dict"), "lacks state_dict: expected a Lightning checkpoint"),
        (lambda c: c.pop("hyper_parameters"), "lacks hyper_parameters"),
        (lambda c: c.update(hyper_parameters=[3]), "hold no names"),
        (lambda c: c["hyper_parameters"].pop("text_encoder_heads"), "Hyper-parameter text_encoder_heads is None"),
        (lambda c: c["hyper_parameters"].update(text_encoder_heads=3), "not a multiple of heads 3"),
        (lambda c: c["hyper_parameters"].update(audio_encoder_latent_heads=5), "heads of one whole width"),
        (lambda c: c["hyper_parameters"].update(vocab_size=os.system), "posix.system|nt.system"),
    ],
)
def test_wrong_checkpoints_are_refused(
    change: Callable[[dict[str, Any]], Any], message: str, whisper: str, tmp_path: Path
) -> None:
    with pytest.raises(ClaraError, match=message):
        convert(save_ckpt(tmp_path / "a.ckpt", change), "clara", whisper)


def test_files_of_another_kind_are_refused(whisper: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    with pytest.raises(ClaraError, match="No such file"):
        read_foreign(path, "clara", whisper)
    path.write_bytes(b"RIFF....WAVE")
    with pytest.raises(ClaraError, match=r"not a pickle of weights|refused"):
        read_foreign(path, "clara", whisper)
    torch.save([torch.ones(2)], path)
    with pytest.raises(ClaraError, match="lacks state_dict and hyper_parameters"):
        read_foreign(path, "clara", whisper)
    small = save_ckpt(path, lambda c: c["state_dict"].update({"model.text_embedding.weight": torch.ones(99, 16)}))
    with pytest.raises(ClaraError, match="has 99 tokens, the tokenizer 50373"):
        read_foreign(small, "clara", whisper)


def test_tags_have_the_originals_ids(whisper: str) -> None:
    tokenizer = build_tokenizer(Spec("clara_bpe", {"name": whisper}))
    ids = tokenizer.tokenizer.convert_tokens_to_ids
    assert (len(CLARA_LANGUAGES), tokenizer.vocab_size, tokenizer.pad_id) == (110, 50373, 0)
    # facts of the original, run in its own environment
    expected = {"en": 50259, "zh": 50260, "zh-CN": 50261, "de": 50262, "vi": 50279, "lt": 50294, "gn": 50359}
    expected |= {"or": 50367, "rw": 50368, "startoftranscript": 50258, "translate": 50369, "speech": 50372}
    assert {tag: ids(f"<|{tag}|>") for tag in expected} == expected
    assert ids("<|endoftext|>") == 50257


def test_texts_are_tagged_and_the_first_merge_is_left_out(whisper: str) -> None:
    tokenizer = build_tokenizer(Spec("clara_bpe", {"name": whisper}))
    pieces = tokenizer.tokenizer.convert_ids_to_tokens
    assert pieces(tokenizer.encode("dog")) == ["<|en|>", "<|speech|>", "Ġd", "o", "g"]
    assert pieces(tokenizer.encode("<|de|><|nospeech|> dog")) == ["<|de|>", "<|nospeech|>", "Ġd", "o", "g"]
    assert pieces(tokenizer.encode("the")) == ["<|en|>", "<|speech|>", "Ġ", "t", "he"]
    german = build_tokenizer(Spec("clara_bpe", {"name": whisper, "language": "de", "speech": False}))
    assert pieces(german.encode("d")) == ["<|de|>", "<|nospeech|>", "Ġd"]


def test_wrong_tokenizers_are_refused(whisper: str, tmp_path: Path) -> None:
    with pytest.raises(ClaraError, match=r"Unknown language tag of the first CLARA 'eng'\. Did you mean 'en'"):
        build_tokenizer(Spec("clara_bpe", {"name": whisper, "language": "eng"}))
    other = tmp_path / "other"
    other.mkdir()
    for file in Path(whisper).iterdir():
        (other / file.name).write_text(file.read_text(encoding="utf-8").replace("Ġ d\n", ""), encoding="utf-8")
    with pytest.raises(ClaraError, match="is not Whisper's multilingual one"):
        build_tokenizer(Spec("clara_bpe", {"name": str(other)}))


@pytest.mark.parametrize(
    ("name", "parameters"), [("clara-60m", 67281410), ("clara-100m", 109419522), ("clara-600m", 641476610)]
)
def test_published_sizes(name: str, parameters: int) -> None:
    config = arch_config(name)
    with torch.device("meta"):
        audio, text = AUDIO_TOWERS.create(config.audio), TEXT_TOWERS.create(config.text)
        heads = [HEADS.create(config.audio_head, 512, 512), HEADS.create(config.text_head, 512, 512)]
    temperatures = 2
    assert sum(p.numel() for m in (audio, text, *heads) for p in m.parameters()) + temperatures == parameters
    rate, hop = config.front_end.options["sample_rate"], config.front_end.options["hop_length"]
    frames = int(config.front_end.options["window_seconds"] * rate) // hop + 1
    assert frames == 2 * audio.config.positions, "the window is the longest clip that has positions"


def test_perceiver_says_what_it_cannot_take() -> None:
    tower = AUDIO_TOWERS.create(arch_config("test-perceiver").audio)
    with pytest.raises(ClaraError, match="31 bins, the perceiver tower was built for 32"):
        tower(torch.ones(1, 9, 31), torch.ones(1, 9, dtype=torch.bool))
    with pytest.raises(ClaraError, match="203 frames, the perceiver tower holds 202"):
        tower(torch.ones(1, 203, 32), torch.ones(1, 203, dtype=torch.bool))
    with pytest.raises(ClaraError, match="not a multiple of heads"):
        TEXT_TOWERS.create(Spec("postnorm_text", {"token_width": 30, "heads": 4}))


def test_frames_are_left_out_in_training_alone() -> None:
    spec = arch_config("test-perceiver").audio
    tower = AUDIO_TOWERS.create(Spec(spec.kind, {**spec.options, "token_dropout": 0.5}))
    x_BNF, mask_BN = torch.randn(1, 90, 32), torch.ones(1, 90, dtype=torch.bool)
    assert not torch.equal(tower(x_BNF, mask_BN), tower(x_BNF, mask_BN))
    tower.eval()
    assert torch.equal(tower(x_BNF, mask_BN), tower(x_BNF, mask_BN))
    kept_BN = tower._thin(mask_BN.expand(50, -1))
    assert 0.3 < kept_BN.float().mean() < 0.7
    assert tower._thin(torch.ones(200, 1, dtype=torch.bool)).all(), "never all of a clip's"


@pytest.mark.peers
@ORDERS
def test_the_peers_own_code_and_file(family: str, before: str, unit: bool, tmp_path: Path) -> None:
    """CLARA_PEERS: a folder with a checkout of knoriy/CLARA as 'CLARA'."""
    if "CLARA_PEERS" not in os.environ:
        pytest.skip("CLARA_PEERS is not set")
    peer = Path(os.environ["CLARA_PEERS"]) / "CLARA"
    subprocess.run([sys.executable, GOLDEN.parent / "make_clara.py", peer, tmp_path], check=True)
    given, notes = read_golden(tmp_path / "clara.safetensors")
    for name, tensor in given.items():
        torch.testing.assert_close(tensor, GIVEN[name], **CLOSE)
    assert notes == NOTES
    assets = peer / "clara/text/whisper/assets/multilingual"
    model, tokenizer = convert(tmp_path / "original.ckpt", family, str(assets))
    check_parity(model, given, before, unit)
    assert [tokenizer.encode(t) for t in CAPTIONS] == NOTES["ids"]
