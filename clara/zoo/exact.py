"""Products of matrices in full float32, whatever the process has set."""

from __future__ import annotations

from threading import Lock

import torch


class _NoTF32:
    """TF32 is off while any thread is within, for the switches are the process's; the last one out puts them back."""

    def __init__(self) -> None:
        self.lock, self.inside, self.before = Lock(), 0, (False, False)

    def __enter__(self) -> None:
        with self.lock:
            if not self.inside:
                self.before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
                torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
            self.inside += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = self.before


NO_TF32 = _NoTF32()
