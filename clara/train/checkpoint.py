"""Training state on disk: out/step-N/ with safetensors for tensors and JSON for the rest; nothing is ever unpickled.

A folder is written under another name and renamed when whole, so that a crash leaves the one before. Random generators
need no room in it: the trainer seeds them from (seed, step, rank) before every step.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from clara.config import Spec, to_dict
from clara.errors import ClaraError
from clara.parsing import parse_json, read_json
from clara.saving import MODE, check_digests, flush, sha256_of
from clara.train.optim import EMA, load_optimizer, optimizer_tensors
from clara.zoo.factory import load_strictly

STATE = "state.json"
# what may change between two parts of one run; everything else would make it another run
FREE = (
    "steps",
    "out",
    "save_every",
    "save_minutes",
    "data.broken_most",
    "log_every",
    "keep",
    "threads",
    "device",
    "init",
    "data.workers",
    "data.shards",
    "names.folder",
    "states.folder",
)


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

    Raises:
        ClaraError: there is no room for it.
    """
    folder, part, aside = out / f"step-{step}", out / f".step-{step}.part", out / f".step-{step}.old"
    for left in (part, aside):
        shutil.rmtree(left, ignore_errors=True)
    part.mkdir(parents=True)
    sizes, sha256 = {}, {}
    for stem, group in tensors.items():
        path = part / f"{stem}.safetensors"
        # clones: safetensors refuses channels_last and tied tensors
        whole = {n: t.detach().cpu().contiguous().clone() for n, t in group.items()}
        try:
            save_file(whole, path)
        except SafetensorError as e:  # a full disk: what was saved before stays
            raise ClaraError(f"{path} cannot be written ({e}): make room and run again, it goes on from there.") from e
        sizes[path.name], sha256[path.name] = path.stat().st_size, sha256_of(path)
    state = {"step": step, "files": sizes, "sha256": sha256, "recipe": recipe}
    (part / STATE).write_text(json.dumps(state, indent=1), encoding="utf-8")
    for path in part.iterdir():
        os.chmod(path, MODE)
        flush(path)
    if folder.exists():  # a run that was done is called again: the old one stays until the new one has its place
        os.replace(folder, aside)
    os.replace(part, folder)
    flush(out)
    shutil.rmtree(aside, ignore_errors=True)
    for old in steps_in(out)[: -max(1, keep)]:
        shutil.rmtree(old)
    return folder


def steps_in(out: Path) -> list[Path]:
    """The step folders of a run, oldest first."""
    found = [p for p in out.glob("step-*") if p.is_dir() and re.fullmatch(r"step-\d+", p.name)]
    return sorted(found, key=lambda p: int(p.name[5:]))


def newest(out: Path) -> Path | None:
    """The newest whole checkpoint of a run: every file that its state names is there in full length. One that a kill
    left between the two renames of `save` is put back."""
    for aside in out.glob(".step-*.old"):
        if not (place := out / aside.name[1 : -len(".old")]).exists():
            os.replace(aside, place)
    return next((p for p in reversed(steps_in(out)) if _whole(p)), None)


def _whole(folder: Path) -> bool:
    try:
        files = parse_json((folder / STATE).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError):
        return False
    return all((folder / n).is_file() and (folder / n).stat().st_size == size for n, size in files.items())


def load(folder: Path, recipe: Any) -> tuple[int, dict[str, dict[str, Tensor]]]:
    """(steps done, tensors by file stem) of a checkpoint of `recipe`: a config, or the plain mapping of one.

    A key that the config has and the checkpoint's recipe lacks is newer than the checkpoint: it counts as its default.

    Raises:
        ClaraError: the checkpoint is of another recipe (every key that differs is named, with both values), or its
            files are not of one save.
    """
    state = read_json(folder / STATE, "the state of a run")
    before, now = _with_defaults(state["recipe"], recipe), _plain(recipe)
    if changed := [f"{k} was {old}, is {new}" for k, old, new in differences(before, now) if k not in FREE]:
        shown = "; ".join(changed)
        raise ClaraError(f"{folder} is of another recipe ({shown}): choose another `out`, or set these back to resume.")
    check_digests(folder, state.get("sha256", {}), STATE)
    return state["step"], {name.removesuffix(".safetensors"): load_file(folder / name) for name in state["files"]}


def state_of(model: nn.Module, optimizer: Optimizer, ema: EMA | None) -> dict[str, Mapping[str, Tensor]]:
    """What `save` writes of a run and `resume` takes."""
    tensors = {"model": model.state_dict(), "optimizer": optimizer_tensors(model, optimizer)}
    return tensors | ({"ema": ema.tensors} if ema else {})


def resume(out: Path, recipe: Any, model: nn.Module, optimizer: Optimizer, ema: EMA | None) -> tuple[Path | None, int]:
    """Take the state of the newest whole checkpoint in `out`; its folder, or None, and how many steps are done."""
    folder = newest(out)
    if folder is None:
        return None, 0
    done, tensors = load(folder, recipe)
    load_strictly(model, tensors["model"], str(folder))
    load_optimizer(model, optimizer, tensors["optimizer"])
    if ema:
        ema.load(tensors["ema"])
    return folder, done


def _plain(config: Any) -> Any:
    """As it is once written as JSON and read again."""
    return json.loads(json.dumps(to_dict(config)))


def _with_defaults(stored: Any, config: Any) -> Any:
    """`stored` with the defaults of `config`'s dataclasses, at every depth, where it lacks a key that has one."""
    if not (dataclasses.is_dataclass(config) and isinstance(stored, Mapping)) or isinstance(config, Spec):
        return stored
    out = {key: _with_defaults(value, getattr(config, key, None)) for key, value in stored.items()}
    for field in dataclasses.fields(config):
        if field.default is not dataclasses.MISSING:
            out.setdefault(field.name, _plain(field.default))
        elif field.default_factory is not dataclasses.MISSING:
            out.setdefault(field.name, _plain(field.default_factory()))
    return out


def differences(before: Any, now: Any, key: str = "") -> Iterator[tuple[str, str, str]]:
    """(key, value before, value now) wherever two plain trees differ, as deep as both have keys."""
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        if before != now:
            yield key, repr(before), repr(now)
        return
    for name in sorted(before.keys() | now.keys()):
        path = f"{key}.{name}" if key else name
        if name in before and name in now:
            yield from differences(before[name], now[name], path)
        else:
            yield path, *(repr(tree[name]) if name in tree else "absent" for tree in (before, now))
