"""Cards say what the checkpoint is, with nothing left empty and nothing that the files contradict."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from clara.text.prompts import languages
from clara.zoo import catalog
from clara.zoo.factory import checkpoint_folder, load_checkpoint

CARDS = Path(__file__).parents[1] / "model_cards"
KEYS = {"name", "architecture", "license", "languages", "sample_rate", "window_seconds", "embed_dim", "parameters"}
KEYS |= {"sha256", "corpora", "figures"}


def front_matter(name: str) -> tuple[dict, str]:
    _, head, body = (CARDS / f"{name}.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head), body


@pytest.mark.parametrize("name", catalog.list_pretrained())
def test_a_card_is_complete(name: str) -> None:
    data, body = front_matter(name)
    row = catalog.checkpoint(name)
    assert set(data) >= KEYS and all(data[k] not in (None, "", []) for k in KEYS)
    assert data["name"] == name and data["license"] == row.license and data["sample_rate"] == row.sample_rate
    assert tuple(data["languages"]) == row.languages and set(row.languages) <= set(languages())
    assert [c["name"] for c in data["corpora"]] == list(row.corpora)
    assert all(c["license"] and c["clips"] > 0 for c in data["corpora"])
    for figure in data["figures"]:
        assert all(figure.get(k) not in (None, "") for k in ("what", "metric", "value", "checkpoint", "command")), (
            figure
        )
    for line in body.splitlines():
        if line.startswith("|"):
            assert all(cell.strip() for cell in line.strip("|").split("|")), line
    assert not re.search(r"TODO|TBD|\?\?\?", body)


@pytest.mark.parametrize("name", [n for n in catalog.list_pretrained() if catalog.checkpoint(n).source == "package"])
def test_a_card_agrees_with_the_files(name: str) -> None:
    data, _ = front_matter(name)
    folder = checkpoint_folder(catalog.parse_name(name))
    loaded = load_checkpoint(folder)
    assert data["sha256"] == loaded.sha256
    assert data["parameters"] == sum(p.numel() for p in loaded.model.parameters())
    assert data["embed_dim"] == loaded.model.config.embed_dim
    assert data["window_seconds"] == loaded.model.front_end.window_seconds
    assert (folder / "README.md").read_text(encoding="utf-8") == (CARDS / f"{name}.md").read_text(encoding="utf-8")
    assert sum(f.stat().st_size for f in folder.iterdir()) < 40e6


def test_no_card_without_a_checkpoint() -> None:
    assert {p.stem for p in CARDS.glob("*.md")} == set(catalog.list_pretrained())
