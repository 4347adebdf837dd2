"""int8 files, and checkpoints that share a text tower."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import CARD, save_tiny

from clara.config import load_yaml
from clara.errors import ClaraError
from clara.zoo.factory import convert_checkpoint, get_tokenizer, load_checkpoint, save_checkpoint, share_text
from clara.zoo.storage import read_tensors, stored


def test_int8_keeps_every_row_to_half_a_step(tmp_path: Path) -> None:
    t = torch.randn(64, 16, 5) * torch.logspace(-6, 3, 64)[:, None, None]
    t[7] = 0.0
    save_file(stored("w", t, torch.int8), tmp_path / "x.safetensors")
    assert load_file(tmp_path / "x.safetensors")["w"].dtype == torch.int8
    read = read_tensors(tmp_path / "x.safetensors")
    assert read.keys() == {"w"} and read["w"].dtype == torch.float32
    largest = t.abs().amax((1, 2))
    allowed = torch.maximum(0.55 * largest / 127, torch.tensor(4e-5))
    assert ((read["w"] - t).abs().amax((1, 2)) <= allowed).all()
    assert (read["w"][7] == 0).all()


def test_a_checkpoint_in_int8_is_small_and_nearly_the_same(tmp_path: Path) -> None:
    loaded = load_checkpoint(save_tiny(tmp_path / "a"))
    small = save_checkpoint(tmp_path / "b", loaded.model, loaded.tokenizer, CARD, storage="int8")
    sizes = [(f / "model.safetensors").stat().st_size for f in (tmp_path / "a", small)]
    assert sizes[1] < 0.75 * sizes[0]  # of so small a model much is vectors
    ids = loaded.tokenizer(["a dog", "rain on a roof"])
    with torch.no_grad():
        cosine = (load_checkpoint(small).model.encode_text(*ids) * loaded.model.encode_text(*ids)).sum(1)
    assert (cosine > 0.999).all()
    with pytest.raises(ClaraError, match="Unknown storage 'int4'"):
        save_checkpoint(tmp_path / "c", loaded.model, loaded.tokenizer, CARD, storage="int4")


def test_an_own_checkpoint_is_converted_to_int8_with_its_card(tmp_path: Path) -> None:
    own = save_tiny(tmp_path / "a")
    (own / "README.md").write_text("---\nlicense: CC0\n---\n# a\n", encoding="utf-8")
    small = convert_checkpoint(own, tmp_path / "b", storage="int8")
    assert "int8" in {str(t.dtype).removeprefix("torch.") for t in load_file(small / "model.safetensors").values()}
    assert (small / "README.md").read_text(encoding="utf-8") == "---\nlicense: CC0\n---\n# a\n"
    with pytest.raises(ClaraError, match="neither a converter nor another tokenizer"):
        convert_checkpoint(own, tmp_path / "c", family="glap")


def test_int8_files_are_read_strictly(tmp_path: Path) -> None:
    loaded = load_checkpoint(save_tiny(tmp_path / "a"))
    folder = save_checkpoint(tmp_path / "b", loaded.model, loaded.tokenizer, CARD, storage="int8")
    path = folder / "model.safetensors"
    good = load_file(path)
    scale = good["text.tokens.weight.scale"]
    for bad, found in ((None, "nothing"), (scale.float(), "torch.float32"), (scale[1:].clone(), "float16 \\(319,\\)")):
        changed = {**good, "text.tokens.weight.scale": bad}
        save_file({k: v for k, v in changed.items() if v is not None}, path)
        with pytest.raises(ClaraError, match=f"text.tokens.weight is int8 and needs .*found .*{found}"):
            load_checkpoint(folder)
    save_file({**good, "log_scale": good["log_scale"].to(torch.uint8)}, path)
    with pytest.raises(ClaraError, match=r"types that no checkpoint has: log_scale \(torch.uint8\)"):
        load_checkpoint(folder)
    save_file({**good, "audio_head.bias.scale": scale.clone()}, path)
    with pytest.raises(ClaraError, match=r"unexpected audio_head\.bias\.scale"):
        load_checkpoint(folder)
    with pytest.raises(ClaraError, match="NaN or infinite"):
        stored("w", torch.full((64, 64), 1e9), torch.int8)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two checkpoints, the second with another audio side, which shares the first's text side."""
    base = save_tiny(tmp_path / "clara.base")
    loaded = load_checkpoint(base)
    with torch.no_grad():
        for p in loaded.model.audio.parameters():
            p.mul_(1.1)
    second = save_checkpoint(tmp_path / "clara.two", loaded.model, loaded.tokenizer, CARD)
    return base, share_text(second, base)


def test_a_shared_text_tower_is_stored_once(pair: tuple[Path, Path], tmp_path: Path) -> None:
    base, second = pair
    assert not [n for n in load_file(second / "model.safetensors") if n.startswith("text")]
    assert sorted(p.name for p in second.iterdir()) == ["README.md", "clara.yaml", "model.safetensors"]
    one, two = load_checkpoint(base), load_checkpoint(second)
    state = one.model.state_dict()
    same = {n for n, t in two.model.state_dict().items() if torch.equal(t, state[n])}
    assert {n for n in state if n.startswith("text")} <= same
    assert "audio_head.weight" in same and "audio.stem.weight" not in same
    assert two.sha256 != one.sha256
    assert get_tokenizer(f"dir:{second}").encode("a dog") == one.tokenizer.encode("a dog")
    whole = save_checkpoint(tmp_path / "elsewhere" / "whole", two.model, two.tokenizer, CARD)
    assert "text_from" not in load_yaml(whole / "clara.yaml")
    again = load_checkpoint(whole).model.state_dict()
    assert all(torch.equal(t, again[n]) for n, t in two.model.state_dict().items())


def test_a_missing_or_changed_sibling_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    base, second = pair
    alone = shutil.copytree(second, tmp_path / "far" / "clara.two")
    with pytest.raises(ClaraError, match=r"takes its text tower from the checkpoint 'clara.base', which is neither"):
        load_checkpoint(alone)
    weights = load_file(base / "model.safetensors")
    weights["text.norm.weight"] += 1
    save_file(weights, base / "model.safetensors")
    with pytest.raises(ClaraError, match=r"clara\.base has .*another version"):
        load_checkpoint(second)
    with pytest.raises(ClaraError, match="another version"):
        get_tokenizer(f"dir:{second}")


def test_only_equal_text_sides_are_shared(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "a")
    loaded = load_checkpoint(base)
    with torch.no_grad():
        loaded.model.text.norm.weight.add_(0.5)
    other = save_checkpoint(tmp_path / "b", loaded.model, loaded.tokenizer, CARD)
    with pytest.raises(ClaraError, match="different text sides"):
        share_text(other, base)
    with pytest.raises(ClaraError, match="would not be found again"):
        share_text(shutil.copytree(base, tmp_path / "deep" / "d"), base)
    assert load_checkpoint(other)
    (text := load_file(tmp_path / "b" / "model.safetensors")).pop("log_scale")
    share_text(shutil.copytree(base, tmp_path / "c"), base)
    save_file(text, tmp_path / "c" / "model.safetensors")
    with pytest.raises(ClaraError, match="and more of a text tower"):
        load_checkpoint(tmp_path / "c")
