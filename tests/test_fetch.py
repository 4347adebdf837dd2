"""Checkpoints in their makers' own format, loaded by name: downloaded, checked, converted once."""

from __future__ import annotations

import os
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from claps import save_roberta
from golden.clips import clip
from huggingface_hub import errors
from test_laion import golden_of
from typer.testing import CliRunner

import clara
from clara.cli import app
from clara.errors import ClaraError
from clara.saving import sha256_of
from clara.zoo import catalog, factory
from clara.zoo.fetch import place

NAME = "htsat-tiny_roberta.laion-630k-audioset"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub's with a tiny file of LAION's, named by its hash as there; returns the link to it."""
    state, _ = golden_of("unfused")
    blobs, link = tmp_path / "blobs", tmp_path / "snapshots" / "main" / "630k-audioset-best.pt"
    blobs.mkdir()
    link.parent.mkdir(parents=True)
    torch.save({"epoch": 3, "state_dict": state}, blobs / "new")
    blob = blobs / sha256_of(blobs / "new")
    (blobs / "new").rename(blob)
    os.symlink(blob, link)
    (tmp_path / "work" / "FacebookAI").mkdir(parents=True)
    save_roberta(tmp_path / "work" / "FacebookAI" / "roberta-base")  # its tokenizer comes from the hub too
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("CLARA_CACHE", str(tmp_path / "cache"))
    asked: list[tuple[str, str, str]] = []

    def download(repo: str, name: str, revision: str) -> str:
        asked.append((repo, name, revision))
        assert asked == [("lukewys/laion_clap", "630k-audioset-best.pt", "main")], "downloaded again"
        return str(link)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return link


def test_downloaded_checked_and_converted_once(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert place(catalog.checkpoint(NAME)) == "downloadable"
    zoo = clara.load(NAME, "cpu")
    assert zoo.name == NAME and place(catalog.checkpoint(NAME)) == "local"
    again = clara.load(NAME, "cpu")  # the fixture refuses a second download
    wave = (clip(3.0, 48000, 0), 48000)
    torch.testing.assert_close(zoo.embed_audio([wave]), again.embed_audio([wave]))
    assert zoo.embed_text(["a dog"]).isfinite().all() and np.isfinite(zoo.scale)
    card = (hub.parents[2] / "cache" / NAME / factory.CARD).read_text(encoding="utf-8")
    assert sha256_of(hub) in card and "converter: laion" in card


def test_another_hash_is_refused(hub: Path) -> None:
    blob = hub.resolve()
    blob.write_bytes(blob.read_bytes()[:-1000])
    with pytest.raises(ClaraError, match=rf"has sha256 [0-9a-f]{{64}}, and the hub states {blob.name}.*Delete"):
        clara.load(NAME, "cpu")
    assert place(catalog.checkpoint(NAME)) == "downloadable"


def test_what_the_card_states_goes_first(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head, body = catalog.card(NAME)
    monkeypatch.setattr(catalog, "card", lambda name: ({**head, "sha256": "0" * 64}, body))
    with pytest.raises(ClaraError, match=r"and its card states 0{64}"):
        clara.load(NAME, "cpu")


@pytest.mark.parametrize("error", [errors.OfflineModeIsEnabled("off"), OSError("no network")])
def test_without_a_network_it_says_what_to_do(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setenv("CLARA_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(ClaraError) as e:
        clara.load(NAME, "cpu")
    for part in ("hub cannot be reached", "resolve/main/630k-audioset-best.pt", "clara convert 630k-audioset-best.pt"):
        assert part in str(e.value)


def test_list_marks_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLARA_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    shown = CliRunner().invoke(app, ["list"]).stdout
    lines = {line.split()[0]: line.split()[1] for line in shown.splitlines()}
    assert lines["clara-base.v1"] == "local"
    assert lines[NAME] == lines["htsat-tiny_roberta.clap-htsat-unfused"] == "downloadable"
    assert lines["dasheng_sonar.glap"] == "convertible"
    repo, _, revision = catalog.checkpoint("htsat-tiny_roberta.clap-htsat-unfused").source[3:].partition("@")
    snapshot = tmp_path / "hub" / huggingface_hub.file_download.repo_folder_name(repo_id=repo, repo_type="model")
    (snapshot / "snapshots" / revision).mkdir(parents=True)
    (snapshot / "snapshots" / revision / "config.json").write_text("{}")
    assert CliRunner().invoke(app, ["list", "*.clap-htsat-unfused"]).stdout.split()[1] == "local"
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "clara.yaml").write_text("")
    assert f"{NAME}  " in CliRunner().invoke(app, ["list", NAME]).stdout
    assert CliRunner().invoke(app, ["list", NAME]).stdout.split()[1] == "local"
    with pytest.raises(ClaraError, match="is published in its makers' own format"):
        clara.load("dasheng_sonar.glap")
