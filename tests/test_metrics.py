"""Figures of merit against cases worked by hand, and against scikit-learn where it is installed."""

import numpy as np
import pytest
import torch

from clara import metrics
from clara.errors import ClaraError

TRUTH = [0, 0, 0, 1, 1, 2]
PREDICTED = [0, 0, 1, 1, 2, 2]


def test_classification_by_hand():
    assert metrics.accuracy(TRUTH, PREDICTED) == pytest.approx(4 / 6)
    np.testing.assert_array_equal(metrics.confusion(TRUTH, PREDICTED), [[2, 1, 0], [0, 1, 1], [0, 0, 1]])
    np.testing.assert_allclose(metrics.per_class_recall(TRUTH, PREDICTED), [2 / 3, 1 / 2, 1])
    assert metrics.uar(TRUTH, PREDICTED) == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert metrics.macro_f1(TRUTH, PREDICTED) == pytest.approx((4 / 5 + 2 / 4 + 2 / 3) / 3)


def test_a_class_without_items_has_no_recall_and_does_not_lower_the_mean():
    np.testing.assert_allclose(metrics.per_class_recall([0, 0], [0, 2], classes=4), [0.5, np.nan, np.nan, np.nan])
    assert metrics.uar([0, 0], [0, 2]) == 0.5
    assert metrics.macro_f1([0, 0], [0, 2]) == pytest.approx((2 / 3 + 0) / 2)  # class 2 was predicted, class 1 never


def test_average_precision_by_hand():
    # retrieved: + - +  ->  (1/1 + 2/3) / 2
    assert metrics.average_precision([0.9, 0.8, 0.7], [1, 0, 1]) == pytest.approx((1 + 2 / 3) / 2)
    # all tied: every positive comes at the precision of the whole
    assert metrics.average_precision([0.5] * 4, [1, 0, 0, 0]) == 0.25
    scores, relevant = [[0.9, 0.1, 0.3], [0.8, 0.2, 0.1], [0.7, 0.3, 0.2]], [[1, 0, 0], [0, 0, 0], [1, 1, 0]]
    assert metrics.macro_map(scores, relevant) == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)  # third class: none


def test_against_scikit_learn():
    sk = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(5, size=200), rng.integers(5, size=200)
    assert metrics.uar(truth, predicted) == pytest.approx(sk.balanced_accuracy_score(truth, predicted))
    assert metrics.macro_f1(truth, predicted) == pytest.approx(sk.f1_score(truth, predicted, average="macro"))
    np.testing.assert_array_equal(metrics.confusion(truth, predicted), sk.confusion_matrix(truth, predicted))
    scores, relevant = rng.integers(20, size=(200, 3)) / 20, rng.random((200, 3)) < 0.3  # many ties
    expected = np.mean([sk.average_precision_score(relevant[:, c], scores[:, c]) for c in range(3)])
    assert metrics.macro_map(scores, relevant) == pytest.approx(expected)


def test_a_tie_counts_against_the_query():
    assert metrics.target_ranks(np.zeros((2, 4)), [0, 3]).tolist() == [4, 4]
    assert metrics.target_ranks([[0.5, 0.9, 0.5]], [0]).tolist() == [3]
    assert metrics.own_ranks([0.5, 0.5, 0.5], [True, True, False]).tolist() == [2, 3]


def test_retrieval_by_hand():
    # clips a, b; captions a1 a2 b1 b2, rows of the matrix
    sim_TA = [[0.9, 0.1], [0.2, 0.3], [0.8, 0.7], [0.1, 0.6]]
    got = metrics.retrieval(sim_TA, [0, 0, 1, 1])
    # t2a ranks 1 2 2 1
    assert got["t2a"] == {"R@1": 0.5, "R@5": 1.0, "R@10": 1.0, "mAP@10": 0.75, "median_rank": 1.5}
    # a2t: clip a ranks its captions 1 and 3 (.9 | .8 | .2), clip b 1 and 2 (.7 .6 | .3)
    assert got["a2t"]["R@1"] == 1.0
    assert got["a2t"]["median_rank"] == 1.0
    assert got["a2t"]["mAP@10"] == pytest.approx(((1 / 1 + 2 / 3) / 2 + 1) / 2)


def test_map_at_10_stops_at_ten():
    assert metrics.map_at_10([np.array([10])]) == pytest.approx(0.1)
    assert metrics.map_at_10([np.array([11])]) == 0
    # five captions at 2 4 10 11 20: (1/2 + 2/4 + 3/10) / 5
    assert metrics.map_at_10([np.array([2, 4, 10, 11, 20])]) == pytest.approx((0.5 + 0.5 + 0.3) / 5)


