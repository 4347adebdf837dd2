"""A few labelled clips: what is learned, how it is judged, and the file it is kept in."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from safetensors.torch import save_file
from tiny import save_tiny
from tones import tone
from torch.nn.functional import normalize
from typer.testing import CliRunner

from clara import cli
from clara.apps import fitting
from clara.apps.classifier import Classifier
from clara.data.clip_tables import read_rows
from clara.errors import ClaraError
from clara.zoo.embedder import Embedder
from clara.zoo.factory import load_checkpoint

LABELS = ["rain", "wind", "a dog"]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    folder = save_tiny(tmp_path_factory.mktemp("fitting"))
    return Embedder(load_checkpoint(folder, name=f"dir:{folder}"), "cpu")


def clouds(clips: int, spread: float, width: int, seed: int = 0) -> tuple[torch.Tensor, list[str]]:
    """Unit vectors around one centre for each label, which has nothing to do with the label's text."""
    rng = torch.Generator().manual_seed(seed)
    centre_KD = torch.randn(3, width, generator=torch.Generator().manual_seed(9))
    truth = torch.arange(clips) % 3
    audio = centre_KD[truth] + spread * torch.randn(clips, width, generator=rng)
    return normalize(audio, dim=-1), [LABELS[i] for i in truth.tolist()]


def accuracy(classifier: Classifier, audio: torch.Tensor, labels: list[str]) -> float:
    return float(np.mean([p.label == x for p, x in zip(classifier.predict(audio), labels)]))


def test_a_few_clips_say_what_the_texts_do_not(zoo: Embedder) -> None:
    width = zoo.config.embed_dim
    classifier = Classifier(zoo, LABELS)
    test, truth = clouds(90, 0.5, width, seed=1)
    before = accuracy(classifier, test, truth)
    assert classifier.fit_embeddings(*clouds(15, 0.5, width)) is classifier
    held = classifier.fitted.held_out
    assert accuracy(classifier, test, truth) > 0.95 > before
    assert held.clips == 15 and held.accuracy > 0.9 and held.interval[0] <= held.accuracy <= held.interval[1]


def test_noise_is_not_said_to_be_known(zoo: Embedder) -> None:
    """Labels that embeddings do not tell: held-out accuracy is that of guessing, and probabilities say so."""
    audio, labels = clouds(90, 0.5, zoo.config.embed_dim)
    shuffled = [labels[i] for i in np.random.default_rng(0).permutation(90)]
    held = Classifier(zoo, LABELS).fit_embeddings(audio, shuffled).fitted.held_out
    assert held.accuracy < 0.5 and held.ece < 0.25


def test_clips_of_a_group_are_never_on_both_sides(zoo: Embedder) -> None:
    """Each speaker says one word ten times, nearly the same: only other speakers tell whether the word is known."""
    rng = torch.Generator().manual_seed(0)
    speaker = np.repeat(np.arange(12), 10)
    voices = torch.randn(12, zoo.config.embed_dim, generator=rng)
    audio = normalize(voices[speaker] + 0.05 * torch.randn(120, zoo.config.embed_dim, generator=rng), dim=-1)
    labels = [LABELS[s % 3] for s in speaker]
    apart = Classifier(zoo, LABELS).fit_embeddings(audio, labels, [str(s) for s in speaker]).fitted.held_out
    mixed = Classifier(zoo, LABELS).fit_embeddings(audio, labels).fitted.held_out
    assert mixed.accuracy > 0.95 and apart.accuracy < 0.7


def test_held_clips_are_judged_on_and_not_learned(zoo: Embedder) -> None:
    audio, labels = clouds(30, 0.5, zoo.config.embed_dim)
    held = [i >= 15 for i in range(30)]
    wrong = labels[:15] + labels[16:] + labels[:1]  # of the held ones, none is right
    found = Classifier(zoo, LABELS).fit_embeddings(audio, wrong, held=held).fitted
    assert found.clips == 15 and found.held_out.clips == 15 and found.held_out.accuracy < 0.1


def test_texts_alone_decide_where_there_is_one_clip_each(zoo: Embedder) -> None:
    classifier = Classifier(zoo, LABELS)
    fitted = classifier.fit_embeddings(classifier.label_KD, LABELS).fitted
    assert fitted.held_out is None and fitted.strength == fitting.UNJUDGED
    assert [p.label for p in classifier.predict(classifier.label_KD)] == LABELS


