"""Reports about models from elsewhere: a tokenizer that is not the tower's (item 1), files saved again (12)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from claps import TEXTS, save_clap, save_roberta
from goldens import read_golden
from safetensors.torch import load_file, save_file
from tiny import save_tiny
from torch import Tensor
from typer.testing import CliRunner

import clara
from clara.audio.clap_mel import ClapMelConfig
from clara.cli import app
from clara.config import Spec
from clara.errors import ClaraError
from clara.text.tokenizer import build_tokenizer
from clara.zoo.factory import convert_checkpoint, load_checkpoint
from clara.zoo.unpickle import weights_sha256


@pytest.fixture(scope="module")
def clap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clap(tmp_path_factory.mktemp("clap") / "unfused")


@pytest.fixture
def copy(clap: Path, tmp_path: Path) -> Path:
    return shutil.copytree(clap, tmp_path / "copy")


TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")


def without_tokenizer(folder: Path) -> None:
    for name in TOKENIZER_FILES[:1] + TOKENIZER_FILES[3:]:
        (folder / name).unlink(missing_ok=True)


@pytest.mark.parametrize("way", ["load", "convert"])
def test_1_a_folder_without_its_tokenizers_files_is_refused(way: str, copy: Path, tmp_path: Path) -> None:
    without_tokenizer(copy)
    with pytest.raises(
        ClaraError, match=r"(different texts the same ids|cannot be loaded|neither a padding|embeddings)"
    ):
        clara.load(f"dir:{copy}", device="cpu") if way == "load" else convert_checkpoint(copy, tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize("way", ["load", "convert"])
def test_1_a_tokenizer_with_more_tokens_than_the_tower_is_refused(way: str, copy: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(copy)
    tokenizer.add_tokens([f"<new{i}>" for i in range(50)])
    tokenizer.save_pretrained(copy)
    with pytest.raises(ClaraError, match=r"copy: the tokenizer has \d+ tokens, the text tower \d+ embeddings"):
        clara.load(f"dir:{copy}", device="cpu") if way == "load" else convert_checkpoint(copy, tmp_path / "ours")


def test_1_our_own_folders_are_checked_too(tmp_path: Path) -> None:
    from safetensors import safe_open

    folder = save_tiny(tmp_path / "a")
    tensors = load_file(folder / "model.safetensors")
    for rows, fits in ((0, True), (-1, False)):
        changed = dict(tensors)
        table = changed["text.tokens.weight"]
        changed["text.tokens.weight"] = table[: len(table) + rows].clone()
        text = (
            (folder / "clara.yaml").read_text().replace(f"vocab_size: {len(table)}", f"vocab_size: {len(table) + rows}")
        )
        other = shutil.copytree(folder, tmp_path / f"b{rows}")
        (other / "clara.yaml").write_text(text)
        save_file(changed, other / "model.safetensors")  # without what ties it, as older folders are
        with safe_open(other / "model.safetensors", "pt") as file:
            assert not file.metadata()
        if fits:
            load_checkpoint(other)
            continue
        with pytest.raises(
            ClaraError, match=rf"tokenizer has {len(table)} tokens, the text tower {len(table) - 1} emb"
        ):
            load_checkpoint(other)


def test_1_a_file_that_is_no_sentencepiece_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.model").write_bytes(b"no model")
    with pytest.raises(ClaraError, match=r"bad\.model is not a sentencepiece model"):
        build_tokenizer(Spec("sentencepiece", {"file": "bad.model"}), tmp_path)


Save = Callable[[dict[str, Tensor], Path], Any]


def named(key: str) -> Save:
    return lambda state, path: torch.save({"epoch": 1, key: state}, path)


def prefixed(prefix: str) -> Save:
    return lambda state, path: torch.save({f"{prefix}{name}": t for name, t in state.items()}, path)


AGAIN: dict[str, Save] = {
    "half": lambda s, p: torch.save(
        {"state_dict": {n: t.half() if t.is_floating_point() else t for n, t in s.items()}}, p
    ),
    "bfloat16": lambda s, p: torch.save({n: t.bfloat16() if t.is_floating_point() else t for n, t in s.items()}, p),
    "bare": torch.save,
    **{key: named(key) for key in ("model", "model_state_dict", "module")},
    **{prefix: prefixed(prefix) for prefix in ("model.", "_orig_mod.", "module.module.", "model._orig_mod.module.")},
    "parts compiled": lambda s, p: torch.save(
        {n.replace("branch.", "branch._orig_mod.", 1): t for n, t in s.items()}, p
    ),
}


@pytest.mark.parametrize("how", AGAIN)
def test_12_laions_checkpoints_saved_again(how: str, tmp_path: Path) -> None:
    golden, _ = read_golden("laion-unfused", ClapMelConfig())
    state = {name.removeprefix("module."): tensor for name, tensor in golden.items()}
    torch.save({"epoch": 1, "state_dict": golden}, tmp_path / "published.pt")
    AGAIN[how](state, tmp_path / "again.pt")
    tokenizer = str(save_roberta(tmp_path / "roberta"))
    there, here = (
        clara.load(f"dir:{convert_checkpoint(tmp_path / f'{n}.pt', tmp_path / n, 'laion', tokenizer)}", "cpu")
        for n in ("published", "again")
    )
    cosine = (there.embed_text(TEXTS) * here.embed_text(TEXTS)).sum(1)
    assert float(cosine.min()) > (0.99 if how in ("half", "bfloat16") else 0.99999)


@pytest.mark.parametrize("pickled", [False, True])
def test_12_transformers_folders_in_several_files(pickled: bool, clap: Path, copy: Path) -> None:
    whole = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    names, stem, end = sorted(whole), "pytorch_model" if pickled else "model", "bin" if pickled else "safetensors"
    places = {n: f"{stem}-0000{1 + i % 2}-of-00002.{end}" for i, n in enumerate(names)}
    for file in set(places.values()):
        part = {n: whole[n] for n in names if places[n] == file}
        (torch.save if pickled else save_file)(part, copy / file)
    index = copy / f"{stem}.{end}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    there, here = clara.load(f"dir:{clap}", device="cpu"), clara.load(f"dir:{copy}", device="cpu")
    assert torch.equal(there.embed_text(TEXTS), here.embed_text(TEXTS))
    before = weights_sha256(index)
    (copy / places[names[0]]).unlink()
    with pytest.raises(ClaraError, match=r"No such file: .*-of-00002"):
        clara.load(f"dir:{copy}", device="cpu")
    save_file({n: whole[n] + 1 for n in names if places[n] == places[names[0]]}, copy / places[names[0]])
    assert weights_sha256(index) != before
    index.write_text(json.dumps({"weight_map": {"a": "../elsewhere.safetensors"}}))
    with pytest.raises(ClaraError, match="expected files beside it"):
        clara.load(f"dir:{copy}", device="cpu")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("prefix", ["", "model.", "module.module.", "_orig_mod."])
def test_12_transformers_folders_saved_again(prefix: str, dtype: torch.dtype, clap: Path, copy: Path) -> None:
    whole = load_file(copy / "model.safetensors")
    again = {f"{prefix}{n}": t.to(dtype) if t.is_floating_point() else t for n, t in whole.items()}
    save_file(again, copy / "model.safetensors")
    there, here = clara.load(f"dir:{clap}", device="cpu"), clara.load(f"dir:{copy}", device="cpu")
    cosine = (there.embed_text(TEXTS) * here.embed_text(TEXTS)).sum(1)
    assert float(cosine.min()) > 0.99


def test_15_convert_into_a_folder_of_other_things_is_refused(clap: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    found = CliRunner().invoke(app, ["convert", str(clap), "--to", str(tmp_path / "full")])
    assert found.exit_code == 2 and "full is not empty" in found.stderr
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["thesis.txt"]
    for _ in range(2):  # a folder that it wrote before may be written again
        assert CliRunner().invoke(app, ["convert", str(clap), "--to", str(tmp_path / "new")]).exit_code == 0


@pytest.mark.parametrize(("rate", "channels"), [(800_000_000, 1), (1, 1), (16000, 65535), (16000, 0)])
def test_19_headers_that_no_recording_has(rate: int, channels: int, tmp_path: Path) -> None:
    from clara.audio.waveform import info, read

    frame = max(1, 2 * channels)
    data = np.zeros(64 * frame, np.uint8).tobytes()
    head = b"fmt " + (16).to_bytes(4, "little") + (1).to_bytes(2, "little") + channels.to_bytes(2, "little")
    head += rate.to_bytes(4, "little") + (rate * frame % 2**32).to_bytes(4, "little")
    head += (frame % 2**16).to_bytes(2, "little") + (16).to_bytes(2, "little")
    body = b"WAVE" + head + b"data" + len(data).to_bytes(4, "little") + data
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF" + len(body).to_bytes(4, "little") + body)
    for call in (lambda s: read(s, 16000), info):
        with pytest.raises(ClaraError, match=r"(states|cannot be decoded)"):
            call(path)


@pytest.mark.parametrize(
    "change",
    [
        {"audio_config": "x"},
        {"text_config": {"hidden_size": "x"}},
        {"text_config": {"vocab_size": 10**12}},
        {"text_config": [1]},
    ],
)
def test_fuzzing_configs_of_other_projects(change: dict[str, object], copy: Path) -> None:
    """transformers raises errors of its own kind at values of other types, and takes sizes for granted."""
    config = json.loads((copy / "config.json").read_text())
    for key, value in change.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ClaraError, match=r"do not describe a ClapModel|does not fit"):
        load_checkpoint(copy)
