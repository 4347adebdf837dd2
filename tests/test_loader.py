"""Shards -> batches: pure functions of (seed, step), balanced, split over processes without loss."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
import webdataset

from clara.config import Spec
from clara.data.entries import Entry, scan, scan_tar
from clara.data.loader import (
    Batch,
    ClipPlan,
    ClipText,
    DataConfig,
    FactTargets,
    MixConfig,
    SamplingConfig,
    TrainBatches,
    make_loader,
)
from clara.errors import ClaraError
from clara.text.captions import Caption, CaptionConfig, Fact
from clara.text.tokenizer import build_tokenizer

SOUNDS = ("dog", "rain", "siren")


def write(path: Path, corpus: str, metas: list[dict], suffix: str = "flac") -> None:
    rng = np.random.default_rng(len(corpus))
    with webdataset.TarWriter(str(path)) as tar:
        for i, meta in enumerate(metas):
            data = io.BytesIO()
            sf.write(data, rng.uniform(-0.3, 0.3, rng.integers(3000, 16000)).astype("float32"), 16000, format=suffix)
            body = {"corpus": corpus, "split": "train", "seconds": 0.6, **meta}
            tar.write({"__key__": f"{corpus}{i}", suffix: data.getvalue(), "json": json.dumps(body).encode()})


@pytest.fixture
def shards(tmp_path: Path) -> str:
    write(tmp_path / "a.tar", "speech", [
        {"emotion": e, "language": "pl", "task": "emotion"} for e in ["anger"] * 30 + ["fear"] * 2
    ])  # fmt: skip
    write(tmp_path / "b.tar", "sounds", [{"label": s, "task": "sound"} for s in SOUNDS for _ in range(2)])
    write(tmp_path / "c.tar", "free", [{"text": "a door falls shut"}, {"text": ["steps", "someone walks"]}], "ogg")
    return str(tmp_path / "*.tar")


def batches(shards: str, rank: int = 0, world: int = 1, **changes: object) -> TrainBatches:
    config = DataConfig(**{"shards": (shards,), "batch_size": 8, "workers": 0, "crop_seconds": 0.5, **changes})
    return TrainBatches(config, build_tokenizer(Spec("sentencepiece")), 16000, 0, (rank, world))


def same(a: Batch, b: Batch) -> bool:
    pairs = ((getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(Batch))
    return all(x.equal(y) if isinstance(x, torch.Tensor) else x == y for x, y in pairs)


def test_a_batch_depends_on_seed_and_step_alone(shards: str) -> None:
    first, again = batches(shards), batches(shards)
    assert same(first[5], again[5])
    assert not same(first[5], first[6])


def planned(corpus: str, *facts: Fact, partner: ClipPlan | None = None, named: bool = False) -> ClipPlan:
    entry = Entry("", "", 0, 0, {"corpus": corpus}, frozenset(facts))
    return ClipPlan(entry, partner.entry if partner else None, named=named)


def test_what_holds_fails_and_is_open_for_a_clip() -> None:
    anger, joy, surprise = (("emotion", key) for key in ("anger", "happiness", "surprise"))
    rain, low, high, fast = ("sound", "rain"), ("voice", "low"), ("voice", "high"), ("voice", "fast")
    inventory = {"a": frozenset({anger, joy, low, high, fast}), "b": frozenset({surprise}), "c": frozenset({rain})}
    targets = FactTargets(inventory)

    def verdict(plan: ClipPlan) -> dict[Fact, int]:
        positive_1F, ignore_1F = targets([plan])
        return {f: 1 if positive_1F[0, i] else 0 if ignore_1F[0, i] else -1 for i, f in enumerate(targets.facts)}

    voice, sound = planned("a", anger, low), planned("c", rain)
    assert verdict(voice) == {anger: 1, joy: -1, surprise: 0, rain: -1, low: 1, high: -1, fast: 0}
    assert verdict(sound) == {rain: 1, anger: -1, joy: -1, surprise: -1, low: -1, high: -1, fast: -1} | {
        f: 0 for f in (anger, joy, surprise) if f not in inventory["c"]
    }
    assert verdict(planned("a", anger, partner=sound))[rain] == 0  # it is heard, and nobody said so
    assert verdict(planned("a", anger, partner=sound, named=True))[rain] == 1


def test_words_that_sound_alike_are_no_negatives() -> None:
    taxi, taxis, two = ("word", "de:taxi"), ("word", "en:taxi"), ("word", "en:two")
    targets = FactTargets({"words": frozenset({taxi, taxis, two})})
    positive_1F, ignore_1F = targets([planned("words", taxi)])
    assert [targets.facts[i] for i in ignore_1F[0].nonzero()[:, 0]] == [taxis]
    assert positive_1F.sum() == 1


def test_resuming_gives_the_batches_that_were_left(shards: str) -> None:
    config = DataConfig(shards=(shards,), batch_size=4, workers=1, crop_seconds=0.5)
    tokenizer = build_tokenizer(Spec("sentencepiece"))
    whole = list(make_loader(TrainBatches(config, tokenizer, 16000, 1, (0, 1)), steps=range(4)))
    rest = list(make_loader(TrainBatches(config, tokenizer, 16000, 1, (0, 1)), steps=range(2, 4)))
    assert len(rest) == 2 and same(whole[2], rest[0]) and same(whole[3], rest[1])


def test_two_processes_hold_the_two_halves_of_the_global_batch(shards: str) -> None:
    one = batches(shards)[3]
    left, right = batches(shards, 0, 2)[3], batches(shards, 1, 2)[3]
    assert left.keys + right.keys == one.keys
    assert (left.texts + right.texts)[: len(one.texts)] == one.texts and len(left.texts) == len(right.texts)
    assert left.positive_BU.equal(right.positive_BU)
    assert left.positive_BU[:, : len(one.texts)].equal(one.positive_BU)
    padding = left.positive_BU[:, len(one.texts) :]
    assert not padding.any() and left.ignore_BU[:, len(one.texts) :].all()
    with pytest.raises(ClaraError, match="multiple"):
        batches(shards, 0, 3)


def test_every_clip_has_a_true_caption_and_it_is_its_own(shards: str) -> None:
    source = batches(shards)
    for step in range(5):
        batch = source[step]
        assert batch.positive_BU.any(1).all()
        assert not (batch.positive_BU & batch.ignore_BU).any()
        rows = torch.arange(len(batch.keys))
        assert batch.positive_BU[rows, batch.text_index_B].all()
        assert batch.x.shape[1] <= 8000 and batch.x.isfinite().all()


def test_classes_are_balanced_within_a_corpus(shards: str) -> None:
    source = batches(shards, sampling=SamplingConfig(corpora={"speech": 1.0}))
    drawn = Counter(source.entries[i].meta["emotion"] for step in range(100) for i in source.plan.batch(step))
    assert 0.4 < drawn["fear"] / drawn.total() < 0.6  # 2 clips against 30


def test_buckets_hold_the_same_clips_sorted_by_length(shards: str) -> None:
    plan = batches(shards, bucket=4).plan
    lengths = [np.mean([plan.entries[i].meta["seconds"] for i in plan.batch(k)]) for k in range(4)]
    assert len(lengths) == 4 and sorted(plan.batch(0)) != sorted(plan.batch(1))


def test_composed_clips_are_captioned_with_both_sounds(shards: str) -> None:
    source = batches(
        shards, sampling=SamplingConfig(corpora={"sounds": 1.0}), mix=MixConfig(compose=1.0),
        captions=CaptionConfig(languages=("en",), composed=1.0),
    )  # fmt: skip
    plans = [source._plan(i, np.random.default_rng(k)) for k, i in enumerate(source.plan.batch(0))]
    said = [source._text(plan, np.random.default_rng(k)) for k, plan in enumerate(plans)]
    both = [c for c in said if len(c.facts) == 2]
    assert both and all(c.own.facts == c.facts for c in both)


def test_a_sound_under_speech_is_named_where_it_is_heard(shards: str) -> None:
    source = batches(
        shards, sampling=SamplingConfig(corpora={"speech": 1.0}),
        mix=MixConfig(over=1.0, over_snr_db=(0.0, 20.0), over_named_db=10.0),
        captions=CaptionConfig(languages=("en",), composed=1.0, attributes=1.0),
    )  # fmt: skip
    seen = Counter()
    for k in range(40):
        rng = np.random.default_rng(k)
        plan = source._plan(source.plan.batch(k)[0], rng)
        said = source._text(plan, rng)
        sounds = {f for f in said.facts if f[0] == "sound"}
        assert plan.named == (plan.snr <= 10.0) == bool(sounds)
        seen[plan.named] += 1
        rain = Caption("rain", frozenset({("sound", "rain")}))
        both = Caption("both", said.facts)
        positive, ignored, _ = source._targets([plan], [ClipText(said.facts, None)], [rain, both], 2)
        assert positive[0, 1] and bool(positive[0, 0]) == (("sound", "rain") in sounds)
        assert bool(ignored[0, 0]) == (not plan.named)  # too faint to be named: neither there nor not there
        if plan.named:
            emotion = next(f for f in said.facts if f[0] == "emotion")
            assert said.own.facts == sounds | {emotion}
    assert min(seen.values()) > 10
    batch = source[0]
    assert batch.positive_BU.any(1).all() and batch.x.isfinite().all()


def test_quotations_are_true_of_their_own_clip(tmp_path: Path) -> None:
    write(tmp_path / "q.tar", "quoted", [
        {"emotion": e, "language": "pl", "gender": "male", "task": "emotion", "transcript": t}
        for e in ("anger", "fear") for t in ("Kawa", "Herbata")
    ])  # fmt: skip
    source = batches(str(tmp_path / "q.tar"), captions=CaptionConfig(languages=("en",), said=1.0, attributes=0.0))
    batch = source[0]
    rows = torch.arange(8)
    assert batch.positive_BU[rows, batch.text_index_B].all()
    assert all("“" in batch.texts[u] for u in batch.text_index_B)


def test_what_cannot_be_trained_on_is_said(tmp_path: Path, shards: str) -> None:
    with pytest.raises(ClaraError, match="No shards match"):
        batches(str(tmp_path / "none-*.tar"))
    with pytest.raises(ClaraError, match="splits"):
        batches(shards, splits=("test",))
    with pytest.raises(ClaraError, match=r"names \['speach'\]"):
        batches(shards, sampling=SamplingConfig(corpora={"speach": 1.0}))
    broken = tmp_path / "a.tar"
    broken.write_bytes(broken.read_bytes()[:5000])
    with pytest.raises(ClaraError, match="--verify"):
        scan(DataConfig(shards=(str(broken),), batch_size=2))


def test_text_may_be_a_string_or_a_list(tmp_path: Path, shards: str) -> None:
    texts = [e.meta["text"] for e in scan_tar(str(tmp_path / "c.tar"))]
    assert texts == [("a door falls shut",), ("steps", "someone walks")]


def test_splits_may_be_of_one_corpus(shards: str) -> None:
    assert {e.meta["corpus"] for e in batches(shards, splits=("sounds:train", "speech:test")).entries} == {"sounds"}


def test_foreign_shards_are_read_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "CREMA-D" / "train"
    folder.mkdir(parents=True)
    body = {
        "text": "A man, saying something.",
        "original_data": {"emotion": "angry", "gender": "male", "language": "en"},
    }
    data = io.BytesIO()
    sf.write(data, np.zeros(8000, "float32"), 16000, format="flac")
    with webdataset.TarWriter(str(folder / "0.tar")) as tar:
        tar.write({"__key__": "0", "flac": data.getvalue(), "json": json.dumps(body).encode()})
    (entry,) = batches(str(folder / "*.tar"), batch_size=1).entries
    assert entry.facts == {("emotion", "anger"), ("speaker", "male"), ("language", "en")}
    assert entry.meta["corpus"] == "CREMA-D" and entry.meta["split"] == "train"


def test_what_else_a_sample_holds_is_left(tmp_path: Path) -> None:
    """A text beside audio and JSON, wherever it stands; suffixes in capitals; not a packed tar, nor Latin JSON."""
    data, path = io.BytesIO(), tmp_path / "a.tar"
    sf.write(data, np.zeros(8000, "float32"), 16000, format="flac")
    with webdataset.TarWriter(str(path), encoder=False) as tar:
        tar.write({"__key__": "0", "flac": data.getvalue(), "json": b'{"text": "rain"}', "txt": b"rain"})
        tar.write({"__key__": "1", "FLAC": data.getvalue(), "JSON": b'{"text": "wind"}', "cls": b"0"})
    assert [(e.key, e.meta["text"]) for e in scan_tar(str(path))] == [("0", ("rain",)), ("1", ("wind",))]
    (tmp_path / "b.tar").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(ClaraError, match=r"b.tar is compressed"):
        list(scan_tar(str(tmp_path / "b.tar")))
    with webdataset.TarWriter(str(path), encoder=False) as tar:
        tar.write({"__key__": "0", "flac": data.getvalue(), "json": '{"text": "łoś"}'.encode("latin2")})
    with pytest.raises(ClaraError, match=r"a.tar sample .0.: invalid JSON .*utf-8"):
        list(scan_tar(str(path)))


def test_clips_with_nothing_but_visual_or_augmented_captions_are_trained_on(tmp_path: Path) -> None:
    seen, reworded = {"visual_captions": ["a dog in the snow"]}, {"text": [], "text_augmented": ["steps in snow"]}
    write(tmp_path / "v.tar", "video", [seen, seen, reworded, reworded])
    chosen = {"batch_size": 4, "captions": CaptionConfig(original=0.0, augmented=0.1, visual=0.1)}
    said = {text for step in range(4) for text in batches(str(tmp_path / "*.tar"), **chosen)[step].texts}
    assert said - {"-"} == {"a dog in the snow", "steps in snow"}
    none_seen = DataConfig((str(tmp_path / "*.tar"),), 4, captions=CaptionConfig(visual=0.0))
    assert len(scan(none_seen)) == 2
