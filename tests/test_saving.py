"""A checkpoint is saved whole or not at all."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError
from tiny import CARD, save_tiny

import clara
from clara.config import arch_config
from clara.errors import ClaraError
from clara.text.tokenizer import build_tokenizer
from clara.zoo.factory import create_model, load_checkpoint, save_checkpoint
from clara.zoo.lineage import statement


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


def test_licence_and_training_data_go_with_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tiny(tmp_path / "start")
    trained_on = "trained_on: [{corpus: esc50, folds: [1, 2]}]"
    card = f"---\nlicense: CC BY-NC 4.0\n{trained_on}\nheld_out: {{emodb: never opened}}\n---\n"
    (tmp_path / "start" / "README.md").write_text(card)
    zoo = clara.load(f"dir:{tmp_path / 'start'}", "cpu")
    sent: list[tuple[str, bool, set[str], str]] = []

    class Hub:
        def create_repo(self, repo: str, private: bool, exist_ok: bool) -> None:
            if repo == "not/mine":
                raise OSError("403 Forbidden")

        def upload_folder(self, repo_id: str, folder_path: Path, commit_message: str) -> SimpleNamespace:
            files = {p.name for p in folder_path.iterdir()}
            sent.append((repo_id, True, files, (folder_path / "README.md").read_text()))
            return SimpleNamespace(oid="abc")

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    assert zoo.push_to_hub("me/copy") == "hf:me/copy@abc"
    assert {"clara.yaml", "model.safetensors", "README.md"} <= sent[0][2] and "CC BY-NC 4.0" in sent[0][3]
    with pytest.raises(ClaraError, match="log in"):
        zoo.push_to_hub("not/mine")
    zoo.save_pretrained(tmp_path / "copy")
    said = statement(f"dir:{tmp_path / 'copy'}")
    assert said is not None and said.license == "CC BY-NC 4.0" and said.held_out == {"emodb": "never opened"}
    assert [(t.corpus, t.folds) for t in said.trained_on or ()] == [("esc50", (1, 2))]
    assert torch.allclose(clara.load(f"dir:{tmp_path / 'copy'}").embed_text("a"), zoo.embed_text("a"), atol=2e-3)
