"""Sources read by threads while the model computes, in their order and in bounded memory."""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
AHEAD = 4  # windows of one source that wait for the model
SOURCES = 4  # per thread that are under way
POLL_SECONDS = 0.1  # how soon a thread notices that nobody wants what it reads


class _Reading:
    """What one source gives, as a thread reads it."""

    def __init__(self, read: Callable[[], Iterator[Any]], stop: threading.Event) -> None:
        self.read, self.stop = read, stop
        self.found: queue.Queue[tuple[str, Any]] = queue.Queue(AHEAD)

    def run(self) -> None:
        try:
            for piece in self.read():
                if not self._put("piece", piece):
                    return
            self._put("end", None)
        except BaseException as e:  # raised again where it is awaited
            self._put("error", e)

    def _put(self, kind: str, value: Any) -> bool:
        while not self.stop.is_set():
            try:
                self.found.put((kind, value), timeout=POLL_SECONDS)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Iterator[Any]:
        while True:
            kind, value = self.found.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value


def read_ahead(sources: Iterable[Any], read: Callable[[int, Any], Iterator[T]], threads: int) -> Iterator[T]:
    """What `read(row, source)` yields of each source in turn, read by so many threads ahead of whoever iterates; 0: as
    it is asked for. Sources that are not paths, bytes or arrays are read as they are asked for: one open file may be
    given several times. An error comes where its source stands."""
    stop, waiting = threading.Event(), deque[Iterable[T]]()
    jobs: queue.SimpleQueue[_Reading | None] = queue.SimpleQueue()

    def work() -> None:
        while (job := jobs.get()) is not None and not stop.is_set():
            job.run()

    workers = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        for row, source in enumerate(sources):
            if threads and isinstance(source, str | os.PathLike | bytes | tuple):
                reading = _Reading(lambda row=row, source=source: read(row, source), stop)  # type: ignore[misc]
                jobs.put(reading)
                waiting.append(reading)
            else:
                waiting.append(read(row, source))
            if len(waiting) > SOURCES * threads:
                yield from waiting.popleft()
        while waiting:
            yield from waiting.popleft()
    finally:
        stop.set()
        for _ in workers:
            jobs.put(None)
        for worker in workers:
            worker.join()
