"""Training from stored states: the same numbers as from waves, whatever interrupted the store."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import save_tiny
from tones import tone_config, write_tones

import clara
from clara.audio.augment import SpecAugmentConfig, WaveAugmentConfig
from clara.config import Spec
from clara.data.loader import DataConfig, MixConfig, TrainBatches
from clara.data.parallel import sole_writer
from clara.data.states import DistilBatches, StateBatches, StatesConfig, StateStore, name_of
from clara.errors import ClaraError
from clara.model import DualEncoder
from clara.text.tokenizer import build_tokenizer
from clara.train.anchors import AnchorStage
from clara.train.distil import DistilConfig
from clara.train.memo import TextMemo
from clara.train.optim import GroupConfig, OptimConfig
from clara.train.recipe import check
from clara.train.trainer import run

FROZEN = OptimConfig(lr=0.01, warmup_steps=0, groups=(GroupConfig("audio.encoder.*", 0.0), GroupConfig("text.*", 0.0)))

TEXT_FROZEN = OptimConfig(lr=0.01, warmup_steps=0, groups=(GroupConfig("text*", 0.0),))


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tones(tmp_path_factory.mktemp("tones") / "tones-0.tar")


@pytest.fixture(scope="module")
def model() -> DualEncoder:
    torch.manual_seed(0)
    return clara.create_model("test-whisper-own").eval()


def data(shard: str, **changes: object) -> DataConfig:
    plain = {"augment": None, "mix": MixConfig(0.0, background=0.0), "crop_seconds": 0.5, "workers": 0}
    return DataConfig(**{"shards": (shard,), "batch_size": 4, **plain, **changes})


def filled(folder: Path, model: DualEncoder, config: DataConfig, takes: int = 1) -> StateStore:
    store = StateStore(StatesConfig(str(folder), takes))
    list(store.fill(model, config, False, lambda: False))
    return store


def state_batches(config: DataConfig, store: StateStore) -> StateBatches:
    return StateBatches(config, build_tokenizer(Spec("sentencepiece")), 16000, 0, (0, 1), store)


def test_stored_states_embed_as_the_waves_do(shard: str, model: DualEncoder, tmp_path: Path) -> None:
    config = data(shard)
    stored = state_batches(config, filled(tmp_path, model, config))[3]
    waves = TrainBatches(config, build_tokenizer(Spec("sentencepiece")), 16000, 0, (0, 1))[3]
    assert stored.keys == waves.keys
    mask_BN = torch.arange(stored.x.shape[1]) < stored.len_B[:, None]
    with torch.inference_mode():
        both = model.encode_states(stored.x, mask_BN), model.encode_audio(waves.x, waves.len_B)
    assert torch.allclose(*both, atol=2e-3)  # the store is in float16


def test_a_store_that_was_interrupted_is_filled_up_to_the_same(
    shard: str, model: DualEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clara.data.states.PART", 3)
    config = data(shard, augment=DataConfig((), 1).augment)
    whole, broken = filled(tmp_path / "whole", model, config, 2), StateStore(StatesConfig(str(tmp_path / "broken"), 2))
    answers = iter([False, False, True])
    list(broken.fill(model, config, False, lambda: next(answers)))
    assert 0 < len(broken.takes) < len(whole.takes)
    broken = filled(tmp_path / "broken", model, config, 2)
    assert broken.takes.keys() == whole.takes.keys()
    for key, take in whole.takes.items():
        assert np.allclose(whole.states(take), broken.states(broken.takes[key]), atol=1e-2), key


def test_other_settings_or_weights_are_refused(shard: str, model: DualEncoder, tmp_path: Path) -> None:
    filled(tmp_path, model, data(shard))
    with pytest.raises(ClaraError, match="made with another crop_seconds"):
        filled(tmp_path, model, data(shard, crop_seconds=0.3))
    other = clara.create_model("test-whisper-own")
    with torch.no_grad():
        other.audio.encoder.model.conv1.weight.add_(1.0)
    with pytest.raises(ClaraError, match="made with another weights"):
        filled(tmp_path, other, data(shard))


def test_a_take_mixed_with_a_clip_that_is_left_out_is_not_used(shard: str, model: DualEncoder, tmp_path: Path) -> None:
    config = data(shard)
    store = filled(tmp_path, model, config, 2)
    name = name_of(state_batches(config, store).entries[0])
    store.takes[name, 1] = dataclasses.replace(store.takes[name, 1], partner="other.tar::clip")
    usable = state_batches(config, store).usable
    assert usable[0] == [0] and usable[1] == [0, 1]


def test_another_clip_under_a_stored_name_is_refused(shard: str, model: DualEncoder, tmp_path: Path) -> None:
    config = data(shard)
    store = filled(tmp_path, model, config)
    name = name_of(state_batches(config, store).entries[0])
    store.takes[name, 0] = dataclasses.replace(store.takes[name, 0], size=1)
    with pytest.raises(ClaraError, match="is the name of another clip too"):
        state_batches(config, store)


def test_missing_states_are_told(shard: str, tmp_path: Path) -> None:
    with pytest.raises(ClaraError, match="lacks the states of"):
        state_batches(data(shard), StateStore(StatesConfig(str(tmp_path))))


def test_training_from_states_learns_and_leaves_the_encoder(shard: str, tmp_path: Path) -> None:
    states = StatesConfig(str(tmp_path / "states"), 1)
    changes = {"model": "test-whisper-own", "optim": FROZEN, "states": states, "steps": 30, "channels_last": False}
    folder = run(tone_config(shard, tmp_path, **changes))
    torch.manual_seed(0)
    trained, start = clara.create_model(f"dir:{folder}"), clara.create_model("test-whisper-own")
    names = [n for n, _ in start.named_parameters() if n.startswith(("audio.encoder.", "text."))]
    ours, theirs = trained.state_dict(), start.state_dict()
    assert all(torch.allclose(ours[n], theirs[n], atol=2e-3) for n in names)
    losses = [
        float(x.split('"loss": ')[1].split(",")[0]) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()
    ]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_a_worker_is_not_sent_the_open_states(shard: str, model: DualEncoder, tmp_path: Path) -> None:
    store = filled(tmp_path, model, data(shard))
    closed = len(pickle.dumps(store))
    takes = [store.states(take) for take in store.takes.values()]
    again = pickle.loads(pickle.dumps(store))
    assert len(pickle.dumps(store)) == closed < sum(t.nbytes for t in takes)
    assert all(np.array_equal(again.states(take), ours) for take, ours in zip(store.takes.values(), takes))


def test_one_process_at_a_time_fills_a_store(
    shard: str, model: DualEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clara.data.states.WAIT_SECONDS", 0.0)
    with sole_writer(tmp_path), pytest.raises(ClaraError, match="another process is writing"):
        filled(tmp_path, model, data(shard))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distil": DistilConfig("dir:teacher")}, "distil needs `states`"),
        ({"distil": DistilConfig("dir:teacher"), "states": StatesConfig("x"), "model": None}, "distil needs `model`"),
        ({"states": StatesConfig("x"), "anchors": AnchorStage()}, "states or anchors to null"),
        ({"states": StatesConfig("x"), "spec_augment": SpecAugmentConfig()}, "spec_augment or states to null"),
    ],
)
def test_what_does_not_go_with_stored_states_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ClaraError, match=message):
        check(tone_config("x", Path("out"), **changes))


def test_a_run_goes_on_from_a_store_that_was_moved(shard: str, tmp_path: Path) -> None:
    changes = {"model": "test-whisper-own", "optim": FROZEN, "channels_last": False, "save_every": 1}
    for steps, folder in ((1, "old"), (2, "new")):
        config = tone_config(shard, tmp_path, states=StatesConfig(str(tmp_path / folder), 1), **changes)
        run(dataclasses.replace(config, steps=steps))
        if folder == "old":
            (tmp_path / "old").rename(tmp_path / "new")
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2 and not (tmp_path / "old").exists()


def test_a_student_whose_texts_train_is_refused(shard: str, tmp_path: Path) -> None:
    teacher = f"dir:{save_tiny(tmp_path / 'teacher', 'test-whisper-own')}"
    changes = {"distil": DistilConfig(teacher), "states": StatesConfig(str(tmp_path / "states"))}
    with pytest.raises(ClaraError, match="keeps its teacher's texts"):
        run(tone_config(shard, tmp_path / "student", **changes))


def test_states_of_an_encoder_that_trains_are_refused(shard: str, tmp_path: Path) -> None:
    states = StatesConfig(str(tmp_path / "states"), 1)
    with pytest.raises(ClaraError, match="not frozen"):
        run(tone_config(shard, tmp_path, model="test-whisper-own", states=states))


def test_a_student_learns_its_teachers_embeddings_and_takes_its_texts(shard: str, tmp_path: Path) -> None:
    states = StatesConfig(str(tmp_path / "states"), 2)
    frozen = dataclasses.replace(FROZEN, lr=0.003)
    changes = {"model": "test-whisper-own", "optim": frozen, "states": states, "steps": 10, "channels_last": False}
    teacher = f"dir:{run(tone_config(shard, tmp_path / 'teacher', **changes))}"
    changes = {"model": "test-conv", "distil": DistilConfig(teacher), "states": states, "optim": TEXT_FROZEN}
    folder = run(tone_config(shard, tmp_path / "student", steps=40, **changes))
    both = [clara.load(name, device="cpu") for name in (teacher, f"dir:{folder}")]
    assert np.allclose(*(zoo.embed_text(["a high tone", "rain"]).numpy() for zoo in both), atol=1e-5)
    values = [json.loads(line)["loss"] for line in (tmp_path / "student" / "metrics.jsonl").read_text().splitlines()]
    assert sum(values[-5:]) < 0.8 * sum(values[:5])


def test_a_take_is_rendered_again_as_it_was_stored(shard: str, model: DualEncoder, tmp_path: Path) -> None:
    config = data(shard, augment=WaveAugmentConfig(), mix=MixConfig(1.0, background=1.0))
    store = filled(tmp_path, model, config, 2)
    batches = DistilBatches(config, build_tokenizer(Spec("sentencepiece")), 16000, 0, (0, 1), store)
    plans = [StateBatches._plan(batches, i, np.random.default_rng(i)) for i in range(8)]
    assert {p.take.number for p in plans} == {0, 1}
    wave_BT, len_B = batches._audio(plans, 0, range(8))
    with torch.inference_mode():
        states, mask_BN = model.audio.states(*model.front_end(wave_BT, len_B))
    for plan, ours, mask in zip(plans, states, mask_BN):
        assert np.allclose(store.states(plan.take), ours[mask].numpy(), atol=1e-2)


def test_a_memo_gives_what_the_tower_gives(model: DualEncoder, tmp_path: Path) -> None:
    tokenizer = build_tokenizer(Spec("sentencepiece", {"file": "test.model"}))
    ids_UL, mask_UL = tokenizer(["a dog", "rain on a roof, and wind", "a dog", "x"])
    memo = TextMemo(model.text, tmp_path)
    with torch.inference_mode():
        expected = model.text(ids_UL, mask_UL)
    assert torch.allclose(memo(ids_UL, mask_UL), expected, atol=2e-3) and len(memo.known) == 3
    memo.save()
    again = TextMemo(model.text, tmp_path)
    assert again.known.keys() == memo.known.keys()
    again.tower = None  # nothing is left to compute
    assert torch.allclose(again(ids_UL[:2], mask_UL[:2]), expected[:2], atol=2e-3)
