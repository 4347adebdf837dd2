"""A run that is broken off and goes on equals one that never stopped, to the last digit."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tones import tone_config, write_tones

from clara.audio.augment import SpecAugmentConfig
from clara.errors import ClaraError
from clara.train import checkpoint
from clara.train import trainer as trainer_module
from clara.train.recipe import TrainConfig
from clara.train.trainer import run

HARD = {"precision": "bf16", "spec_augment": SpecAugmentConfig(), "grad_cache": 5}


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tones(tmp_path_factory.mktemp("tones") / "tones-0.tar")


def lines(out: Path) -> list[tuple[int, float, float, float]]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(r["step"], r["loss"], r["lr"], r["grad_norm"]) for r in rows]


def run_until(config: TrainConfig, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run, with a SIGTERM as batch `step` arrives."""
    make = trainer_module.make_loader

    def stopping(*args: object, **kwargs: object) -> Iterator:
        for k, batch in enumerate(make(*args, **kwargs), kwargs["steps"].start):
            if k == step:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "make_loader", stopping)
        with pytest.raises(SystemExit):
            run(config)


@pytest.mark.parametrize("changes", [{}, HARD], ids=["fp32", "bf16+spec_augment+grad_cache"])
def test_resumed_equals_unbroken(shard: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict) -> None:
    run(tone_config(shard, tmp_path / "whole", **changes))
    config = tone_config(shard, tmp_path / "broken", **changes)
    run_until(config, 3, monkeypatch)
    torch.manual_seed(99)  # another process's generators
    run_until(config, 7, monkeypatch)
    run(config)
    assert lines(tmp_path / "broken") == lines(tmp_path / "whole")
    for name in ("model", "ema", "optimizer"):
        a, b = (load_file(tmp_path / run / "step-10" / f"{name}.safetensors") for run in ("whole", "broken"))
        assert a.keys() == b.keys()
        assert [n for n in a if not torch.equal(a[n], b[n])] == []


def test_a_torn_checkpoint_is_passed_over(shard: str, tmp_path: Path) -> None:
    config = tone_config(shard, tmp_path)
    run(config)
    whole = lines(tmp_path)
    torn = tmp_path / "step-10" / "model.safetensors"
    torn.write_bytes(torn.read_bytes()[:-100])
    (tmp_path / ".step-11.part").mkdir()  # a crash while writing
    assert checkpoint.newest(tmp_path) == tmp_path / "step-8"
    run(config)
    assert lines(tmp_path) == whole
    assert checkpoint.newest(tmp_path) == tmp_path / "step-10"


def test_a_finished_run_makes_no_more_steps_and_a_longer_one_goes_on(shard: str, tmp_path: Path) -> None:
    run(tone_config(shard, tmp_path, steps=3))
    assert len(lines(tmp_path)) == 3
    run(tone_config(shard, tmp_path, steps=3))
    assert len(lines(tmp_path)) == 3
    run(tone_config(shard, tmp_path, steps=5))
    assert [row[0] for row in lines(tmp_path)] == [1, 2, 3, 4, 5]


def test_another_recipe_in_the_same_folder_is_refused(shard: str, tmp_path: Path) -> None:
    run(tone_config(shard, tmp_path, steps=1))
    with pytest.raises(ClaraError, match=r"seed was 0, is 1.*another `out`"):
        run(tone_config(shard, tmp_path, steps=2, seed=1))


def forget(out: Path, step: int, *keys: str) -> None:
    """Make the checkpoint one of a version that had no such keys."""
    path = out / f"step-{step}" / checkpoint.STATE
    state = json.loads(path.read_text())
    for key in keys:
        *parents, last = key.split(".")
        node = state["recipe"]
        for part in parents:
            node = node[part]
        del node[last]
    path.write_text(json.dumps(state))


def test_keys_that_came_later_count_as_their_defaults(shard: str, tmp_path: Path) -> None:
    new = ("grad_cache", "data.mix", "data.captions.said", "optim.groups", "spec_augment.style")
    run(tone_config(shard, tmp_path, steps=1, spec_augment=SpecAugmentConfig(style=0.0)))
    forget(tmp_path, 1, *new)
    run(tone_config(shard, tmp_path, steps=2, spec_augment=SpecAugmentConfig(style=0.0)))
    assert [row[0] for row in lines(tmp_path)] == [1, 2]
    forget(tmp_path, 2, *new)
    with pytest.raises(ClaraError, match=r"\(grad_cache was None, is 5; spec_augment.style was 0.0, is 0.5\)"):
        run(tone_config(shard, tmp_path, steps=3, grad_cache=5, spec_augment=SpecAugmentConfig(style=0.5)))


def test_what_differs_is_named_in_full(shard: str, tmp_path: Path) -> None:
    run(tone_config(shard, tmp_path, steps=1))
    path = tmp_path / "step-1" / checkpoint.STATE
    state = json.loads(path.read_text())
    state["recipe"]["optim"]["gone"] = 7
    path.write_text(json.dumps(state))
    with pytest.raises(ClaraError) as error:
        run(tone_config(shard, tmp_path, steps=2, spec_augment=SpecAugmentConfig()))
    assert "optim.gone was 7, is absent; spec_augment was None, is {'" in str(error.value)


def test_a_full_disk_is_told_and_costs_nothing_that_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensors: object, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    tensors = {"model": {"w": torch.ones(3)}}
    kept = checkpoint.save(tmp_path, 5, tensors, {}, keep=2)
    with monkeypatch.context() as patch:
        patch.setattr("clara.train.checkpoint.save_file", full)
        for step in (5, 6):  # 5: a run that was done is called again
            with pytest.raises(ClaraError, match=r"cannot be written .*No space left.*: make room and run again"):
                checkpoint.save(tmp_path, step, tensors, {}, keep=2)
    assert checkpoint.newest(tmp_path) == kept
    assert checkpoint.save(tmp_path, 6, tensors, {}, keep=2) == checkpoint.newest(tmp_path)
