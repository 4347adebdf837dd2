"""Retrieval of two sounds in one clip."""

from __future__ import annotations

import numpy as np
import pytest
from tone_corpus import RATE, SOUNDS, ToneEmbedder, data

from clara.errors import ClaraError
from clara.eval.clips import Context
from clara.eval.composed import ComposedConfig, captions, composed_retrieval, event, mix, mixtures
from clara.text.prompts import term


def test_mixtures_are_distinct_pairs_and_follow_from_the_seed() -> None:
    audio = [f"{k}{i}" for k in SOUNDS for i in range(3)]
    labels = [k for k in SOUNDS for _ in range(3)]
    config = ComposedConfig(data(), clips=15)
    plan = mixtures(audio, labels, config, seed=1)
    assert plan == mixtures(audio, labels, config, seed=1)
    assert plan != mixtures(audio, labels, config, seed=2)
    assert len({frozenset(m.labels) for m in plan}) == 15
    assert all(m.first.startswith(m.labels[0]) and m.second.startswith(m.labels[1]) for m in plan)
    assert all(0.5 <= m.offset <= 2.5 for m in plan)
    used = [m.first for m in plan] + [m.second for m in plan]
    assert {used.count(a) for a in audio} == {1, 2}  # each class's clips in turn
    with pytest.raises(ClaraError, match="15 different pairs"):
        mixtures(audio, labels, ComposedConfig(data(), clips=16), seed=1)
    with pytest.raises(ClaraError, match="offset"):
        mixtures(audio, labels, ComposedConfig(data(), clips=3, offset=(3.0, 9.0)), seed=1)


def test_events_are_equally_loud_and_start_where_they_should(tone) -> None:
    quiet = np.concatenate([np.zeros(1600, np.float32), 0.01 * tone(0.5), np.zeros(8000, np.float32)])
    loud = tone(0.5, hz=1000.0)
    a, b = event(quiet, RATE), event(loud, RATE)
    assert abs(len(a) - 8000) <= 640  # silence at both ends is gone, to a frame
    assert np.sqrt((a**2).mean()) == pytest.approx(np.sqrt((b**2).mean()), rel=0.02)
    mixed = mix(a, b, 4000, 8000)
    np.testing.assert_array_equal(mixed[:4000], a[:4000])
    np.testing.assert_allclose(mixed[4000:], a[4000:8000] + b[:4000], rtol=1e-6)
    assert np.abs(mix(np.ones(10, np.float32), np.ones(10, np.float32), 0, 20)).max() == pytest.approx(0.95)
    assert event(np.zeros(100, np.float32), RATE).shape == (100,)


def test_every_language_captions_a_pair_in_five_ways() -> None:
    for code in ("en", "de"):
        texts = captions(("dog", "rain"), code)
        assert len(set(texts)) == 5
        names = [term("sound", k, code).names[0] for k in ("dog", "rain")]
        assert all(name in text for text in texts for name in names)


def test_composed_retrieval_needs_both_events(context: Context, monkeypatch) -> None:
    config = ComposedConfig(data("test"), clips=15, seconds=1.0, offset=(0.1, 0.3), languages=("en", "de"))
    got = composed_retrieval(config, context)
    assert (got.clips, got.notes["languages"]["en"]["captions"]) == (15, 75)
    assert got.value("en/t2a", "R@1") == got.value("de/a2t", "R@1") == 1.0
    loudest = ToneEmbedder._hear
    monkeypatch.setattr(
        ToneEmbedder, "_hear", lambda self, s: (p := loudest(self, s)) * (p == p.max())
    )  # hears one event only: five clips share it, and a tie counts against the query
    assert composed_retrieval(config, context).value("en/t2a", "R@1") < 0.2
