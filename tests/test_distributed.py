"""Two processes with half the batch each are one process with the whole batch."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
from tones import tone_config, write_tones

from clara.data.loader import Batch, TrainBatches, make_loader
from clara.data.states import StatesConfig
from clara.errors import ClaraError
from clara.train import trainer as trainer_module
from clara.train.distil import DistilConfig
from clara.train.distributed import World, processes
from clara.train.optim import GroupConfig, OptimConfig
from clara.train.recipe import LossConfig, TrainConfig, build_model
from clara.train.trainer import Trainer

ARCH = "test-timm-vit"  # layer norms only: a batch norm sees its own process's slice
FROZEN = OptimConfig(warmup_steps=0, groups=(GroupConfig("audio.encoder.*", 0.0), GroupConfig("text*", 0.0)))
TEXT_FROZEN = OptimConfig(warmup_steps=0, groups=(GroupConfig("text*", 0.0),))
CASES = {"multi_positive": {}, "info_nce": {"loss": LossConfig("info_nce")}, "grad_cache": {"grad_cache": 3}}


def trainer_of(config: TrainConfig, world: World) -> Trainer:
    torch.manual_seed(0)
    return Trainer(config, world, *build_model(config, Path(".")))


def odd_batch(trainer: Trainer, world: World) -> Batch:
    """The first batch whose texts do not divide evenly, so that one of two processes pads."""
    c, rate = trainer.config, trainer.model.front_end.sample_rate
    ranks = (world.rank, world.size)
    batches = make_loader(TrainBatches(c.data, trainer.tokenizer, rate, 7, ranks), steps=range(20))
    return next(b for b in batches if (~b.ignore_BU.all(0)).sum() % 2 == 1)


def measure(shard: str, out: Path, world: World) -> None:
    """Loss and gradients of one batch, for every case, to a file per process; then a run of four steps."""
    for name, changes in CASES.items():
        trainer = trainer_of(tone_config(shard, out / name, model=ARCH, **changes), world)
        batch = odd_batch(trainer, world)
        loss = trainer.gradients(batch)
        gradients = {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}
        padded = torch.tensor(float(batch.ignore_BU.all(0).any()))
        save_file({"loss": loss, "padded": padded, **gradients}, out / f"{name}-{world.rank}.safetensors")
    trainer_of(tone_config(shard, out / "run", model=ARCH, steps=4), world).run()
    stored = {"states": StatesConfig(str(out / "states"), 2), "channels_last": False, "steps": 4}
    teacher = tone_config(shard, out / "stored", model="test-whisper-own", optim=FROZEN, **stored)
    student = {"distil": DistilConfig(f"dir:{trainer_of(teacher, world).run()}"), "optim": TEXT_FROZEN}
    trainer_of(tone_config(shard, out / "student", model=ARCH, **stored, **student), world).run()


def process(rank: int, port: int, shard: str, folder: str) -> None:
    """What each of the two processes does, with torchrun's variables set by hand."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    out, make = Path(folder), trainer_module.make_loader
    with processes("cpu") as world:
        measure(shard, out, world)
        trainer = trainer_of(tone_config(shard, out / "norm", model="test-conv", steps=2), world)
        trainer.run()
        buffers = {n: b.contiguous() for n, b in trainer.model.named_buffers() if "running" in n}
        save_file(buffers, out / f"norm-{rank}.safetensors")

        def signalled(*args: object, **kwargs: object) -> Iterator[Batch]:
            for k, batch in enumerate(make(*args, **kwargs)):
                if k == 2 and rank == 1:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield batch

        trainer_module.make_loader = signalled
        try:
            trainer_of(tone_config(shard, out / "stopped", model=ARCH, steps=6), world).run()
        except SystemExit:
            (out / f"left-{rank}").touch()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of what one process and what two processes measured."""
    root = tmp_path_factory.mktemp("processes")
    shard = write_tones(root / "tones-0.tar")
    one, two = root / "one", root / "two"
    one.mkdir()
    two.mkdir()
    with processes("cpu") as world:
        measure(shard, one, world)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(process, (port, shard, str(two)), nprocs=2)
    return one, two


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradients_equal(runs: tuple[Path, Path], name: str) -> None:
    one, two = runs
    expected = load_file(one / f"{name}-0.safetensors")
    for rank in (0, 1):
        got = load_file(two / f"{name}-{rank}.safetensors")
        assert got.pop("padded"), "the batch must have a padding text for this to prove anything"
        assert got.keys() == expected.keys() - {"padded"}
        assert float(got["loss"]) == pytest.approx(float(expected["loss"]), abs=1e-6)
        size = torch.cat([g.flatten() for g in expected.values()]).norm()
        for n, gradient in got.items():
            assert (gradient - expected[n]).norm() / size < 1e-6, n


@pytest.mark.parametrize("name", ["run", "stored", "student"])
def test_whole_runs_agree(runs: tuple[Path, Path], name: str) -> None:
    losses = [
        [json.loads(line)["loss"] for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
        for folder in runs
    ]
    assert len(losses[0]) == 4
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)  # Adam's first steps amplify the last digit


def test_running_statistics_are_shared(runs: tuple[Path, Path]) -> None:
    a, b = (load_file(runs[1] / f"norm-{rank}.safetensors") for rank in (0, 1))
    assert a
    assert all(torch.equal(a[n], b[n]) for n in a)


def test_a_signal_to_one_process_stops_both_at_the_same_step(runs: tuple[Path, Path]) -> None:
    two = runs[1]
    assert (two / "left-0").exists()
    assert (two / "left-1").exists()
    assert [p.name for p in (two / "stopped").glob("step-*")] == ["step-2"]


def test_a_batch_that_does_not_divide_is_refused(tmp_path: Path) -> None:
    config = tone_config(write_tones(tmp_path / "t.tar"), tmp_path).data
    with pytest.raises(ClaraError, match="not a multiple of the 3 processes"):
        TrainBatches(config, None, 16000, 0, (0, 3))