def test_retrieval_agrees_with_sorting_where_nothing_ties():
    rng = np.random.default_rng(1)
    owner, sim = np.repeat(np.arange(30), 5), rng.standard_normal((150, 30))
    order = np.argsort(-sim, axis=1)
    t2a = np.array([np.flatnonzero(order[t] == owner[t])[0] + 1 for t in range(150)])
    by_clip = [np.flatnonzero(owner[np.argsort(-sim[:, a])] == a) + 1 for a in range(30)]
    got = metrics.retrieval(torch.tensor(sim), torch.tensor(owner))
    assert got["t2a"]["R@5"] == pytest.approx((t2a <= 5).mean())
    assert got["t2a"]["mAP@10"] == pytest.approx(np.where(t2a <= 10, 1 / t2a, 0).mean())
    assert got["a2t"]["R@10"] == pytest.approx(np.mean([r[0] <= 10 for r in by_clip]))
    expected = np.mean([sum(i / r for i, r in enumerate(ranks, 1) if r <= 10) / 5 for ranks in by_clip])
    assert got["a2t"]["mAP@10"] == pytest.approx(expected)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_ranks_in_a_gallery_are_those_of_the_whole_matrix(chunk):
    rng = np.random.default_rng(2)
    gallery = rng.standard_normal((53, 6))
    gallery[10], gallery[11], gallery[12] = gallery[40], gallery[40], gallery[3]  # equal candidates
    gallery /= np.linalg.norm(gallery, axis=1, keepdims=True)
    own = [rng.choice(53, size=1 + i % 4, replace=False) for i in range(20)] + [[10, 11], [10], [3, 12, 40]]
    query = gallery[[o[0] for o in own]] + 0.3 * rng.standard_normal((23, 6))
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    sim = (query @ gallery.T).round(6)
    for got, scores, o in zip(metrics.gallery_ranks(query, gallery.astype(np.float64), own, chunk), sim, own):
        np.testing.assert_array_equal(got, metrics.own_ranks(scores, np.isin(np.arange(53), o)))
    with pytest.raises(ClaraError, match="outside"):
        metrics.gallery_ranks(query[:1], gallery, [[53]])
    with pytest.raises(ClaraError, match="sets of targets"):
        metrics.gallery_ranks(query, gallery, own[:-1])


def test_the_ceiling_that_shared_captions_leave():
    # "a dog" belongs to clips 0 and 1 (three times), "rain" to 2 alone: of 6 captions one of three "a dog" is lost
    texts = [["a dog", "a dog"], ["a dog", "a cat"], ["rain", "rain"]]
    assert metrics.duplicate_ceiling(texts) == pytest.approx(5 / 6)
    assert metrics.duplicate_ceiling([["a"], ["b"]]) == 1
    with pytest.raises(ClaraError, match="No captions"):
        metrics.duplicate_ceiling([[]])
    # no scores do better: a perfect model of distinct texts, ties with the shared one broken for the larger clip
    sim = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1.0]])
    assert metrics.retrieval(sim, [0, 0, 1, 1, 2, 2])["t2a"]["R@1"] == pytest.approx(5 / 6)


def test_bootstrap_interval():
    truth = np.zeros(400, int)
    predicted = np.array([0, 1] * 200)
    low, high = metrics.bootstrap_interval(metrics.accuracy, truth, predicted, seed=3)
    spread = 1.96 * np.sqrt(0.25 / 400)  # of a binomial share
    assert low == pytest.approx(0.5 - spread, abs=0.012)
    assert high == pytest.approx(0.5 + spread, abs=0.012)
    assert (low, high) == metrics.bootstrap_interval(metrics.accuracy, truth, predicted, seed=3)
    assert metrics.bootstrap_interval(metrics.accuracy, truth, truth) == (1.0, 1.0)


def test_paired_bootstrap_sees_a_gain_that_lone_intervals_hide():
    rng = np.random.default_rng(0)
    truth = np.zeros(300, int)
    first = (rng.random(300) < 0.5).astype(int)
    second = np.where(np.arange(300) < 40, 0, first)
    got = metrics.paired_bootstrap(metrics.accuracy, truth, first, second)
    assert got["difference"] == pytest.approx(first[:40].mean() * 40 / 300)
    assert 0 < got["low"] < got["difference"] < got["high"]
    assert got["p"] < 0.01
    assert metrics.paired_bootstrap(metrics.accuracy, truth, first, first)["p"] == 1.0


@pytest.mark.parametrize(
    "call",
    [
        lambda: metrics.accuracy([], []),
        lambda: metrics.accuracy([0, 1], [0]),
        lambda: metrics.uar([0.0, 1.0], [0, 1]),
        lambda: metrics.confusion([0, 5], [0, 1], classes=3),
        lambda: metrics.target_ranks([[0.1, np.nan]], [0]),
        lambda: metrics.target_ranks([[0.1, 0.2]], [2]),
        lambda: metrics.retrieval([[0.1, 0.2]], [0]),  # the second clip has no caption
        lambda: metrics.average_precision([0.1, 0.2], [0, 0]),
        lambda: metrics.bootstrap_interval(metrics.accuracy, [0, 1], [0]),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(ClaraError):
        call()


def test_calibration_error_is_the_distance_of_confidence_and_accuracy() -> None:
    probability = np.array([[0.95, 0.05]] * 4 + [[0.6, 0.4]] * 5)
    truth = np.array([0, 0, 0, 1, 0, 0, 0, 1, 1])  # 3 of 4 right at 0.95, 3 of 5 at 0.6
    assert metrics.calibration_error(probability, truth) == pytest.approx(4 / 9 * 0.2)
    bins = metrics.reliability(probability, truth, bins=10)
    np.testing.assert_allclose(bins[[6, 9]], [[5, 0.6, 0.6], [4, 0.95, 0.75]])
    assert bins[:, 0].sum() == 9
    with pytest.raises(ClaraError, match=r"within \[0, 1\]"):
        metrics.calibration_error(2 * probability, truth)


def test_interval_of_a_share_by_the_published_example() -> None:
    assert metrics.share_interval(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert metrics.share_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe 1998, table I
    with pytest.raises(ClaraError, match="0 of 0"):
        metrics.share_interval(0, 0)
