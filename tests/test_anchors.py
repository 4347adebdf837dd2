"""Training against anchors: the vocabulary of facts, the loss, resuming, and what an anchor starts from."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
import webdataset
from test_resume import lines, run_until
from tones import tone, tone_config

import clara
from clara.data.facts import FactBatches, fact_name, named_fact, vocabulary
from clara.data.loader import MixConfig
from clara.errors import ClaraError
from clara.losses import audio_to_text, multi_positive
from clara.text.tokenizer import FactsConfig, FactsTokenizer
from clara.train.anchors import AnchorStage, said
from clara.train.recipe import LossConfig, TrainConfig
from clara.train.trainer import run
from clara.zoo.factory import create_model, get_tokenizer

CLASSES = {"dog": 150.0, "rain": 600.0, "siren": 2400.0}


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Ten clips each of three sounds, one clip of a fourth and one with a free text alone."""
    path, rng = tmp_path_factory.mktemp("facts") / "x.tar", np.random.default_rng(0)
    labels = [*list(CLASSES) * 10, "wind", None]
    with webdataset.TarWriter(str(path)) as tar:
        for i, label in enumerate(labels):
            data = io.BytesIO()
            sf.write(data, tone(CLASSES.get(label, 5000.0) * rng.uniform(0.95, 1.05)), 16000, format="flac")
            meta = {"label": label, "task": "sound"} if label else {"text": ["a free text"]}
            body = {"corpus": "tones", "split": "train", "seconds": 0.4, **meta}
            tar.write({"__key__": f"{i:03d}", "flac": data.getvalue(), "json": json.dumps(body).encode()})
    return str(path)


def config(shard: str, out: Path, **changes: object) -> TrainConfig:
    return tone_config(shard, out, anchors=AnchorStage(least_clips=8), loss=LossConfig("audio_to_text"), **changes)


def test_facts_have_names_and_back() -> None:
    assert fact_name(("word", "zh:你好")) == "word/zh:你好" and named_fact("word/en:a/b") == ("word", "en:a/b")
    with pytest.raises(ClaraError, match="names no fact"):
        named_fact("anger")


def test_the_vocabulary_is_what_enough_clips_hold(shard: str, tmp_path: Path) -> None:
    data = config(shard, tmp_path).data
    assert vocabulary(data, 8) == ["sound/dog", "sound/rain", "sound/siren"]
    assert "sound/wind" in vocabulary(data, 1)
    with pytest.raises(ClaraError, match="least_clips"):
        vocabulary(data, 100)


def test_a_clip_without_an_anchor_has_no_positive(shard: str, tmp_path: Path) -> None:
    (tmp_path / "facts.txt").write_text("sound/dog\nsound/rain\nsound/siren\n")
    tokenizer = FactsTokenizer(FactsConfig(), tmp_path)
    data = dataclasses.replace(config(shard, tmp_path).data, mix=MixConfig(compose=0.0))
    batches = FactBatches(data, tokenizer, 16000, 0, (0, 1))
    batch = batches[0]
    assert batch.texts[:3] == tokenizer.facts and set(batch.texts[3:]) <= {"sound/dog"}
    by_key = dict(zip(batch.keys, batch.positive_BU.sum(1).tolist()))
    assert {n for k, n in by_key.items() if int(k) < 30} == {1}
    drawn = dict(kv for step in range(12) for kv in zip(batches[step].keys, batches[step].positive_BU.sum(1).tolist()))
    assert drawn["030"] == drawn["031"] == 0


def test_the_loss_is_half_of_multi_positive() -> None:
    a_BD, t_UD = torch.randn(4, 8), torch.randn(5, 8)
    positive, ignore = torch.rand(4, 5) < 0.4, torch.rand(4, 5) < 0.2
    both = multi_positive(a_BD, t_UD, positive, 3.0, ignore)
    other = audio_to_text(t_UD, a_BD, positive.T, 3.0, ignore.T)
    torch.testing.assert_close(audio_to_text(a_BD, t_UD, positive, 3.0, ignore), 2 * both - other)


def test_sounds_find_their_anchors_and_a_broken_run_goes_on(
    shard: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run(config(shard, tmp_path / "whole", steps=40))
    zoo = clara.load(f"dir:{folder}")
    audio_BD = zoo.embed_audio([(tone(hz), 16000) for hz in CLASSES.values()])
    names = zoo.tokenizer.facts
    assert [names[i] for i in (audio_BD @ zoo.embed_text(names).T).argmax(1)] == [f"sound/{c}" for c in CLASSES]
    assert float(zoo.model.scale.detach()) == pytest.approx(16.0)
    with pytest.raises(ClaraError, match="no words yet"):
        zoo.embed_text(["a dog barks"])
    whole = config(shard, tmp_path / "short", steps=10)
    run(whole)
    run_until(dataclasses.replace(whole, out=str(tmp_path / "broken")), 3, monkeypatch)
    run(dataclasses.replace(whole, out=str(tmp_path / "broken")))
    assert lines(tmp_path / "broken") == lines(tmp_path / "short")


def test_anchors_start_where_the_words_are_or_where_anchors_were(shard: str, tmp_path: Path) -> None:
    first = config(shard, tmp_path / "a", steps=1, model=None, init="clara-small.base")
    run(first)
    start, now = create_model("clara-small.base"), create_model(f"dir:{tmp_path / 'a' / 'checkpoint'}")
    words = said(start, get_tokenizer("clara-small.base"), ["sound/dog", "sound/rain", "sound/siren"])
    cosine = torch.nn.functional.cosine_similarity(now.text.vectors.weight, words)
    assert cosine.min() > 0.99
    again = dataclasses.replace(first, out=str(tmp_path / "b"), init=f"dir:{tmp_path / 'a' / 'checkpoint'}")
    run(again)
    then = create_model(f"dir:{tmp_path / 'b' / 'checkpoint'}")
    assert torch.nn.functional.cosine_similarity(now.text.vectors.weight, then.text.vectors.weight).min() > 0.99


def test_fixed_anchors_stay_where_they_were(shard: str, tmp_path: Path) -> None:
    run(config(shard, tmp_path / "a", steps=1))
    start = create_model(f"dir:{tmp_path / 'a' / 'checkpoint'}").state_dict()
    fixed = config(shard, tmp_path / "b", steps=3, model=None, init=f"dir:{tmp_path / 'a' / 'checkpoint'}")
    fixed = dataclasses.replace(fixed, anchors=AnchorStage(least_clips=8, fixed=True))
    end = create_model(f"dir:{run(fixed)}").state_dict()
    assert torch.equal(start["text.vectors.weight"], end["text.vectors.weight"])
    assert not torch.equal(start["audio_head.weight"], end["audio_head.weight"])
    with pytest.raises(ClaraError, match="no anchors to keep"):
        run(dataclasses.replace(fixed, model="test-conv", init=None, out=str(tmp_path / "c")))
