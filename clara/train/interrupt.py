"""A run that is asked to stop finishes its step and saves."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn


class Interrupt:
    """While entered, the first SIGINT or SIGTERM only sets `number`; a second one acts as before."""

    def __init__(self) -> None:
        self.number = 0
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self.before = {n: signal.signal(n, self._note) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self.__exit__()

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

    def leave(self, done: int, out: Path, main: bool = True) -> NoReturn:
        """End the program with the signal's status, once the state after `done` steps is saved in `out`."""
        if main:
            print(f"Stopped after {done} steps; saved in {out}. The same command goes on from there.")
        raise SystemExit(128 + (self.number or signal.SIGTERM))
