"""The trainer: losses fall, mistakes are named, what is exported is the average."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from tones import tone_config, write_tones
from torch import nn

import clara
from clara.audio.augment import SpecAugmentConfig
from clara.config import arch_config, load_yaml, to_dict
from clara.data.loader import TrainBatches
from clara.errors import ClaraError
from clara.train import trainer as trainer_module
from clara.train.distributed import processes
from clara.train.optim import EMA, GroupConfig, OptimConfig, build_optimizer, decays, learning_rate
from clara.train.recipe import LossConfig, build_model
from clara.train.trainer import Trainer, run, train


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tones(tmp_path_factory.mktemp("tones") / "tones-0.tar")


def losses_in(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def with_bias() -> dict:
    return {**to_dict(arch_config("test-conv")), "init_bias": -2.0}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss": LossConfig("info_nce")},
        {"loss": LossConfig("sigmoid"), "model": with_bias()},
        {"precision": "bf16", "grad_cache": 3},
        {"precision": "bf16", "spec_augment": SpecAugmentConfig(), "ema": None, "channels_last": False},
    ],
    ids=["multi_positive", "info_nce", "sigmoid", "bf16+grad_cache", "bf16+spec_augment"],
)
def test_thirty_steps_lower_the_loss_and_leave_a_checkpoint(shard: str, tmp_path: Path, changes: dict) -> None:
    folder = run(tone_config(shard, tmp_path, steps=30, **changes))
    values = losses_in(tmp_path)
    assert len(values) == 30
    assert sum(values[-5:]) < 0.8 * sum(values[:5])
    assert clara.load(f"dir:{folder}").embed_text(["a tone"]).shape == (1, 32)


def test_the_log_tells_speed_rate_scale_and_gradient(shard: str, tmp_path: Path) -> None:
    run(tone_config(shard, tmp_path, steps=3))
    line = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["step"] == 3
    assert line["scale"] == pytest.approx(14.2857, rel=0.1)
    assert line["grad_norm"] > 0
    assert line["audio_seconds_per_second"] / line["clips_per_second"] == pytest.approx(0.4, abs=0.1)


def test_the_export_is_the_average_and_only_the_newest_states_stay(shard: str, tmp_path: Path) -> None:
    config = tone_config(shard, tmp_path, keep=1, optim=OptimConfig(lr=0.02, warmup_steps=0))
    with processes("cpu") as world:
        trainer = Trainer(config, world, *build_model(config, tmp_path))
        folder = trainer.run()
    exported = clara.create_model(f"dir:{folder}").state_dict()
    name = "audio.stem.weight"
    assert torch.allclose(exported[name], trainer.ema.tensors[name], atol=1e-3)
    assert not torch.allclose(exported[name], trainer.model.state_dict()[name], atol=1e-3)
    assert [p.name for p in tmp_path.glob("step-*")] == ["step-10"]


def test_a_run_starts_from_a_checkpoint(shard: str, tmp_path: Path) -> None:
    first = run(tone_config(shard, tmp_path / "first", steps=12))
    config = tone_config(shard, tmp_path / "second", model=None, init=f"dir:{first}", steps=1)
    expected, got = clara.create_model(f"dir:{first}").state_dict(), build_model(config, tmp_path)[0].state_dict()
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[n], expected[n]) for n in got)
    run(config)
    other = {**to_dict(arch_config("test-conv")), "embed_dim": 16}
    with pytest.raises(ClaraError, match=r"init 'dir:.*audio_head"):
        run(dataclasses.replace(config, model=other, out=str(tmp_path / "third")))


def test_a_frozen_text_tower_does_not_move(shard: str, tmp_path: Path) -> None:
    config = tone_config(
        shard, tmp_path, steps=2, optim=OptimConfig(lr=0.01, warmup_steps=0, groups=(GroupConfig("text*", 0.0),))
    )
    with processes("cpu") as world:
        model, tokenizer = build_model(config, tmp_path)
        before = {n: p.detach().clone() for n, p in model.named_parameters()}
        Trainer(dataclasses.replace(config, grad_cache=3), world, model, tokenizer).run()
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert not [n for n in moved if n.startswith("text")]
    assert {"audio_head.weight", "audio.stem.weight", "log_scale"} <= moved


def test_what_a_group_freezes_stays_as_it_is_and_in_evaluation_mode(shard: str, tmp_path: Path) -> None:
    frozen = (GroupConfig("audio.stem*", 0.0), GroupConfig("audio.*", 0.5))
    config = tone_config(shard, tmp_path, steps=2, optim=OptimConfig(lr=0.01, warmup_steps=0, groups=frozen))
    with processes("cpu") as world:
        model, tokenizer = build_model(config, tmp_path)
        before = {n: t.detach().clone() for n, t in model.state_dict().items()}
        trainer = Trainer(config, world, model, tokenizer)
        assert model.training
        assert model.audio.training
        assert not (model.audio.stem.training or model.audio.stem_norm.training)
        assert {g["lr_scale"] for g in trainer.optimizer.param_groups} == {0.5, 1.0}
        trainer.run()
    moved = {n for n, t in model.state_dict().items() if not torch.equal(t, before[n])}
    assert not [n for n in moved if n.startswith("audio.stem")]
    assert [n for n in moved if n.startswith("audio.")]
    assert "text.tokens.weight" in moved


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (GroupConfig("audo.*", 0.0), r"'audo\.\*' fits no parameter.*audio_head\.weight"),
        (GroupConfig("*", 0.0), "nothing left to train"),
        (GroupConfig("text*", -1.0), "lr_scale=-1.0 of 'text"),
    ],
)
def test_groups_that_cannot_be_meant_are_refused(group: GroupConfig, message: str) -> None:
    with pytest.raises(ClaraError, match=message):
        build_optimizer(clara.create_model("test-conv"), OptimConfig(groups=(group,)))


def test_the_temperature_stops_at_its_ceiling_and_can_come_back(shard: str, tmp_path: Path) -> None:
    config = tone_config(shard, tmp_path, optim=OptimConfig(lr=1.0, warmup_steps=0))
    with processes("cpu") as world:
        trainer = Trainer(config, world, *build_model(config, tmp_path))
        batch = next(iter(make_batches(trainer)))
        trainer.model.log_scale.data.fill_(10.0)
        trainer.step(batch)
        assert float(trainer.model.log_scale.detach()) == pytest.approx(math.log(100))
        trainer.gradients(batch)
        assert trainer.model.log_scale.grad.abs() > 0


def test_every_step_sets_its_rate_in_every_group(shard: str, tmp_path: Path) -> None:
    config = tone_config(
        shard, tmp_path, optim=OptimConfig(lr=0.01, warmup_steps=4, groups=(GroupConfig("text*", 0.5),))
    )
    with processes("cpu") as world:
        trainer = Trainer(config, world, *build_model(config, tmp_path))
        trainer.step(next(iter(make_batches(trainer))))
    assert {g["lr"] for g in trainer.optimizer.param_groups} == {0.0025, 0.00125}


def test_a_broken_clip_is_named_in_one_line(tmp_path: Path) -> None:
    shard = Path(write_tones(tmp_path / "tones-0.tar", clips=8))
    data = shard.read_bytes()
    shard.write_bytes(data.replace(b"RIFF", b"RUFF"))
    config = tone_config(str(shard), tmp_path / "out")
    with pytest.raises(ClaraError, match=r"tones-0\.tar: sample '00\d'") as error:
        run(dataclasses.replace(config, data=dataclasses.replace(config.data, workers=1)))
    assert "Traceback" not in str(error.value)


def make_batches(trainer: Trainer) -> Iterator:
    rate = trainer.model.front_end.sample_rate
    return trainer_module.make_loader(
        TrainBatches(trainer.config.data, trainer.tokenizer, rate, 0, (0, 1)), steps=range(10)
    )


def spoil(monkeypatch: pytest.MonkeyPatch, act: object, at: int) -> None:
    """`act(batch)` before the trainer sees batch `at` of a run."""
    make = trainer_module.make_loader

    def spoiled(*args: object, **kwargs: object) -> Iterator:
        for k, batch in enumerate(make(*args, **kwargs), kwargs["steps"].start):
            if k == at:
                act(batch)
            yield batch

    monkeypatch.setattr(trainer_module, "make_loader", spoiled)


def test_nan_stops_with_step_clips_and_last_good_checkpoint(
    shard: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def act(batch: object) -> None:
        seen.extend(batch.keys)
        batch.x[0, 5] = math.nan

    spoil(monkeypatch, act, at=5)
    with pytest.raises(ClaraError, match="Step 5: loss nan") as error:
        run(tone_config(shard, tmp_path))
    assert all(key in str(error.value) for key in seen)
    assert str(tmp_path / "step-4") in str(error.value)
    assert not (tmp_path / "step-5").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_leaves(
    shard: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, number: int
) -> None:
    before = signal.getsignal(number)
    spoil(monkeypatch, lambda batch: os.kill(os.getpid(), number), at=2)
    with pytest.raises(SystemExit) as stop:
        run(tone_config(shard, tmp_path))
    assert stop.value.code == 128 + number
    assert (tmp_path / "step-2" / "state.json").is_file()
    assert "same command" in capsys.readouterr().out
    assert signal.getsignal(number) == before


def write_recipe(path: Path, shard: str, **changes: object) -> Path:
    recipe = to_dict(tone_config(shard, path.parent / "out", steps=2))
    path.write_text(yaml.safe_dump({**recipe, **changes}))
    return path


def test_a_recipe_with_overrides(shard: str, tmp_path: Path) -> None:
    folder = train(write_recipe(tmp_path / "r.yaml", shard), ["steps=3", "optim.lr=0.002"])
    assert folder == tmp_path / "out" / "checkpoint"
    assert len(losses_in(tmp_path / "out")) == 3
    assert load_yaml(folder / "clara.yaml")["embed_dim"] == 32
    assert "lr: 0.002" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("changes", "overrides", "message"),
    [
        ({"stepz": 3}, (), "stepz.*Did you mean 'steps'"),
        ({"optim": {"lr": "1e-4"}}, (), r"write 1\.0e-4"),
        ({}, ("optim.learning_rate=1",), "learning_rate"),
        ({"loss": {"kind": "multi_positiv"}}, (), "Did you mean 'multi_positive'"),
        ({"loss": {"kind": "sigmoid"}}, (), "init_bias"),
        ({"precision": "fp16"}, (), "Known: bf16, fp32"),
        ({"steps": 0}, (), "steps=0"),
        ({"model": None}, (), "neither `model`"),
        ({"model": "clara-smal"}, (), "Did you mean 'clara-small'"),
        ({"ema": 1.5}, (), "ema=1.5"),
        ({"device": "tpu"}, (), "'auto', 'cpu' or 'cuda'"),
    ],
)
def test_a_mistake_in_a_recipe_is_named(
    shard: str, tmp_path: Path, changes: dict, overrides: tuple, message: str
) -> None:
    with pytest.raises(ClaraError, match=message):
        train(write_recipe(tmp_path / "r.yaml", shard, **changes), overrides)


def test_a_tokenizer_that_does_not_fit_is_refused(shard: str, tmp_path: Path) -> None:
    model = to_dict(arch_config("test-conv"))
    model["text"]["vocab_size"] = 100
    with pytest.raises(ClaraError, match=r"100 token embeddings, the tokenizer 320 tokens"):
        run(tone_config(shard, tmp_path, model=model))


def test_spec_augment_on_raw_waves_is_refused(shard: str, tmp_path: Path) -> None:
    with pytest.raises(ClaraError, match="spec_augment"):
        run(tone_config(shard, tmp_path, model="test-wavlm", spec_augment=SpecAugmentConfig()))


def test_weight_decay_spares_norms_biases_positions_and_the_temperature() -> None:
    model = clara.create_model("test-timm-vit")
    names = {n for n, p in model.named_parameters() if decays(n, p)}
    assert {"text.tokens.weight", "audio_head.weight"} <= names
    assert not [n for n in names if n.endswith("bias") or "norm" in n or "pos" in n]
    assert "log_scale" not in names
    assert "text.positions" in dict(model.named_parameters())
    optimizer = build_optimizer(model, OptimConfig(weight_decay=0.1, groups=(GroupConfig("text*", 0.5),)))
    assert {(g["lr_scale"], g["weight_decay"]) for g in optimizer.param_groups} == {
        (0.5, 0.1), (0.5, 0.0), (1.0, 0.1), (1.0, 0.0)
    }  # fmt: skip
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(list(model.parameters()))


def test_the_learning_rate_rises_then_falls_to_a_hundredth() -> None:
    config = OptimConfig(lr=1.0, warmup_steps=10)
    rates = [learning_rate(k, 110, config) for k in range(110)]
    assert rates[:10] == pytest.approx([0.1 * (k + 1) for k in range(10)])
    assert rates[60] == pytest.approx(0.5)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == 0.01


def test_the_average_follows_weights_and_buffers_in_float32() -> None:
    model = nn.BatchNorm1d(2).bfloat16()
    ema = EMA(model, 0.5)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.running_mean.fill_(1.0)
        model.num_batches_tracked.fill_(7)
    ema.update(model, step=100)
    assert ema.tensors["weight"].tolist() == [2.0, 2.0]
    assert ema.tensors["running_mean"].tolist() == [0.5, 0.5]
    assert ema.tensors["num_batches_tracked"] == 7
    assert ema.tensors["weight"].dtype == torch.float32
    ema.update(model, step=0)  # early steps: the decay is (1 + 0) / (10 + 0)
    assert ema.tensors["weight"][0] == pytest.approx(2.9)
