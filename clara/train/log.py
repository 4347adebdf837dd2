"""What a run shows of itself: a progress bar, metrics.jsonl, and TensorBoard where it is installed."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tqdm.auto import tqdm

from clara.data.parallel import sole_writer
from clara.errors import ClaraError
from clara.saving import whole_file
from clara.train.interrupt import Interrupt


@contextmanager
def sole_run(out: Path) -> Iterator[None]:
    """Be the only run in the folder `out`, which is made. ClaraError: another run is there."""
    out.mkdir(parents=True, exist_ok=True)
    with sole_writer(out):
        yield


class RunLog:
    """Writes only where `active` (the main process). Lines of steps that a resumed run makes again are dropped."""

    def __init__(self, out: Path, first_step: int, steps: int, active: bool) -> None:
        self.file = self.board = None
        self.broken: set[str] = set()
        # a bar in a file is a line per update: seldom ones there
        interval = 0.5 if sys.stderr is not None and sys.stderr.isatty() else 60.0
        self.bar = tqdm(total=steps, initial=first_step, disable=not active, unit="step", mininterval=interval)
        self.since, self.clips, self.seconds = time.perf_counter(), 0, 0.0
        if not active:
            return
        path = out / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= first_step]
        with whole_file(path) as part:
            part.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        self.file = path.open("a", encoding="utf-8")
        if importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(out / "tensorboard"), purge_step=first_step + 1)

    def count(self, clips: int, seconds: float) -> None:
        """One step is done, of `clips` clips with `seconds` of audio (over all processes)."""
        self.clips, self.seconds = self.clips + clips, self.seconds + seconds
        self.bar.update()

    def write(self, step: int, values: dict[str, float]) -> None:
        """A line of `values` after `step` steps, with the speed since the last one."""
        if self.file is None:
            return
        now = time.perf_counter()
        span = max(now - self.since, 1e-9)
        speed = {"clips_per_second": self.clips / span, "audio_seconds_per_second": self.seconds / span}
        self.since, self.clips, self.seconds = now, 0, 0.0
        self.file.write(json.dumps({"step": step, **values, **speed}) + "\n")
        self.file.flush()
        self.bar.set_postfix(loss=f"{values['loss']:.3f}", lr=f"{values['lr']:.1e}", refresh=False)
        if self.board:
            for name, value in {**values, **speed}.items():
                self.board.add_scalar(name, value, step)

    def say(self, text: str) -> None:
        """A line for the reader, above the bar."""
        if not self.bar.disable:
            self.bar.write(text, file=sys.stderr)

    def left_out(self, found: Sequence[str], most: int) -> None:
        """Tell and count clips that cannot be read, each once. ClaraError where they are more than `most`."""
        for why in [w for w in found if w not in self.broken]:
            self.broken.add(why)
            self.say(f"left out: {why}")
        if len(self.broken) > most:
            raise ClaraError(
                f"{len(self.broken)} clips cannot be read, the last of them: {found[-1]} Look at the shards with "
                "`clara shards --verify`, or raise data.broken_most."
            )

    def close(self) -> None:
        """End the bar and the files."""
        self.bar.close()
        for writer in (self.file, self.board):
            if writer:
                writer.close()


@contextmanager
def running(
    out: Path, done: int, steps: int, active: bool = True, resumed: Path | None = None
) -> Iterator[tuple[RunLog, Interrupt]]:
    """The log of a run's steps `done` to `steps`, closed in the end, and whether it was asked to stop."""
    log = RunLog(out, done, steps, active)
    try:
        if resumed:
            log.say(f"Resuming from {resumed}.")
        with Interrupt(active) as interrupt:
            yield log, interrupt
    finally:
        log.close()
