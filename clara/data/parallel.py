"""Jobs in this process or in spawned ones, results as they come, and one process alone that writes to a place. What is
done already the caller leaves out."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import connection
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from clara.errors import ClaraError

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_jobs(work: Callable[[Job], Result], jobs: Iterator[Job], workers: int) -> Iterator[Result]:
    """`work(job)` of each job as it is done, in this process or in `workers` spawned ones (then in any order).

    After a failure no job is begun, those under way are finished and yielded, then the failure is raised.
    """
    if workers == 1:
        yield from map(work, jobs)
        return
    running: set[Future] = set()
    failure: BaseException | None = None
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_parent) as pool:
        while True:
            while failure is None and len(running) <= workers and (job := next(jobs, None)) is not None:
                try:
                    with main_hidden():
                        running.add(pool.submit(work, job))
                except BrokenProcessPool as e:
                    failure = e
            if not running:
                break
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                if future.exception() is None:
                    yield future.result()
                else:
                    failure = failure or future.exception()
    if isinstance(failure, BrokenProcessPool):
        raise ClaraError(
            "A worker process died, most likely for want of memory. "
            "Run again to go on where it stopped; workers=1 shows the cause."
        ) from failure
    if failure is not None:
        raise failure


def end_with_parent(*_: object) -> None:
    """In a new process: end as soon as the one that started it ends, however that ends. Workers that wait for a queue
    never learn it by themselves."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def main_hidden() -> Iterator[None]:
    """Processes that are started within do not run the calling script again: it needs no `if __name__ == '__main__':`,
    and nothing of it is needed in them."""
    main = sys.modules["__main__"]
    own: dict[str, Any] = {name: vars(main).pop(name) for name in ("__file__", "__spec__") if name in vars(main)}
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(own)


@contextmanager
def sole_writer(place: Path, wait_seconds: float = 0.0) -> Iterator[None]:
    """Write to `place`, a folder that is there or a file, alone. The system's lock ends with the process, however that
    ends. Another writer is waited for so many seconds.

    Raises:
        ClaraError: another process writes there now.
    """
    lock = place / ".writing.lock" if place.is_dir() else place.with_name(f".{place.name}.lock")
    try:
        with FileLock(lock, timeout=wait_seconds):
            try:
                yield
            finally:
                with suppress(PermissionError):  # Windows removes no open file
                    lock.unlink(missing_ok=True)
    except Timeout as e:
        raise ClaraError(f"{place}: another process is writing there. Wait for it, or choose another place.") from e
