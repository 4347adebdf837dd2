"""Converters: the peers' own models with random weights, their own files, and the same vectors from waves and texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from claps import TEXTS, save_clap
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import normalize
from typer.testing import CliRunner

import clara
from clara import hub
from clara.cli import app
from clara.config import to_dict
from clara.errors import ClaraError
from clara.towers.remap import Drop, Rename, prefixed, remap
from clara.zoo import convert
from clara.zoo.converters import transformers
from clara.zoo.factory import convert_checkpoint, create_model_and_transforms, get_tokenizer, load_checkpoint

RATE = 48000
EXACT = {"rtol": 0.0, "atol": 1e-4}


@pytest.fixture(scope="module")
def unfused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clap(tmp_path_factory.mktemp("clap") / "unfused")


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clap(tmp_path_factory.mktemp("clap") / "fused", fused=True)


def noise(seconds: float) -> np.ndarray:
    samples = round(seconds * RATE)
    return (0.1 * np.random.default_rng(samples).standard_normal(samples)).astype(np.float32)


def transformers_audio(folder: Path, waves: list[np.ndarray], monkeypatch: Any) -> Tensor:
    """One at a time, so that no clip is made long because of its neighbours; the dice show the middle."""
    from transformers import ClapModel, ClapProcessor

    monkeypatch.setattr(np.random, "choice", lambda options: options[len(options) // 2])
    model, processor = ClapModel.from_pretrained(folder).eval(), ClapProcessor.from_pretrained(folder)
    rows = []
    for wave in waves:
        x = processor.feature_extractor(wave, sampling_rate=RATE, return_tensors="pt")
        longer = torch.tensor([[len(wave) >= 10 * RATE + 480]])
        with torch.no_grad():
            out = model.get_audio_features(x["input_features"].float(), longer)
        rows.append(out if isinstance(out, Tensor) else out.pooler_output)  # transformers 4 | 5
    return normalize(torch.cat(rows), dim=-1)


def transformers_text(folder: Path, texts: list[str]) -> Tensor:
    from transformers import ClapModel, ClapProcessor

    model, processor = ClapModel.from_pretrained(folder).eval(), ClapProcessor.from_pretrained(folder)
    tokens = processor.tokenizer(texts, return_tensors="pt", padding="max_length", max_length=77)
    with torch.no_grad():
        out = model.get_text_features(**tokens)
    return normalize(out if isinstance(out, Tensor) else out.pooler_output, dim=-1)


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    assert float((ours * theirs).sum(1).min()) >= 0.99999
    torch.testing.assert_close(ours, theirs, **EXACT)


@pytest.mark.parametrize("which", ["unfused", "fused"])
def test_a_folder_of_transformers_loads_and_gives_its_vectors(
    which: str, request: pytest.FixtureRequest, monkeypatch: Any
) -> None:
    folder = request.getfixturevalue(which)
    before = sorted(folder.rglob("*"))
    zoo = clara.load(f"dir:{folder}", device="cpu")
    waves = [noise(s) for s in (10.0, 3.3, 0.01)]
    ours = zoo.embed_audio([(wave, RATE) for wave in waves])
    assert_same(ours, transformers_audio(folder, waves, monkeypatch))
    assert (ours[0] - ours[1]).abs().max() > 1e-3
    assert_same(zoo.embed_text(TEXTS), transformers_text(folder, TEXTS))
    assert zoo.scale == pytest.approx(1 / 0.07)
    assert sorted(folder.rglob("*")) == before


def test_a_files_weights_are_held_once(unfused: Path, monkeypatch: Any) -> None:
    """Parameters are the file's own tensors, but where several are joined, and no random number is drawn."""
    files: dict[str, Tensor] = {}
    read = transformers.load_tensors
    monkeypatch.setattr(transformers, "load_tensors", lambda path: files.setdefault("all", read(path)))
    state = torch.get_rng_state()
    model = load_checkpoint(unfused).model
    assert torch.equal(torch.get_rng_state(), state)
    mapped = {t.data_ptr() for t in files["all"].values()}
    copied = {name for name, p in model.named_parameters() if p.data_ptr() not in mapped}
    assert copied == {n for n, _ in model.named_parameters() if ".attn.qkv." in n}  # three tensors of theirs


@pytest.mark.peers
@pytest.mark.parametrize(("kind", "size"), [("unfused", "tiny"), ("fused", "tiny"), ("unfused", "base")])
def test_transformers_at_full_size(kind: str, size: str, tmp_path: Path, monkeypatch: Any) -> None:
    folder = save_clap(tmp_path / "clap", fused=kind == "fused", full=size)
    zoo = clara.load(f"dir:{folder}", device="cpu", long="fusion" if kind == "fused" else "windows")
    waves = [noise(s) for s in (10.0, 3.3, *([14.0] if kind == "fused" else []))]
    assert_same(zoo.embed_audio([(wave, RATE) for wave in waves]), transformers_audio(folder, waves, monkeypatch))
    assert_same(zoo.embed_text(TEXTS), transformers_text(folder, TEXTS))


