"""A model behind HTTP: embed, classify, search and find, with limits, health and metrics. Needs the extra `serve`.

Annotations are evaluated here (no `from __future__`): FastAPI reads them, and fastapi is imported where it is needed.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
from torch import Tensor

from clara.apps.batching import Batcher, Busy
from clara.apps.classifier import Classifier
from clara.apps.hit_files import records
from clara.apps.query import Hits, Searchable
from clara.audio import waveform
from clara.errors import ClaraError, require
from clara.zoo.embedder import Embedder
from clara.zoo.events import FindConfig, Timeline

OVERHEAD = 64 * 1024  # bytes of a form beside its file
CLASSIFIERS = 64  # sets of labels whose texts are kept embedded
MOST_TEXTS = 256  # of a request
UPLOAD = "A recording: wav, flac, ogg, mp3, m4a, mp4, webm …"


@dataclass(frozen=True)
class ServeConfig:
    """Limits of a server."""

    most_mib: float = 25.0
    """Largest upload, MiB."""
    most_seconds: float = 600.0
    """Longest recording, seconds."""
    timeout: float = 60.0
    """Most seconds that a request takes."""
    batch: int = 16
    """Most clips embedded together."""
    wait_ms: float = 5.0
    """How long the first clip of a batch waits for others, milliseconds."""
    queue: int = 256
    """Requests that may wait; those beyond are told to come back (503)."""


class TooLong(ClaraError):
    """A recording beyond the limit."""


class Service:
    """What the routes and the page call: a model, maybe an index, and the thread that runs them."""

    def __init__(self, zoo: Embedder, index: Searchable | None, config: ServeConfig) -> None:
        self.zoo, self.index, self.config = zoo, index, config
        if index is not None:
            index.check(zoo)
        self.metrics = _Metrics()
        self.batcher = Batcher(zoo, config.batch, config.wait_ms, config.queue, self.metrics.batch.observe)
        self.classifier = lru_cache(CLASSIFIERS)(self._classifier)

    def read(self, data: Any) -> np.ndarray:
        """Samples of an upload at the model's rate. ClaraError where it cannot be decoded, TooLong beyond the limit;
        no more than that is ever decoded."""
        rate, most = self.zoo.model.front_end.sample_rate, self.config.most_seconds
        wave = waveform.read(data, rate, seconds=most + 1)
        if len(wave) > most * rate:
            raise TooLong(f"The recording is longer than {most:g} s, the most that this server takes: cut it.")
        return wave

    async def within(self, future: Future[Any]) -> Any:
        """What the model's thread makes. TimeoutError beyond the limit."""
        return await asyncio.wait_for(asyncio.wrap_future(future), self.config.timeout)

    async def decoded(self, data: bytes) -> np.ndarray:
        """`read` in a thread of its own. TimeoutError beyond the limit."""
        return await asyncio.wait_for(asyncio.to_thread(self.read, data), self.config.timeout)

    def _classifier(self, labels: tuple[str, ...], task: str | None, language: str) -> Classifier:
        return Classifier(self.zoo, list(labels) or None, task, language)

    def named(self, embedding_D: Tensor, labels: tuple[str, ...], task: str | None, language: str, top: int) -> Any:
        """Labels, names and scores of an embedded clip, best first."""
        classifier = self.classifier(labels, task, language)
        found = classifier.predict(embedding_D[None])[0]
        scores = [{"label": k, "name": classifier.names[k], "score": round(s, 4)} for k, s in found.top(top)]
        return {"label": found.label, "top": scores}

    def timeline(self, wave: np.ndarray, texts: list[str], threshold: float) -> Timeline:
        """When a recording sounds like texts."""
        rate = self.zoo.model.front_end.sample_rate
        return self.zoo.timeline((wave, rate), texts, config=FindConfig(threshold))

    def hits(
        self, text: str | None, wave: np.ndarray | None, unlike: list[str], weight: float, top: int, where: str | None
    ) -> Hits:
        """Hits of the index. ClaraError without an index."""
        if self.index is None:
            raise ClaraError("This server has no index to search: start it with --index.")
        index = self.index.where(where) if where else self.index
        audio = None if wave is None else (wave, self.zoo.model.front_end.sample_rate)
        return index.query(self.zoo, text=text or None, audio=audio, unlike=unlike, weight=weight, top=top)


