"""What a checkpoint gives for sounds that fit no text, and the scores that are judged against it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny import save_tiny
from torch.nn.functional import normalize
from typer.testing import CliRunner

from clara import cli
from clara.apps.classifier import NONE, Classifier
from clara.apps.search import Index
from clara.errors import ClaraError
from clara.zoo.background import FILE, Background, Constants, background_of, measure, read_background
from clara.zoo.embedder import Embedder
from clara.zoo.factory import load_checkpoint

LABELS = ["rain", "wind", "a dog"]
CONSTANTS = Constants(slope=2.0, offset=-6.0, floor=3.5, temperature=2.0, clips=8, judged=8)


@pytest.fixture
def zoo(tmp_path: Path) -> Embedder:
    """A tiny checkpoint with a background: its own text vectors stand out from it, their opposites do not."""
    folder = save_tiny(tmp_path / "tiny")
    zoo = Embedder(load_checkpoint(folder, name=f"dir:{folder}"), "cpu")
    width = zoo.config.embed_dim
    spread_RD = torch.eye(width) * 0.2
    Background(torch.zeros(width), spread_RD, CONSTANTS).save(folder, zoo.sha256)
    return zoo


def apart(zoo: Embedder) -> torch.Tensor:
    """Unit vectors, one near each label's text alone and one far from all."""
    text_KD = Classifier(zoo, LABELS).label_KD
    own_KD = torch.linalg.pinv(text_KD).T  # of the k-th text alone
    return normalize(torch.cat([own_KD, -text_KD.sum(0, keepdim=True)]), dim=-1)


def test_several_labels_one_or_none_are_heard(zoo: Embedder) -> None:
    classifier = Classifier(zoo, LABELS, independent=True)
    text_KD = classifier.label_KD
    expected_BK = torch.sigmoid(2.0 * (text_KD @ text_KD.T) / 0.2 - 6.0)
    torch.testing.assert_close(classifier.probabilities(text_KD), expected_BK, atol=1e-3, rtol=0)
    nothing = classifier.predict(apart(zoo)[-1:])[0]
    assert nothing.label is None and nothing.name == NONE and nothing.labels == () and nothing.score < 0.5
    found = classifier.predict(text_KD[:1])[0]
    assert found.label == "rain" and set(found.labels) == {k for k, s in found.scores.items() if s >= 0.5}
    classifier.min_score = 0.0
    assert len(classifier.predict(text_KD[:1])[0].labels) == 3
    alone = Classifier(zoo, ["rain"], independent=True)
    assert alone.predict(text_KD[:1])[0].label == "rain" and alone.predict(apart(zoo)[-1:])[0].label is None
    with pytest.raises(ClaraError, match="calibrate compares labels"):
        classifier.calibrate_embeddings(text_KD)


def test_softmax_takes_the_temperature_and_a_least_score(zoo: Embedder) -> None:
    classifier = Classifier(zoo, LABELS)
    audio_BD = apart(zoo)
    expected_BK = (zoo.scale / 2.0 * audio_BD @ classifier.label_KD.T).softmax(-1)
    torch.testing.assert_close(classifier.probabilities(audio_BD), expected_BK, atol=1e-5, rtol=0)
    classifier.min_score = 1.0
    p = classifier.predict(audio_BD[:1])[0]
    assert p.label is None and p.labels == () and p.score == pytest.approx(float(expected_BK[0].max()), abs=1e-5)


def test_a_search_has_a_floor(zoo: Embedder) -> None:
    index = Index(apart(zoo), ["a", "b", "c", "d"], zoo.name, zoo.sha256)
    assert index.floor(zoo, "rain") == pytest.approx(3.5 * 0.2, abs=1e-3)


def test_measuring_finds_what_was_put_in() -> None:
    """Clips that stand out from their text's background by 6 deviations have it, by less than 3 do not."""
    rng = torch.Generator().manual_seed(0)
    text_KD = torch.eye(40)[:10]
    background_ND = 0.1 + 0.05 * torch.randn(600, 40, generator=rng)
    fits_BK = torch.eye(10, dtype=torch.bool).repeat(20, 1)
    audio_BD = 0.1 + 0.05 * torch.randn(200, 40, generator=rng)
    audio_BD[:, :10] += 0.3 * fits_BK
    found = measure(background_ND, audio_BD, text_KD, fits_BK, torch.eye(40)[10:], scale=10.0)
    p_BK = found.probabilities(audio_BD, text_KD)
    assert p_BK[fits_BK].mean() > 0.9 and p_BK[~fits_BK].mean() < 0.05
    assert found.floor(text_KD[0]) == pytest.approx(0.1 + 0.05 * found.constants.floor, rel=0.1)
    assert 2.5 < found.constants.floor < 4.5  # the highest of 200 clips that have nothing to do with a text


def test_a_background_belongs_to_its_weights(zoo: Embedder) -> None:
    folder = Path(zoo.name.removeprefix("dir:"))
    assert background_of(zoo.name, zoo.sha256).constants == CONSTANTS
    assert background_of("made in memory", "0") is None
    with pytest.raises(ClaraError, match="measured with other weights"):
        read_background(folder, "f" * 64)
    for about in ("[" * 100_000, "[3]", '"x"', '{"format": "clara-background 1", "sha256": "0", "slope": "steep"}'):
        save_file({"mean": torch.zeros(2), "spread": torch.zeros(1, 2)}, folder / FILE, {"about": about})
        with pytest.raises(ClaraError, match="cannot be read as a background"):
            Classifier(zoo, LABELS)
    (folder / FILE).write_bytes(b"no safetensors")
    with pytest.raises(ClaraError, match="cannot be read as a background"):
        Classifier(zoo, LABELS)
    (folder / FILE).unlink()
    with pytest.raises(ClaraError, match="has no background to calibrate scores by"):
        Classifier(zoo, LABELS, independent=True)


def test_verbs_say_that_nothing_fits(zoo: Embedder, tmp_path: Path) -> None:
    Index(apart(zoo)[-1:], ["d"], zoo.name, zoo.sha256).save(tmp_path / "i")
    asked = CliRunner().invoke(cli.app, ["search", "rain", "--index", str(tmp_path / "i"), "-m", zoo.name])
    assert asked.output.startswith("nothing fits: all is below +0.7") and "d  (does not fit)" in asked.output
