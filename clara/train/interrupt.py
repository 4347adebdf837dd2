"""A run that is asked to stop says so at once, finishes its step and saves; asked again, it ends within a second."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

STOPPING = "clara: stopping after this step, which is saved. Once more ends it at once, without."
PATIENCE = 1.0  # seconds


class Interrupt:
    """While entered, the first SIGINT or SIGTERM only sets `number`, and is answered at once; a second one acts as
    before, or ends the process where that takes more than `PATIENCE` seconds.

    Python runs its handlers between two of its own steps, and a step of training may be one call of minutes. The
    interpreter's wake-up socket is written to by the signal itself, and read by a thread here.
    """

    def __init__(self, active: bool = True) -> None:
        self.number, self.active = 0, active
        self.before: dict[int, Any] = {}
        self.over = threading.Event()
        self.wake: socket.socket | None = None
        self.wake_before = -1

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self.before = {n: signal.signal(n, self._note) for n in (signal.SIGINT, signal.SIGTERM)}
            self.wake, heard = socket.socketpair()
            self.wake.setblocking(False)
            self.wake_before = signal.set_wakeup_fd(self.wake.fileno(), warn_on_full_buffer=False)
            threading.Thread(target=self._listen, args=(heard,), daemon=True, name="interrupt").start()
        return self

    def _listen(self, heard: socket.socket) -> None:
        times = 0
        with heard:
            while numbers := heard.recv(64):
                for number in numbers:
                    if number not in (signal.SIGINT, signal.SIGTERM):
                        continue  # such as a worker's end
                    times += 1
                    if times == 1 and self.active:
                        print(STOPPING, file=sys.stderr, flush=True)
                    elif times == 2 and not self.over.wait(PATIENCE):
                        os._exit(128 + number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

    def __exit__(self, *error: object) -> None:
        self._restore()
        self.over.set()
        if self.wake is not None:
            signal.set_wakeup_fd(self.wake_before)
            self.wake.close()
            self.wake = None

    def leave(self, done: int, out: Path, main: bool = True) -> NoReturn:
        """End the program with the signal's status, once the state after `done` steps is saved in `out`."""
        if main:
            print(f"Stopped after {done} steps; saved in {out}. The same command goes on from there.")
        raise SystemExit(128 + (self.number or signal.SIGTERM))
