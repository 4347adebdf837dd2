"""The server: answers, batches of concurrent requests, limits, refusals, the page."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from test_search import folder  # noqa: F401 - a fixture
from tiny import tiny_zoo

from clara.apps.search import Index
from clara.errors import ClaraError
from clara.zoo.embedder import Embedder

pytest.importorskip("fastapi")
pytest.importorskip("python_multipart")
pytest.importorskip("prometheus_client")
pytest.importorskip("httpx")
from fastapi.testclient import TestClient

from clara.apps.batching import Batcher, Busy
from clara.apps.server import ServeConfig, create_app


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return tiny_zoo(tmp_path_factory.mktemp("server"))


@pytest.fixture
def client(zoo: Embedder, folder: Path):  # noqa: F811
    config = ServeConfig(most_mib=1, most_seconds=20, wait_ms=50)
    with TestClient(create_app(zoo, Index.build(zoo, folder), config)) as made:
        yield made


def sound(folder: Path, name: str = "400.wav") -> dict[str, bytes]:  # noqa: F811
    return {"file": (folder / name).read_bytes()}


def test_answers_are_those_of_the_library(client: TestClient, zoo: Embedder, folder: Path) -> None:  # noqa: F811
    made = client.post("/embed", files=sound(folder)).json()
    torch.testing.assert_close(torch.tensor(made["embedding"]), zoo.embed_audio(folder / "400.wav")[0])
    assert made["seconds"] == 0.5
    texts = client.post("/embed-text", json={"texts": ["a", "雨"]}).json()["embeddings"]
    torch.testing.assert_close(torch.tensor(texts), zoo.embed_text(["a", "雨"]))
    named = client.post("/classify", files=sound(folder), data={"labels": ["a dog", "雨"], "top": 2}).json()
    assert {s["name"] for s in named["top"]} == {"a dog", "雨"} and named["label"] == named["top"][0]["label"]
    task = client.post("/classify", files=sound(folder), data={"task": "emotion", "language": "de"}).json()
    assert len(task["top"]) == 3
    hits = client.post("/search", files=sound(folder), data={"top": 2}).json()
    assert hits[0]["file"].endswith("400.wav") and hits[0]["score"] == pytest.approx(1, abs=1e-3) and len(hits) == 2
    both = client.post("/search", files=sound(folder), data={"text": "a", "weight": 0.2, "unlike": ["b"]})
    assert len(both.json()) == 5
    assert isinstance(client.post("/find", files=sound(folder), data={"texts": ["a"], "threshold": 0.01}).json(), list)


def test_concurrent_requests_are_batched_and_none_is_lost(client: TestClient, folder: Path) -> None:  # noqa: F811
    alone = client.post("/embed", files=sound(folder)).json()["embedding"]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.post("/embed", files=sound(folder)), range(24)))
    assert [a.status_code for a in answers] == [200] * 24
    for answer in answers:
        np.testing.assert_allclose(answer.json()["embedding"], alone, atol=1e-5)
    text = client.get("/metrics").text
    count, total = (float(next(x for x in text.splitlines() if x.startswith(n)).split()[1]) for n in
                    ("clara_batch_count", "clara_batch_sum"))  # fmt: skip
    assert total == 25 and count < 25
    assert 'clara_requests_total{route="/embed",status="200"} 25.0' in text


def test_health_docs_and_refusals(client: TestClient, folder: Path) -> None:  # noqa: F811
    assert client.get("/health").json()["ok"] is True
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/embed", "/embed-text", "/classify", "/search", "/find"} <= paths.keys()
    for data in (b"", b"no audio", b"RIFF" + bytes(100), (folder / "400.wav").read_bytes()[:60]):
        answer = client.post("/embed", files={"file": data})
        assert answer.status_code == 400 and answer.json()["error"], data[:20]
    assert client.post("/embed", files={"file": bytes(2 * 2**20)}).status_code == 413

    def endless():
        for _ in range(64):
            yield bytes(2**16)

    kind = {"content-type": "multipart/form-data; boundary=x"}
    assert client.post("/embed", content=endless(), headers=kind).status_code == 413
    assert client.post("/embed", content=b"--x", headers=kind).status_code in (400, 422)
    assert client.post("/embed").status_code == 422
    assert client.post("/classify", files=sound(folder)).status_code == 400
    assert client.post("/search").status_code == 400
    assert "where" in client.post("/search", data={"text": "a", "where": "x = 1"}).json()["error"]
    assert client.post("/embed", files=sound(folder)).status_code == 200


def test_long_recordings_are_refused(client: TestClient, wav) -> None:
    answer = client.post("/embed", files={"file": wav(25.0, rate=8000).read_bytes()})
    assert answer.status_code == 413 and "longer than 20 s" in answer.json()["error"]


def test_a_request_that_takes_too_long_is_ended(zoo: Embedder, folder: Path) -> None:  # noqa: F811
    app = create_app(zoo, None, ServeConfig(timeout=0.2))
    free = threading.Event()
    with TestClient(app) as client:
        app.state.service.batcher.run(free.wait)
        assert client.post("/embed", files=sound(folder)).status_code == 504
        free.set()
        assert "no index" in client.post("/search", data={"text": "a"}).json()["error"]


def test_a_full_queue_is_busy_and_a_broken_wave_spoils_no_other(zoo: Embedder) -> None:
    batcher, free = Batcher(zoo, 8, 200.0, 2), threading.Event()
    batcher.run(free.wait)
    while batcher.waiting:
        pass
    good = batcher.embed(np.ones(8000, np.float32))
    bad = batcher.embed(np.full(8000, np.nan, np.float32))
    with pytest.raises(Busy, match="try again"):
        batcher.embed(np.ones(8000, np.float32))
    free.set()
    assert good.result(60).isfinite().all()
    with pytest.raises(ClaraError, match="finite"):
        bad.result(60)
    batcher.close()
    assert not batcher.alive


def test_the_page(zoo: Embedder, folder: Path) -> None:  # noqa: F811
    pytest.importorskip("gradio")
    pytest.importorskip("matplotlib")
    from clara.apps.web_page import Page, mount

    app = create_app(zoo, Index.build(zoo, folder))
    with TestClient(mount(app)) as client:
        assert client.get("/", follow_redirects=False).headers["location"] == "/ui"
        assert "gradio" in client.get("/ui/").text.lower()
        assert client.get("/health").status_code == 200
        page = Page(app.state.service)
        assert set(page.name(str(folder / "400.wav"), "a dog, 雨")) == {"a dog", "雨"}
        figure, rows = page.find(str(folder / "400.wav"), "a dog", 0.01)
        assert figure is not None and isinstance(rows, list)
        players = page.search("a dog", None, 0.5, "")
        assert [p.visible for p in players] == [True] * 5 + [False]
        with pytest.raises(Exception, match="Record or drop"):
            page.name(None, "a, b")