class _Metrics:
    """Prometheus' counters, of this server alone."""

    def __init__(self) -> None:
        prometheus = require("prometheus_client", "serve")
        self.registry = prometheus.CollectorRegistry()
        self.requests = prometheus.Counter(
            "clara_requests", "Requests by route and status", ["route", "status"], registry=self.registry
        )
        self.seconds = prometheus.Histogram(
            "clara_seconds", "Seconds until the answer", ["route"], registry=self.registry
        )
        self.batch = prometheus.Histogram(
            "clara_batch", "Clips embedded together", buckets=(1, 2, 4, 8, 16, 32, 64), registry=self.registry
        )
        self.waiting = prometheus.Gauge("clara_waiting", "Jobs that wait for the model", registry=self.registry)

    def text(self) -> bytes:
        """As Prometheus reads it."""
        return require("prometheus_client", "serve").generate_latest(self.registry)


class Limits:
    """ASGI middleware: refuses bodies beyond the limit while they arrive, and counts requests and their seconds."""

    def __init__(self, app: Any, service: Service) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Any) -> None:
        """Serve one request."""
        from fastapi.responses import JSONResponse

        routes = {"/embed", "/embed-text", "/classify", "/search", "/find"}
        if scope["type"] != "http" or scope["path"] not in routes:
            await self.app(scope, receive, send)
            return
        most = self.service.config.most_mib * 2**20 + OVERHEAD
        got, status, over, begin = 0, 500, False, time.perf_counter()

        async def counted() -> Any:
            nonlocal got, over
            message = await receive()
            got += len(message.get("body", b""))
            if got > most:
                over = True
                return {"type": "http.disconnect"}  # whoever parses the body stops
            return message

        async def sent(message: Any) -> None:
            nonlocal status
            if not over:
                status = message.get("status", status)
                await send(message)

        try:
            stated = dict(scope["headers"]).get(b"content-length", b"0")
            over = not stated.isdigit() or int(stated) > most
            if not over:
                await self.app(scope, counted, sent)
            if over:
                status = 413
                about = f"The upload is larger than {self.service.config.most_mib:g} MiB."
                await JSONResponse({"error": about}, 413, {"connection": "close"})(scope, receive, send)
        finally:
            metrics = self.service.metrics
            metrics.requests.labels(scope["path"], status).inc()
            metrics.seconds.labels(scope["path"]).observe(time.perf_counter() - begin)


def status_of(error: Exception) -> int:
    """The status of HTTP for an error of ours."""
    kinds = ((Busy, 503), (TooLong, 413), (ClaraError, 400), (asyncio.TimeoutError, 504))
    return next((status for kind, status in kinds if isinstance(error, kind)), 500)


def create_app(zoo: Embedder, index: Searchable | None = None, config: ServeConfig | None = None) -> Any:
    """The FastAPI application; its page is mounted by `clara.apps.web_page.mount`. MissingDependency without the
    extra, ClaraError for an index of another checkpoint."""
    fastapi = require("fastapi", "serve")
    require("python_multipart", "serve")
    from fastapi.responses import JSONResponse, PlainTextResponse

    service = Service(zoo, index, config or ServeConfig())

    @asynccontextmanager
    async def life(_: Any) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.batcher.close)

    app = fastapi.FastAPI(title="CLARA", description=f"Audio and texts in one space, by {zoo.name}.", lifespan=life)
    app.state.service = service
    app.add_middleware(Limits, service=service)

    async def failed(_: Any, error: Exception) -> JSONResponse:
        about = str(error) if isinstance(error, ClaraError) else "The request took too long."
        return JSONResponse({"error": " ".join(about.split())}, status_of(error))

    app.add_exception_handler(ClaraError, failed)
    app.add_exception_handler(asyncio.TimeoutError, failed)

    @app.get("/health")
    async def health() -> Any:
        """Whether the model's thread runs."""
        up = service.batcher.alive
        body = {"ok": up, "model": zoo.name, "sha256": zoo.sha256, "index": index is not None}
        return JSONResponse(body, 200 if up else 503)

    @app.get("/metrics")
    async def metrics() -> Any:
        """Counters, as Prometheus reads them."""
        service.metrics.waiting.set(service.batcher.waiting)
        return PlainTextResponse(service.metrics.text())

    _add_routes(app, service)
    _add_searching_routes(app, service)
    return app


