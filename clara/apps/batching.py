"""Clips of concurrent requests, embedded together by one thread that owns the model."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from clara.errors import ClaraError
from clara.zoo.embedder import Embedder

T = TypeVar("T")


class Busy(ClaraError):
    """As many requests wait as may wait: try again later."""


@dataclass
class _Job:
    """A wave to embed with others, or a call to make alone."""

    future: Future[Any]
    wave: np.ndarray | None = None
    call: Callable[[], Any] | None = None


class Batcher:
    """Runs everything that needs the model in one thread: waves that wait are embedded together, calls one by one.

    Args:
        zoo: the model.
        batch: most waves embedded together.
        wait_ms: how long the first of a batch waits for others, milliseconds.
        most: how many jobs may wait.
        seen: told the size of each batch.
    """

    def __init__(
        self, zoo: Embedder, batch: int, wait_ms: float, most: int, seen: Callable[[int], object] = lambda n: None
    ) -> None:
        self.zoo, self.batch, self.wait, self.seen = zoo, batch, wait_ms / 1000, seen
        self._jobs: queue.Queue[_Job | None] = queue.Queue(most)
        self._thread = threading.Thread(target=self._run, name="clara-model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return self._jobs.qsize()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def embed(self, wave: np.ndarray) -> Future[Tensor]:
        """Embed a wave at the model's rate -> embedding_D. `Busy` where too many wait; errors of `embed_audio` come
        with the future."""
        return self._put(_Job(Future(), wave=wave))

    def run(self, call: Callable[[], T]) -> Future[T]:
        """Make a call in the thread that owns the model. `Busy` where too many wait."""
        return self._put(_Job(Future(), call=call))

    def close(self) -> None:
        """End the thread when all that waits is done."""
        self._jobs.put(None)
        self._thread.join()

    def _put(self, job: _Job) -> Future[Any]:
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise Busy(f"{self.waiting} requests wait already: try again later.") from None
        return job.future

    def _run(self) -> None:
        after: _Job | None = None  # a call that ended the batch before it
        while True:
            job, after = after or self._jobs.get(), None
            if job is None:
                return
            if job.call is not None:
                _settle([job], partial(_called, job))
                continue
            jobs, until = [job], time.monotonic() + self.wait
            while len(jobs) < self.batch:
                try:
                    other = self._jobs.get(timeout=max(0.0, until - time.monotonic()))
                except queue.Empty:
                    break
                if other is None or other.call is not None:
                    after = other
                    if other is None:
                        self._jobs.put(None)
                    break
                jobs.append(other)
            self._embed([job for job in jobs if not job.future.cancelled()])

    def _embed(self, jobs: list[_Job]) -> None:
        if not jobs:
            return
        self.seen(len(jobs))
        rate = self.zoo.model.front_end.sample_rate
        try:
            vectors = list(self.zoo.embed_audio([(job.wave, rate) for job in jobs], self.batch))
        except Exception:  # one of them: each by itself, so that the others have their answer
            for job in jobs:
                _settle([job], partial(self.zoo.embed_audio, [(job.wave, rate)], self.batch))
            return
        _settle(jobs, lambda: vectors)


def _called(job: _Job) -> list[Any]:
    assert job.call is not None
    return [job.call()]


def _settle(jobs: list[_Job], work: Callable[[], Iterable[Any]]) -> None:
    """Give the jobs their results, or the error that `work` raises."""
    running = [job for job in jobs if job.future.set_running_or_notify_cancel()]
    if not running:
        return
    try:
        results = work()
    except Exception as e:  # whoever waits gets it
        for job in running:
            job.future.set_exception(e)
        return
    for job, result in zip(jobs, results, strict=True):
        if job in running:
            job.future.set_result(result)