def test_a_saved_classifier_answers_the_same(zoo: Embedder, tmp_path: Path) -> None:
    audio, labels = clouds(15, 0.5, zoo.config.embed_dim)
    classifier = Classifier(zoo, LABELS, templates=["the sound of {}"]).fit_embeddings(audio, labels)
    file = classifier.save(tmp_path / "mine")
    assert file.name == "mine.safetensors"
    again = Classifier.load(file, zoo)
    torch.testing.assert_close(again.probabilities(audio), classifier.probabilities(audio))
    assert again.fitted.held_out == classifier.fitted.held_out and again.prompts == classifier.prompts
    with pytest.raises(ClaraError, match=r"was fitted on .*, and .* has"):
        Classifier.load(file, other_weights(zoo))
    for about in ("[" * 100_000, "[3]", '"x"'):
        save_file({"weight": torch.zeros(2, 2)}, tmp_path / "deep.safetensors", {"about": about})
        with pytest.raises(ClaraError, match="is damaged"):
            Classifier.load(tmp_path / "deep.safetensors", zoo)
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ClaraError, match="is damaged"):
        Classifier.load(file, zoo)
    with pytest.raises(ClaraError, match="Nothing was fitted"):
        Classifier(zoo, LABELS).save(tmp_path / "x")


def other_weights(zoo: Embedder) -> Embedder:
    other = object.__new__(Embedder)
    other.__dict__ |= zoo.__dict__ | {"sha256": "f" * 64}
    return other


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["rain", "wind"], "3 clips and 2 labels"),
        (["rain", "wind", "dog"], "Unknown label 'dog'. Did you mean 'a dog'"),
        (["rain", "wind", "wind"], "No clip to learn 'a dog' from"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(zoo: Embedder, labels: list[str], message: str) -> None:
    with pytest.raises(ClaraError, match=message):
        Classifier(zoo, LABELS).fit_embeddings(clouds(3, 0.1, zoo.config.embed_dim)[0], labels)


def test_verbs_fit_and_classify(zoo: Embedder, tmp_path: Path) -> None:
    """From folders of clips to an answer, by the command line alone."""
    for name, hz in (("low_hum", 150), ("whistle", 5000)):
        (tmp_path / "clips" / name).mkdir(parents=True)
        for i in range(5):
            sf.write(tmp_path / "clips" / name / f"{i}.wav", tone(hz * (1 + 0.02 * i)), 16000)
    assert {r.text for r in read_rows(tmp_path / "clips")} == {("low hum",), ("whistle",)}
    file = str(tmp_path / "fitted.safetensors")

    def run(*words: str) -> str:
        result = CliRunner().invoke(cli.app, list(words))
        return f"{result.exit_code} {result.output}"

    told = run("fit", str(tmp_path / "clips"), "-o", file, "-m", zoo.name)
    assert told.startswith("0 ") and "held-out accuracy 1.000 [0.722, 1.000] on 10 clips" in told
    assert "  whistle 0.9" in run("classify", str(tmp_path / "clips" / "whistle" / "0.wav"), "-m", file)
    assert "has labels of its own" in run("classify", str(tmp_path / "clips"), "-m", file, "--labels", "a,b")
    assert "No such file" in run("classify", str(tmp_path / "clips"), "-m", "gone.safetensors")
    (tmp_path / "clips" / "one").mkdir()
    assert "expected" in run("fit", str(tmp_path / "clips" / "whistle"), "-m", zoo.name)


def test_labels_of_a_table(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", tone(300), 16000)
    sf.write(tmp_path / "b.wav", tone(600), 16000)

    def of(table: str) -> tuple[list[str], str | None]:
        (tmp_path / "t.csv").write_text(table)
        return fitting.labels_of_rows(read_rows(tmp_path / "t.csv"), "t.csv")

    assert of("audio,emotion\na.wav,anger\nb.wav,fear\n") == (["anger", "fear"], "emotion")
    assert of("audio,label,task\na.wav,dog,sound\nb.wav,rain,sound\n") == (["dog", "rain"], "sound")
    assert of("audio,label\na.wav,blue_whale\nb.wav,ok\n") == (["blue whale", "ok"], None)
    with pytest.raises(ClaraError, match="one label, 'x', alone"):
        of("audio,text\na.wav,x\nb.wav,x\n")
    with pytest.raises(ClaraError, match="2 texts"):
        of("audio,text\na.wav,x\na.wav,y\nb.wav,x\n")


def test_report_names_its_numbers() -> None:
    held = fitting.HeldOut(10, 0.9, (0.7, 1.0), 0.5, 0.05, "five-fold cross-validation")
    assert "0.900 [0.700, 1.000] on 10 clips (five-fold" in str(held) and "texts alone 0.500" in str(held)
    assert dataclasses.asdict(held)["interval"] == (0.7, 1.0)