def _add_routes(app: Any, service: Service) -> None:
    from fastapi import Body, File, Form

    upload = File(description=UPLOAD)

    @app.post("/embed")
    async def embed(file: Annotated[bytes, upload]) -> dict[str, Any]:
        """A recording as a unit vector."""
        wave = await service.decoded(file)
        embedding_D = await service.within(service.batcher.embed(wave))
        return {"embedding": embedding_D.tolist(), "seconds": len(wave) / service.zoo.model.front_end.sample_rate}

    @app.post("/embed-text")
    async def embed_text(texts: Annotated[list[str], Body(embed=True, max_length=MOST_TEXTS)]) -> dict[str, Any]:
        """Texts in any of the model's languages as unit vectors."""
        text_UD = await service.within(service.batcher.run(lambda: service.zoo.embed_text(texts)))
        return {"embeddings": text_UD.tolist()}

    @app.post("/classify")
    async def classify(
        file: Annotated[bytes, upload],
        labels: Annotated[list[str], Form(max_length=MOST_TEXTS, description="Own labels, one field for each.")] = [],  # noqa: B006
        task: Annotated[str | None, Form(description="Or a task: sound, emotion, instrument …")] = None,
        language: Annotated[str, Form(description="Of a task's labels.")] = "en",
        top: Annotated[int, Form(ge=1, le=100)] = 3,
    ) -> dict[str, Any]:
        """Name a recording by labels of one's own or of a task."""
        embedding_D = await service.within(service.batcher.embed(await service.decoded(file)))
        chosen = (tuple(labels), task, language, top)
        return await service.within(service.batcher.run(lambda: service.named(embedding_D, *chosen)))


def _add_searching_routes(app: Any, service: Service) -> None:
    from fastapi import File, Form

    upload = File(description=UPLOAD)

    @app.post("/find")
    async def find(
        file: Annotated[bytes, upload],
        texts: Annotated[list[str], Form(max_length=MOST_TEXTS, description="What to listen for.")],
        threshold: Annotated[float, Form(gt=0, le=1)] = 0.6,
    ) -> list[dict[str, Any]]:
        """When a recording sounds like texts."""
        wave = await service.decoded(file)
        line = await service.within(service.batcher.run(lambda: service.timeline(wave, texts, threshold)))
        return [vars(event) for event in line.events()]

    @app.post("/search")
    async def search(
        text: Annotated[str | None, Form(description="In any of the model's languages.")] = None,
        file: Annotated[bytes | None, upload] = None,
        unlike: Annotated[list[str], Form(max_length=MOST_TEXTS, description="What hits are not like.")] = [],  # noqa: B006
        weight: Annotated[float, Form(ge=0, le=1, description="The text's share beside a file.")] = 0.5,
        top: Annotated[int, Form(ge=1, le=100)] = 5,
        where: Annotated[str | None, Form(description="A filter in SQL, of an index NAME.lance.")] = None,
    ) -> list[dict[str, Any]]:
        """Clips of the server's index by a text, a recording, or both."""
        wave = None if file is None else await service.decoded(file)
        asked = (text, wave, unlike, weight, top, where)
        return records(await service.within(service.batcher.run(lambda: service.hits(*asked))))