def test_long_clips_of_a_fused_folder(fused: Path, monkeypatch: Any) -> None:
    model = load_checkpoint(fused).model
    waves = [noise(s) for s in (10.005, 17.0, 2.0)]
    wave_BT = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(w) for w in waves], batch_first=True)
    with torch.no_grad():
        ours = model.encode_audio(wave_BT, torch.tensor([len(w) for w in waves]))
    assert_same(ours, transformers_audio(fused, waves, monkeypatch))


def test_ways_with_long_audio(fused: Path, unfused: Path) -> None:
    zoo, wave = clara.load(f"dir:{fused}", device="cpu", long="fusion"), noise(23.0)
    with torch.no_grad():
        whole = zoo.model.encode_audio(torch.from_numpy(wave)[None])
        windows = torch.cat([zoo.model.encode_audio(torch.from_numpy(wave[i : i + 480000])[None]) for i in (0, 480000)])
    assert_same(zoo.embed_audio([(wave, RATE)]), whole)
    assert_same(zoo.embed_audio([(wave, RATE)], long="first"), windows[:1])
    assert_same(zoo.embed_audio([(wave[: 20 * RATE], RATE)], long="windows"), normalize(windows.mean(0, keepdim=True)))
    middle = wave[round(6.5 * RATE) :][:480000]
    assert_same(zoo.embed_audio([(wave, RATE)], long="center"), zoo.embed_audio([(middle, RATE)]))
    pair = [(wave, RATE), (middle[:RATE], RATE)]
    both = zoo.embed_audio(pair)
    assert torch.equal(both, zoo.embed_audio(pair))
    assert_same(both, torch.cat([whole, zoo.embed_audio(pair[1:])]))
    with pytest.raises(ClaraError, match="has no fusion; use 'windows'"):
        clara.load(f"dir:{unfused}", device="cpu", long="fusion")
    with pytest.raises(ClaraError, match="Unknown way with long audio 'frist'"):
        zoo.embed_audio(pair, long="frist")


def test_half_precision_is_near(unfused: Path) -> None:
    exact, half = (clara.load(f"dir:{unfused}", device="cpu", precision=p) for p in ("float32", "bfloat16"))
    clip = [(noise(3.3), RATE)]
    for a, b in ((exact.embed_audio(clip), half.embed_audio(clip)), (exact.embed_text(TEXTS), half.embed_text(TEXTS))):
        assert b.dtype == torch.float32
        assert float((a * b).sum(1).min()) >= 0.999
        assert not torch.equal(a, b)
    with pytest.raises(ClaraError, match=r"Unknown precision 'bf16'"):
        clara.load(f"dir:{unfused}", precision="bf16")


def test_text_beyond_the_context_keeps_its_end_as_theirs_does(unfused: Path) -> None:
    from transformers import ClapModel, ClapProcessor

    long = " ".join(TEXTS * 10)
    model, processor = ClapModel.from_pretrained(unfused).eval(), ClapProcessor.from_pretrained(unfused)
    tokens = processor.tokenizer([long], return_tensors="pt", truncation=True, max_length=80)
    with torch.no_grad():
        out = model.get_text_features(**tokens)
    theirs = normalize(out if isinstance(out, Tensor) else out.pooler_output, dim=-1)
    assert_same(clara.load(f"dir:{unfused}", device="cpu").embed_text([long]), theirs)


def test_a_converted_folder_is_a_checkpoint_like_any(unfused: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke(app, ["convert", str(unfused), "--to", str(tmp_path / "ours")])
    assert run.exit_code == 0, run.output
    folder = tmp_path / "ours"
    assert {p.name for p in folder.iterdir()} == {"clara.yaml", "model.safetensors", "README.md", "tokenizer"}
    card = (folder / "README.md").read_text()
    assert all(word in card for word in ("converter: transformers", "license: Apache-2.0", "sha256: "))
    there, here = clara.load(f"dir:{unfused}", device="cpu"), clara.load(f"dir:{folder}", device="cpu")
    assert to_dict(there.config)["audio"] == to_dict(here.config)["audio"]
    assert all(torch.equal(a, b) for a, b in zip(there.model.state_dict().values(), here.model.state_dict().values()))
    clip = (noise(2.0), RATE)
    assert torch.equal(there.embed_audio([clip]), here.embed_audio([clip]))
    assert torch.equal(there.embed_text(TEXTS), here.embed_text(TEXTS))


def test_every_way_in_takes_a_foreign_folder(unfused: Path) -> None:
    name = f"dir:{unfused}"
    model, transform, tokenizer = create_model_and_transforms(name)
    ids_BL, mask_BL = get_tokenizer(name)(TEXTS)
    assert torch.equal(ids_BL, tokenizer(TEXTS)[0])
    assert transform((noise(1.0), RATE)).shape == (RATE,)
    with torch.no_grad():
        assert model.encode_text(ids_BL, mask_BL).shape == (3, 24)


def test_pickled_weights_are_read_where_there_are_no_others(unfused: Path, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(unfused, tmp_path / "old")
    tensors = load_file(folder / "model.safetensors")
    tensors["text_model.embeddings.position_ids"] = torch.arange(82)[None]
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    old, new = (clara.load(f"dir:{f}", device="cpu").embed_text(TEXTS) for f in (folder, unfused))
    assert torch.equal(old, new)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drop": "audio_projection.linear1.bias"}, r"missing audio_head\.0\.bias \(24,\)"),
        ({"drop": "audio_model.audio_encoder.layers.1.blocks.0.attention.self.key.weight"}, r"qkv\.weight has the par"),
        ({"add": "audio_model.audio_encoder.layers.0.wings.weight"}, r"unknown audio_model\S+wings\.weight \(1,\)"),
        ({"add": "audio_model.audio_encoder.layers.1.blocks.9.layernorm_after.bias"}, r"unexpected audio\S+9\.norm2"),
    ],
)
def test_a_tensor_too_many_or_too_few_is_named(change: dict, message: str, unfused: Path, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(unfused, tmp_path / "broken")
    tensors = load_file(folder / "model.safetensors")
    if "drop" in change:
        del tensors[change["drop"]]
    else:
        tensors[change["add"]] = torch.ones(1)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ClaraError, match=message):
        clara.load(f"dir:{folder}")


