"""Few labels: probes, prototypes and shots."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tone_corpus import data

from clara.errors import ClaraError
from clara.eval.clips import Context
from clara.eval.probe import ProbeConfig, choose_l2, draw_shots, fit_probe, probe, prototypes


def test_probe_agrees_with_scikit_learn() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(3), 40)
    x = rng.standard_normal((120, 6)) * [1, 2, 3, 4, 5, 6] + y[:, None]
    ours = fit_probe(torch.from_numpy(x), torch.from_numpy(y), 3, l2=0.05)
    z = (x - x.mean(0)) / x.std(0)
    theirs = linear.LogisticRegression(C=1 / (0.05 * 120), tol=1e-8, max_iter=1000).fit(z, y)
    np.testing.assert_allclose(ours.weight_KD, theirs.coef_, atol=1e-4)
    np.testing.assert_allclose(ours(torch.from_numpy(x)).softmax(-1), theirs.predict_proba(z), atol=1e-4)


def test_weight_decay_is_chosen_on_other_speakers() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(2).repeat(60)
    x = torch.randn(120, 40, generator=generator)
    x[:, 0] += 1.5 * y  # one weak cue among noise: little decay overfits
    groups = np.repeat(list("abcdef"), 20)
    assert choose_l2(x, y, groups, (1e-6, 1.0), seed=0) == 1.0
    assert choose_l2(x, y, groups, (0.5,), seed=0) == 0.5
    y = (torch.arange(120) % 4 == 0).long()
    x = y[:, None] + 0.1 * x[:, 1:5]  # a clear cue of a rare class: too much decay always says the other
    assert choose_l2(x, y, groups, (1e-3, 1e3), seed=0) == 1e-3


def test_weight_decay_is_never_judged_on_a_training_speaker(monkeypatch) -> None:
    taught = []

    def fit(x_ND, y_N, classes, l2):
        taught.append({int(s) for s in x_ND[:, 0]})
        return lambda x_BD: torch.zeros(len(x_BD), classes)

    monkeypatch.setattr("clara.eval.probe.fit_probe", fit)
    speaker = torch.arange(6).repeat(10)
    choose_l2(speaker[:, None].float(), speaker % 2, np.array([f"s{i}" for i in speaker]), (1.0, 2.0), seed=0)
    assert [len(s) for s in taught] == [4] * 6  # of 6 speakers 2 are held out, three times, for two decays
    assert set.intersection(*taught) == set()


def test_shots_are_drawn_per_class_without_repeats() -> None:
    y = np.repeat([0, 1], [4, 9])
    pick = draw_shots(y, 3, ["a", "b"], seed=0)
    assert np.bincount(y[pick]).tolist() == [3, 3]
    assert len(set(pick.tolist())) == 6
    assert sorted(draw_shots(y, None, ["a", "b"], seed=0)) == list(range(13))
    with pytest.raises(ClaraError, match="'a' has 4"):
        draw_shots(y, 5, ["a", "b"], seed=0)


def test_prototypes_ignore_what_all_classes_share() -> None:
    x = torch.tensor([[1.0, 0.0, 9.0], [0.0, 1.0, 9.0]])
    centred = prototypes(x, torch.tensor([0, 1]), 2)
    torch.testing.assert_close(centred, torch.tensor([[0.5, -0.5, 0], [-0.5, 0.5, 0]]) * 2**0.5)


def test_few_shot_and_probe_on_tones(context: Context) -> None:
    got = probe(ProbeConfig(data("train"), data("test"), "sound", shots=2, seeds=3), context)
    assert (got.clips, got.notes["train_clips"], got.outcomes["prototype"].draws) == (12, 12, 3)
    for method in ("prototype", "probe"):
        figure = got.figure(method, "accuracy")
        assert (figure.value, figure.std, figure.primary) == (1.0, 0.0, True)
    every = probe(ProbeConfig(data("train"), data("test"), "sound"), context)
    assert every.notes["train_clips"] == 24
    np.testing.assert_array_equal(every.confusion("probe"), 2 * np.eye(6, dtype=int))


def test_a_clip_in_both_sets_is_refused(context: Context) -> None:
    with pytest.raises(ClaraError, match="in the training and the test set"):
        probe(ProbeConfig(data("train", "test"), data("test"), "sound"), context)
    with pytest.raises(ClaraError, match="method"):
        probe(ProbeConfig(data("train"), data("test"), "sound", methods=("probes",)), context)
