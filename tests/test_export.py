"""Graphs of ONNX: the vectors of torch, run where torch is not imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import save_tiny
from typer.testing import CliRunner

import clara
from clara.cli import app
from clara.errors import ClaraError
from clara.text.normal import normal
from clara.zoo.lineage import statement

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
from clara.zoo.export import export_onnx

TEXTS = ["a dog", "ein sehr langer Text, " * 40, "Ｄｏｇ’s  rain\u00ad"]


@pytest.fixture(scope="module", params=["test-conv", "test-whisper-own"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[clara.Embedder, Path]:
    work = tmp_path_factory.mktemp("export")
    zoo = clara.load(f"dir:{save_tiny(work / 'tiny', request.param)}", "cpu")
    return zoo, export_onnx(zoo, work / "onnx")


def waves(zoo: clara.Embedder) -> list[tuple[np.ndarray, int]]:
    rate, window = zoo.model.front_end.sample_rate, zoo.model.front_end.window_seconds
    rng = np.random.default_rng(0)
    return [
        (rng.uniform(-0.3, 0.3, round(s * rate)).astype(np.float32), rate)
        for s in (0.01, 0.3, 0.99 * window, window, 2.5 * window)
    ]


def test_vectors_are_those_of_torch(exported: tuple[clara.Embedder, Path]) -> None:
    zoo, folder = exported
    graphs = clara.load(f"onnx:{folder}")
    np.testing.assert_allclose(graphs.embed_audio(waves(zoo)), zoo.embed_audio(waves(zoo)).numpy(), atol=1e-5)
    with pytest.warns(UserWarning, match="longer than this model"):
        expected = zoo.embed_text(TEXTS).numpy()
    np.testing.assert_allclose(graphs.embed_text(TEXTS), expected, atol=1e-5)
    for ours, theirs in zip(zoo.embed_windows(waves(zoo)[-1]), graphs.embed_windows(waves(zoo)[-1])):
        np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-5)
    assert graphs.sha256 == zoo.sha256 and graphs.scale == pytest.approx(zoo.scale)


def test_no_torch_is_imported(exported: tuple[clara.Embedder, Path], wav) -> None:
    _, folder = exported
    code = "import sys, clara; m = clara.load(sys.argv[1]); x = m.embed_audio(sys.argv[2])"
    code += "; print((x @ m.embed_text('a').T).shape)"
    code += "; assert not {'torch', 'transformers'} & set(sys.modules)"
    run = subprocess.run([sys.executable, "-c", code, f"onnx:{folder}", str(wav())], capture_output=True, text=True)
    assert run.stdout.strip() == "(1, 1)", run.stderr


def test_card_and_licence_go_with_it(exported: tuple[clara.Embedder, Path]) -> None:
    _, folder = exported
    said = statement(f"dir:{folder}")
    assert said is not None and said.license == "cc0-1.0"
    assert {p.name for p in folder.iterdir()} >= {"audio.onnx", "text.onnx", "onnx.json", "README.md"}


def test_int8_is_near(exported: tuple[clara.Embedder, Path], tmp_path: Path) -> None:
    zoo, _ = exported
    result = CliRunner().invoke(app, ["export", zoo.name, str(tmp_path / "small"), "--to", "onnx", "--int8"])
    assert result.exit_code == 0 and "onnx:" in result.stdout, result.output
    graphs = clara.load(f"onnx:{tmp_path / 'small'}")
    assert "int8" in repr(graphs)
    assert ((graphs.embed_audio(waves(zoo)) * zoo.embed_audio(waves(zoo)).numpy()).sum(1) > 0.95).all()


def test_what_does_not_fit_is_refused(exported: tuple[clara.Embedder, Path], tmp_path: Path) -> None:
    zoo, folder = exported
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(ClaraError, match="is not empty"):
        export_onnx(zoo, tmp_path / "other")
    with pytest.raises(ClaraError, match="No ONNX export"):
        clara.load(f"onnx:{tmp_path}")
    with pytest.raises(ClaraError, match="runs on the CPU"):
        clara.load(f"onnx:{folder}", device="cuda")
    graphs = clara.load(f"onnx:{folder}")
    for texts in ([], [""], [3]):
        with pytest.raises(ClaraError, match="expected"):
            graphs.embed_text(texts)
    about = json.loads((folder / "onnx.json").read_text())
    (tmp_path / "onnx.json").write_text(json.dumps({**about, "version": 9}))
    with pytest.raises(ClaraError, match="version 9"):
        clara.load(f"onnx:{tmp_path}")
    (tmp_path / "onnx.json").write_text(json.dumps(about))
    with pytest.raises(ClaraError, match="export the checkpoint again"):
        clara.load(f"onnx:{tmp_path}")
    assert normal(" a ") == "a"
