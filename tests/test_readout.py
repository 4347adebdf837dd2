"""The readouts of an audio head: fitted when training ends, to classes that plain statistics tell apart."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from tiny import readout_spec
from tones import tone, tone_config

import clara
from clara.config import Spec, to_dict
from clara.data.entries import read_entry, scan
from clara.data.loader import DataConfig
from clara.data.states import StatesConfig
from clara.errors import ClaraError
from clara.heads import HEADS, ReadoutHead
from clara.text.captions import CaptionConfig
from clara.train.optim import GroupConfig, OptimConfig
from clara.train.readout import ReadoutConfig
from clara.train.recipe import TrainConfig, check
from clara.train.trainer import run
from clara.zoo.embedder import Embedder

PITCHES = {"anger": 2500.0, "sadness": 200.0, "neutral": 800.0}
FROZEN = OptimConfig(lr=1e-4, warmup_steps=0, groups=(GroupConfig("audio.encoder.*", 0.0), GroupConfig("text*", 0.0)))
TASKS = {"emotion": ReadoutConfig(share=1.0, decay=1e-3, least_takes=4)}


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Tones that are labelled with emotions, and noises that are labelled as rain."""
    path, rng = tmp_path_factory.mktemp("readout") / "voices-0.tar", np.random.default_rng(0)
    with tarfile.open(path, "w") as tar:
        for i in range(32):
            emotion = [*PITCHES, None][i % 4]
            seconds = rng.uniform(0.3, 0.5)
            noise = rng.uniform(-0.3, 0.3, int(16000 * seconds)).astype(np.float32)
            wave, file = (
                noise if emotion is None else tone(PITCHES[emotion] * rng.uniform(0.9, 1.1), seconds),
                io.BytesIO(),
            )
            sf.write(file, wave, 16000, format="WAV")
            label = (
                {"emotion": emotion, "corpus": "voices"}
                if emotion
                else {"task": "sound", "label": "rain", "corpus": "noises"}
            )
            meta = {"text": [], "split": "train", "seconds": seconds, **label}
            for name, data in ((f"{i:03d}.wav", file.getvalue()), (f"{i:03d}.json", json.dumps(meta).encode())):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return str(path)


def config(shard: str, out: Path, **changes: object) -> TrainConfig:
    model = to_dict(readout_spec([3]))
    data = DataConfig(shards=(shard,), batch_size=4, workers=0, augment=None, captions=CaptionConfig())
    settings = {"data": data, "model": model, "states": StatesConfig(str(out / "states"), 1), "optim": FROZEN}
    return tone_config(shard, out, **{**settings, "steps": 2, "channels_last": False, "readout": TASKS, **changes})


def recall(model: Embedder, waves: list[np.ndarray], labels: list[str]) -> float:
    """The share of clips whose emotion English prompts name rightly."""
    found = clara.Classifier(model, labels=list(PITCHES), task="emotion")([(w, 16000) for w in waves])
    return float(np.mean([prediction.label == label for prediction, label in zip(found, labels)]))


def test_what_statistics_tell_apart_is_said_in_the_space_of_the_texts(
    shard: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clara.train.readout.languages", lambda: ["en"])  # a random text side has no translations
    folder = run(config(shard, tmp_path))
    entries = [e for e in scan(DataConfig(shards=(shard,), batch_size=1)) if e.meta.get("emotion")]
    waves, labels = [read_entry(e, 16000) for e in entries], [e.meta["emotion"] for e in entries]
    model = clara.load(f"dir:{folder}")
    assert recall(model, waves, labels) > 0.9
    head = model.model.audio_head
    assert isinstance(head, ReadoutHead) and head.share.tolist() == [1.0]
    head.share.zero_()  # the base head alone was hardly trained
    assert recall(model, waves, labels) < 0.9


def test_the_gate_is_closed_to_clips_of_another_kind(shard: str, tmp_path: Path) -> None:
    model = clara.load(f"dir:{run(config(shard, tmp_path))}")
    entries = scan(DataConfig(shards=(shard,), batch_size=1))
    waves = [read_entry(e, 16000) for e in entries]
    with_readout = model.embed_audio([(w, 16000) for w in waves])
    model.model.audio_head.share.zero_()
    moved = np.abs(np.asarray(with_readout) - np.asarray(model.embed_audio([(w, 16000) for w in waves]))).max(1)
    voices = np.array([bool(e.meta.get("emotion")) for e in entries])
    assert moved[~voices].max() < 0.2 * moved[voices].mean()


def test_a_run_that_was_killed_before_the_fit_makes_it(
    shard: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = clara.load(f"dir:{run(config(shard, tmp_path / 'whole'))}").model.audio_head.map
    with monkeypatch.context() as patched:
        patched.setattr("clara.train.readout.fit", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(config(shard, tmp_path / "broken"))
    again = clara.load(f"dir:{run(config(shard, tmp_path / 'broken'))}").model.audio_head.map
    assert torch.allclose(whole, again, atol=1e-3)


def test_mistakes_are_told(shard: str, tmp_path: Path) -> None:
    with pytest.raises(ClaraError, match="readout needs `states`"):
        check(config(shard, tmp_path, states=None))
    with pytest.raises(ClaraError, match="expected an audio_head of kind 'readout' with a rank for each task"):
        run(config(shard, tmp_path / "head", model="test-whisper-own"))
    assert not list((tmp_path / "head").glob("step-*"))  # told before any step was made
    with pytest.raises(ClaraError, match="1 classes have 4 stored takes or more"):
        run(config(shard, tmp_path / "one", readout={"sound": ReadoutConfig(1.0, 0.1, 4)}))
    with pytest.raises(ClaraError, match="task of readout"):
        run(config(shard, tmp_path / "task", readout={"emotions": ReadoutConfig(1.0, 0.1)}))


def test_without_a_readout_the_embedding_is_the_base_heads() -> None:
    head = HEADS.create(Spec("readout", {"base": {"kind": "linear"}, "statistics": 2, "ranks": [1, 3]}), 6, 4)
    x = torch.randn(5, 6)
    assert torch.allclose(head(x), torch.nn.functional.normalize(head.base(x[:, :4]), dim=-1))
