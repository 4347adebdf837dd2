"""Our retrieval figures against the evaluation code of LAION-CLAP, WavCaps and GLAP, on the same random embeddings.

CLARA_PEER_EVAL names a folder with `laion/train.py` (LAION-AI/CLAP src/laion_clap/training), `wavcaps/utils.py`
(XinhaoMei/WavCaps retrieval/tools) and `glap/metrics.py` (xiaomi-research/dasheng-glap glap_model). Only the functions
that compute figures are run, from their source, so that nothing of these projects need be installed.
"""

from __future__ import annotations

import ast
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Optional

import numpy as np
import pytest
import torch

from clara import metrics

pytestmark = pytest.mark.peers
FOLDER = os.environ.get("CLARA_PEER_EVAL")
CAPTIONS = 5


class AnyShape:
    """Stands for the shape annotations of GLAP."""

    def __getitem__(self, shape: str) -> type:
        return torch.Tensor


def peer_functions(file: str, names: tuple[str, ...], **names_in_file: Any) -> SimpleNamespace:
    """The named functions of a peer's file, compiled from their source alone."""
    if not FOLDER or not (Path(FOLDER) / file).is_file():
        pytest.skip(f"CLARA_PEER_EVAL is not set to a folder with {file}")
    tree = ast.parse((Path(FOLDER) / file).read_text(encoding="utf-8"))
    tree.body = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name in names]
    space = {"np": np, "torch": torch, "F": torch.nn.functional, "List": list, "Optional": Optional, **names_in_file}
    exec(compile(tree, file, "exec"), space)
    return SimpleNamespace(**{n: space[n] for n in names})


@pytest.fixture(params=[0.3, 1.0, 3.0], ids=["near", "middling", "far"])
def embeddings(request: pytest.FixtureRequest) -> tuple[torch.Tensor, torch.Tensor]:
    """60 clips and five captions each, unit length, the captions at three distances from their clips."""
    generator = torch.Generator().manual_seed(int(request.param * 10))
    audio = torch.nn.functional.normalize(torch.randn(60, 16, generator=generator), dim=-1)
    noise = torch.randn(60 * CAPTIONS, 16, generator=generator) / 4
    return audio, torch.nn.functional.normalize(audio.repeat_interleave(CAPTIONS, 0) + request.param * noise, dim=-1)


def ours(audio: torch.Tensor, text: torch.Tensor) -> dict[str, dict[str, float]]:
    return metrics.retrieval(text.double() @ audio.double().T, np.arange(60).repeat(CAPTIONS))


def test_laion(embeddings: tuple[torch.Tensor, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    audio, text = embeddings
    peer = peer_functions(
        "laion/train.py", ("evaluate_clotho_audiocaps",), logging=SimpleNamespace(info=lambda *a: None)
    )
    module = ModuleType("clap_module")
    module.tokenize = lambda rows: rows
    monkeypatch.setitem(sys.modules, "clap_module", module)

    def model(audios: Any, texts: Any, device: str) -> Any:
        if audios is None and texts is None:
            return torch.tensor(10.0), torch.tensor(10.0)
        return texts if audios is None else audios["rows"]

    class Batch(dict):
        pass

    batches = [
        Batch(
            rows=audio[i : i + 20],
            full_text=text[5 * i : 5 * i + 100].split(CAPTIONS),
            __url__=["x/set/test/0.tar"] * 20,
        )
        for i in (0, 20, 40)
    ]
    data = {"val": SimpleNamespace(dataloader=batches)}
    args = SimpleNamespace(tmodel="transformer")
    (found,) = peer.evaluate_clotho_audiocaps(model, data, 0, args, nullcontext, "cpu").values()
    found, got = {k.split("/")[1]: float(v) for k, v in found.items()}, ours(audio, text)
    for way, name in (("t2a", "text_to_audio"), ("a2t", "audio_to_text")):
        for key in ("R@1", "R@5", "R@10", "mAP@10"):
            if (way, key) != ("a2t", "mAP@10"):
                assert got[way][key] == pytest.approx(found[f"{name}_{key}"], abs=1e-9), (way, key)
    # LAION numbers a clip's captions in the order of the file, not of their ranks (as its comment, WavCaps and GLAP
    # have it): what it calls mAP@10 of this way may exceed 1
    sim = (audio.double() @ text.double().T).numpy()
    unsorted = []
    for a in range(60):
        order = np.argsort(-sim[a])
        ranks = np.array([np.flatnonzero(order == t)[0] + 1 for t in range(5 * a, 5 * a + 5)])
        kept = ranks[ranks <= 10]
        unsorted.append((np.arange(1, len(kept) + 1) / kept).sum() / CAPTIONS)
    assert found["audio_to_text_mAP@10"] == pytest.approx(float(np.mean(unsorted)), abs=1e-9)


def test_wavcaps(embeddings: tuple[torch.Tensor, torch.Tensor]) -> None:
    audio, text = embeddings
    cosines = SimpleNamespace(cos_sim=lambda a, b: torch.atleast_2d(a) @ torch.atleast_2d(b).T)
    peer = peer_functions("wavcaps/utils.py", ("a2t", "t2a"), util=cosines)
    repeated, got = audio.repeat_interleave(CAPTIONS, 0).numpy(), ours(audio, text)
    for way, found in (("t2a", peer.t2a(repeated, text.numpy())), ("a2t", peer.a2t(repeated, text.numpy()))):
        r1, r5, r10, _, median, _, map10 = found
        assert [got[way][k] * 100 for k in ("R@1", "R@5", "R@10", "mAP@10")] == pytest.approx([r1, r5, r10, map10])
        assert np.floor(got[way]["median_rank"] - 1) + 1 == median


def test_glap(embeddings: tuple[torch.Tensor, torch.Tensor]) -> None:
    audio, text = embeddings
    peer = peer_functions("glap/metrics.py", ("cos_sim", "clap_metrics2"), Float=AnyShape())
    found, got = peer.clap_metrics2(audio.repeat_interleave(CAPTIONS, 0), text, num_caps=CAPTIONS), ours(audio, text)
    for way in ("t2a", "a2t"):
        for key, name in (("R@1", "r1"), ("R@5", "r5"), ("R@10", "r10"), ("mAP@10", "mAP10")):
            assert got[way][key] * 100 == pytest.approx(float(found[way][name])), (way, key)
        assert np.floor(got[way]["median_rank"] - 1) + 1 == found[way]["medr"]
