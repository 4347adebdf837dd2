"""Jobs in this process or in spawned ones, results as they come. What is done already the caller leaves out."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from clara.errors import ClaraError

Job, Result = TypeVar("Job"), TypeVar("Result")


def run_jobs(work: Callable[[Job], Result], jobs: Iterator[Job], workers: int) -> Iterator[Result]:
    """`work(job)` of each job as it is done, in this process or in `workers` spawned ones (then in any order).

    After a failure no job is begun, those under way are finished and yielded, then the failure is raised.
    """
    if workers == 1:
        yield from map(work, jobs)
        return
    running: set[Future] = set()
    failure: BaseException | None = None
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        while True:
            while failure is None and len(running) <= workers and (job := next(jobs, None)) is not None:
                try:
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
            "A worker process died: out of memory, or the calling script lacks `if __name__ == '__main__':`. "
            "Run again to go on where it stopped; workers=1 shows the cause."
        ) from failure
    if failure is not None:
        raise failure
