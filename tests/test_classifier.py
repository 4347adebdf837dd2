"""Zero-shot classification: the scores are what the definition says, and wrong labels are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import tiny_zoo
from torch.nn.functional import normalize

from clara.apps.classifier import Classifier
from clara.errors import ClaraError
from clara.text.prompts import prompts, task_labels
from clara.zoo.embedder import Embedder

RATE = 16000


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return tiny_zoo(tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="module")
def clips() -> list[tuple[np.ndarray, int]]:
    rng = np.random.default_rng(0)
    t = np.arange(RATE) / RATE
    tones = [np.sin(2 * np.pi * hz * t * (1 + t)) * 0.3 for hz in (100, 300, 900, 2700)]
    return [((w + 0.01 * rng.standard_normal(RATE)).astype(np.float32), RATE) for w in tones]


def test_scores_are_the_softmax_of_scaled_cosines(zoo: Embedder, clips: list) -> None:
    labels = ["a dog", "rain", "Glockenläuten"]
    cosines_BK = zoo.embed_audio(clips) @ zoo.embed_text(labels).T
    expected_BK = (zoo.scale * cosines_BK).softmax(-1)
    predictions = Classifier(zoo, labels)(clips)
    for p, expected_K in zip(predictions, expected_BK, strict=True):
        assert [p.scores[k] for k in labels] == pytest.approx(expected_K.tolist(), abs=1e-5)
        assert p.label == p.name == labels[int(expected_K.argmax())] and p.score == max(p.scores.values())
        assert list(p.scores.values()) == sorted(p.scores.values(), reverse=True)
        assert p.top(2) == list(p.scores.items())[:2] and not p.calibrated


def test_the_nearest_label_wins(zoo: Embedder) -> None:
    """Whatever the weights: a clip whose embedding is a label's own is named by that label."""
    classifier = Classifier(zoo, task="emotion", language="pl")
    assert [p.label for p in classifier.predict(classifier.label_KD)] == task_labels("emotion")


def test_prompts_are_averaged_as_unit_vectors(zoo: Embedder) -> None:
    templates = ["the sound of {}", "{}"]
    classifier = Classifier(zoo, ["rain", "wind"], templates=templates)
    assert classifier.prompts == [["the sound of rain", "rain"], ["the sound of wind", "wind"]]
    expected_D = normalize(zoo.embed_text(["the sound of wind", "wind"]).mean(0), dim=0)
    torch.testing.assert_close(classifier.label_KD[1], expected_D, atol=1e-6, rtol=0)


def test_a_task_in_a_language(zoo: Embedder, clips: list) -> None:
    classifier = Classifier(zoo, task="emotion", language="German")
    assert classifier.language == "de"
    assert classifier.labels == task_labels("emotion")
    assert classifier.names["anger"] == "Wut"
    assert classifier.prompts == prompts("emotion", classifier.labels, "de")
    (p,) = classifier(clips[0])
    assert p.name == classifier.names[p.label]
    some = Classifier(zoo, ["anger", "fear"], task="emotion", language="es")
    assert set(some(clips[0])[0].scores) == {"anger", "fear"}


def test_calibration_subtracts_each_labels_mean_score(zoo: Embedder, clips: list) -> None:
    labels = ["a dog", "rain", "wind"]
    audio_BD = zoo.embed_audio(clips)
    logits_BK = zoo.scale * audio_BD @ zoo.embed_text(labels).T
    expected_BK = (logits_BK - logits_BK.mean(0)).softmax(-1)
    plain = Classifier(zoo, labels)
    before = plain(clips)
    calibrated = Classifier(zoo, labels).calibrate(clips, "mean")
    for _ in range(2):  # calibrating again starts afresh
        torch.testing.assert_close(calibrated.probabilities(audio_BD), expected_BK, atol=1e-5, rtol=0)
        calibrated.calibrate(clips, "mean")
    assert all(p.calibrated for p in calibrated(clips))
    assert plain(clips) == before
    with pytest.raises(ClaraError, match="Got 1 clips to calibrate on"):
        plain.calibrate(clips[:1])
    with pytest.raises(ClaraError, match="'median': expected one of auto, mean, prior"):
        calibrated.calibrate(clips, "median")
    torch.testing.assert_close(calibrated.probabilities(audio_BD), expected_BK, atol=1e-5, rtol=0)  # as it was


def test_windows_have_times(zoo: Embedder, clips: list) -> None:
    classifier = Classifier(zoo, ["rain", "wind"])
    wave = np.concatenate([w for w, _ in clips])  # 4 s in windows of 2 s
    found = classifier.windows((wave, RATE))
    assert [(start, end) for start, end, _ in found] == [(0, 2), (2, 4)]
    assert found[1][2].scores == pytest.approx(classifier([(wave[2 * RATE :], RATE)])[0].scores, abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "labels=.* of your own, or task="),
        ({"labels": []}, "at least two"),
        ({"labels": ["rain"]}, "at least two"),
        ({"labels": "rain,wind"}, "is one text"),
        ({"labels": {"rain": "rain falls", "wind": "wind blows"}}, "expected a list"),
        ({"labels": ["rain", " "]}, "not empty"),
        ({"labels": ["rain", 3]}, "not empty"),
        ({"labels": ["rain", "wind", "rain "]}, "'rain' and 'rain ', which are the same"),
        ({"labels": ["a", "b"], "templates": ["no slot"]}, "slot"),
        ({"labels": ["a", "b"], "templates": ["{"]}, "cannot be read"),
        ({"labels": ["a", "b"], "templates": ["{adj}"]}, "slot"),
        ({"labels": ["a", "b"], "templates": "a {}"}, "expected a list"),
        ({"labels": ["a", "b"], "templates": []}, "expected a list"),
        ({"labels": ["a", "b"], "templates": [None]}, "expected a text"),
        ({"task": "emotion", "language": ["de", "en"]}, "expected one code or name"),
        ({"labels": ["a", "b"], "language": "xx"}, "Unknown language 'xx'"),
        ({"task": "emotion", "language": "deu"}, "Unknown language 'deu'"),
        ({"task": "emotions"}, "Did you mean 'emotion'"),
        ({"task": "emotion", "labels": ["anger", "angry"]}, "angry.* Did you mean 'anger'"),
        ({"task": "emotion", "templates": ["nothing"]}, "slot"),
    ],
)
def test_what_cannot_be_meant_is_refused(zoo: Embedder, arguments: dict, message: str) -> None:
    with pytest.raises(ClaraError, match=message):
        Classifier(zoo, **arguments)


def test_an_embedder_and_embeddings_are_expected(zoo: Embedder, clips: list) -> None:
    with pytest.raises(ClaraError, match="to embed with"):
        Classifier("clara-small.base", task="emotion")
    classifier = Classifier(zoo, ["rain", "wind"])
    audio_BD = zoo.embed_audio(clips)
    assert classifier.predict(audio_BD.numpy()) == classifier.predict(audio_BD)
    for wrong in (audio_BD[0], audio_BD[:, :3]):
        for use in (classifier.predict, classifier.calibrate_embeddings):
            with pytest.raises(ClaraError, match="one row per clip"):
                use(wrong)


def test_braces_in_labels_are_text(zoo: Embedder) -> None:
    assert Classifier(zoo, ["{x}", "wind"], templates=["a {}"]).prompts[0] == ["a {x}"]
