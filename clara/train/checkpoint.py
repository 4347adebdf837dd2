"""Training state on disk: out/step-N/ with safetensors for tensors and JSON for the rest; nothing is ever unpickled.

A folder is written under another name and renamed when whole, so that a crash leaves the one before. Random generators
need no room in it: the trainer seeds them from (seed, step, rank) before every step.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from clara.errors import ClaraError

STATE = "state.json"
# what may change between two parts of one run; everything else would make it another run
FREE = ("steps", "out", "save_every", "log_every", "keep", "threads", "device", "init", "data.workers", "data.shards")


def save(
    out: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], recipe: Mapping[str, Any], keep: int
) -> Path:
    """Write out/step-{step}/ whole or not at all, then delete all but the newest `keep`.

    Args:
        out: the run's folder.
        step: how many steps are done.
        tensors: file stem -> its tensors.
        recipe: the resolved recipe, compared on resuming.
        keep: how many checkpoints stay.
    """
    folder, part = out / f"step-{step}", out / f".step-{step}.part"
    for old in (part, folder):
        if old.exists():
            shutil.rmtree(old)
    part.mkdir(parents=True)
    sizes = {}
    for stem, group in tensors.items():
        path = part / f"{stem}.safetensors"
        # clones: safetensors refuses channels_last and tied tensors
        save_file({n: t.detach().cpu().contiguous().clone() for n, t in group.items()}, path)
        sizes[path.name] = path.stat().st_size
    (part / STATE).write_text(json.dumps({"step": step, "files": sizes, "recipe": recipe}, indent=1), encoding="utf-8")
    for path in part.iterdir():
        _flush(path)
    os.replace(part, folder)
    _flush(out)
    for old in steps_in(out)[: -max(1, keep)]:
        shutil.rmtree(old)
    return folder


def _flush(path: Path) -> None:
    """To the disk, so that a power cut after the rename finds what was renamed."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def steps_in(out: Path) -> list[Path]:
    """The step folders of a run, oldest first."""
    found = [p for p in out.glob("step-*") if p.is_dir() and re.fullmatch(r"step-\d+", p.name)]
    return sorted(found, key=lambda p: int(p.name[5:]))


def newest(out: Path) -> Path | None:
    """The newest whole checkpoint of a run: every file that its state names is there in full length."""
    return next((p for p in reversed(steps_in(out)) if _whole(p)), None)


def _whole(folder: Path) -> bool:
    try:
        files = json.loads((folder / STATE).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError):
        return False
    return all((folder / n).is_file() and (folder / n).stat().st_size == size for n, size in files.items())


def load(folder: Path, recipe: Mapping[str, Any]) -> tuple[int, dict[str, dict[str, Tensor]]]:
    """(steps done, tensors by file stem). ClaraError when the checkpoint is of another recipe, naming what differs."""
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    before, now = _flat(state["recipe"]), _flat(json.loads(json.dumps(recipe)))
    changed = [k for k in sorted(before.keys() | now.keys()) if before.get(k) != now.get(k) and not _free(k)]
    if changed:
        shown = "; ".join(f"{k} was {before.get(k)!r}, is {now.get(k)!r}" for k in changed[:8])
        raise ClaraError(f"{folder} is of another recipe ({shown}): choose another `out`, or set these back to resume.")
    return state["step"], {name.removesuffix(".safetensors"): load_file(folder / name) for name in state["files"]}


def _free(key: str) -> bool:
    return any(key == f or key.startswith(f + ".") for f in FREE)


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(data, Mapping) and data:
        return {k: v for key, value in data.items() for k, v in _flat(value, f"{prefix}.{key}".lstrip(".")).items()}
    return {prefix: data}