@pytest.mark.parametrize("family", [None, "laion"])
def test_a_file_that_is_missing_is_said(family: str | None, tmp_path: Path) -> None:
    with pytest.raises(ClaraError, match=r"No such file or folder: .*nope"):
        convert_checkpoint(tmp_path / "nope", tmp_path / "to", family)
    assert not (tmp_path / "to").exists()


def test_what_is_no_clap_folder_is_said(unfused: Path, tmp_path: Path) -> None:
    with pytest.raises(ClaraError, match=r"lacks clara\.yaml and model\.safetensors"):
        clara.load(f"dir:{tmp_path}")
    with pytest.raises(ClaraError, match="does not say what it is: name the converter"):
        convert_checkpoint(tmp_path, tmp_path / "to")
    with pytest.raises(ClaraError, match=r"Unknown converter 'lion'. Did you mean 'laion'"):
        convert_checkpoint(tmp_path, tmp_path / "to", "lion")
    with pytest.raises(ClaraError, match="No such file or folder"):
        convert_checkpoint(tmp_path / "none", tmp_path / "to", "transformers")
    with pytest.raises(ClaraError, match="not a folder of a ClapModel"):
        convert_checkpoint(tmp_path, tmp_path / "to", "transformers")
    (tmp_path / "config.json").write_text((unfused / "config.json").read_text())
    with pytest.raises(ClaraError, match="lacks its weights"):
        clara.load(f"dir:{tmp_path}")
    (tmp_path / "model.safetensors").write_bytes((unfused / "model.safetensors").read_bytes())
    with pytest.raises(ClaraError, match="lacks its feature extractor"):
        clara.load(f"dir:{tmp_path}")


def test_only_what_a_checkpoint_needs_is_downloaded(monkeypatch: Any, tmp_path: Path) -> None:
    asked = []

    def snapshot(repo: str, revision: str, allow_patterns: list[str]) -> str:
        asked.append((revision, allow_patterns))
        (tmp_path / "config.json").touch()
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert hub.download("laion/clap", "abc") == tmp_path
    assert [revision for revision, _ in asked] == ["abc", "abc"]
    assert "model.safetensors" in asked[0][1] and asked[1][1] == hub.PICKLED
    (tmp_path / "model.safetensors").touch()
    hub.download("laion/clap")
    assert len(asked) == 3


# the rules


def test_rules_rename_join_and_drop() -> None:
    rules = (Rename(r"q\.(\w+)", r"qkv.\1#0"), Rename(r"k\.(\w+)", r"qkv.\1#1"), Drop("ids", "counted"))
    tensors = {"m.k.w": torch.ones(1, 2), "m.ids": torch.zeros(1), "m.q.w": torch.zeros(1, 2), "s": torch.zeros(())}
    out = remap(tensors, (*prefixed(rules, r"m\.", "ours."), Rename("s", "scale")), "here")
    assert {k: v.tolist() for k, v in out.items()} == {"ours.qkv.w": [[0.0, 0.0], [1.0, 1.0]], "scale": 0.0}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["x"], r"here is not of the family it was read as: unknown x \(1,\)"),
        (["a.b", "a.c"], r"a\.c gives t a second time"),
        (["q.w", "v.w"], r"qkv has the parts \[0, 2\]"),
        (["idsx"], "unknown idsx"),
    ],
)
def test_rules_name_what_does_not_fit(names: list[str], message: str) -> None:
    rules = (Rename(r"a\..", "t"), Rename(r"q\.w", "qkv#0"), Rename(r"v\.w", "qkv#2"), Drop("ids", "counted"))
    with pytest.raises(ClaraError, match=message):
        remap({name: torch.zeros(1) for name in names}, rules, "here")


def test_converters_are_listed_and_state_a_licence() -> None:
    names = convert.families()
    assert {"transformers", "laion"} <= set(names)
    assert all(convert.CONVERTERS[name].licence for name in names)
