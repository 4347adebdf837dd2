"""A checkpoint is saved whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from tiny import CARD, save_tiny

from clara.config import arch_config
from clara.errors import ClaraError
from clara.text.tokenizer import build_tokenizer
from clara.zoo.factory import create_model, load_checkpoint, save_checkpoint


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("error", [SafetensorError("No space left (os error 28)"), OSError(28, "No space left")])
def test_a_full_disk_is_one_error_and_the_older_checkpoint_stays(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensors: object, path: Path, **options: object) -> None:
        Path(path).write_bytes(b"half")
        raise error

    folder = save_tiny(tmp_path / "a")
    before = contents(folder)
    model, tokenizer = create_model("test-perceiver"), build_tokenizer(arch_config("test-perceiver").tokenizer)
    monkeypatch.setattr("clara.zoo.factory.save_file", full)
    with pytest.raises(ClaraError, match=r"a cannot be written .*No space left.*: make room"):
        save_checkpoint(folder, model, tokenizer, "another card")
    assert contents(folder) == before
    monkeypatch.undo()
    save_checkpoint(folder, model, tokenizer, "another card")
    assert (folder / "README.md").read_text() == "another card"
    assert load_checkpoint(folder).model.config.audio.kind == "perceiver"
    assert [p for p in folder.iterdir() if p.name.startswith(".")] == []


def test_a_checkpoint_is_saved_over_itself(tmp_path: Path) -> None:
    loaded = load_checkpoint(save_tiny(tmp_path))
    before = contents(tmp_path)
    with torch.no_grad():
        loaded.model.log_scale.add_(0.5)
    save_checkpoint(tmp_path, loaded.model, loaded.tokenizer, CARD)
    after = contents(tmp_path)
    assert {n for n in after if after[n] != before[n]} == {"model.safetensors"} and after.keys() == before.keys()
