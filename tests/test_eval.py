"""Evaluations on tones: clips, names of classes in many languages, retrieval."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from tone_corpus import RATE, SOUNDS, ToneEmbedder, data, write_recipe
from torch.nn.functional import normalize

from clara import metrics
from clara.data.manifest import Row
from clara.errors import ClaraError
from clara.eval.clips import Context, source
from clara.eval.languages import over_languages
from clara.eval.retrieval import RetrievalConfig, captioned, ranks, retrieval
from clara.eval.runner import run
from clara.eval.scores import Place, class_figures
from clara.eval.zero_shot import ZeroShotConfig, zero_shot

# clips


def test_each_clip_is_embedded_once(context: Context) -> None:
    config = ZeroShotConfig(data("test"), "sound", languages=("en", "de"))
    zero_shot(config, context)
    zero_shot(config, context)
    assert context.zoo.clips == 12


def test_rows_are_chosen_by_split_and_speaker(context: Context) -> None:
    assert len(context.rows(data("train"))) == 24
    assert {r.speaker for r in context.rows(data(speakers=("b",)))} == {"b"}
    with pytest.raises(ClaraError, match="test"):
        context.rows(data("tset"))


def test_a_clip_in_a_tar_is_read_where_it_lies(tmp_path: Path, tone) -> None:
    buffer = io.BytesIO()
    sf.write(buffer, tone(0.1), RATE, format="WAV")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("x.wav")
        info.size = len(buffer.getvalue())
        tar.addfile(info, io.BytesIO(buffer.getvalue()))
    assert source(f"{tmp_path}/a.tar::x.wav") == buffer.getvalue()
    assert source("x.wav") == "x.wav"


# zero-shot


def test_zero_shot_names_tones(context: Context) -> None:
    got = zero_shot(ZeroShotConfig(data("test"), "sound", languages=("en", "de")), context)
    assert got.clips == 12
    assert set(got.labels) == set(SOUNDS)
    assert (got.primary.where, got.primary.metric, got.primary.value) == ("en/plain", "accuracy", 1.0)
    assert got.members == {"other_languages": ("de",)}
    assert got.value("other_languages", "accuracy") == 1.0
    assert got.figure("other_languages", "uar").interval == (1.0, 1.0)
    assert len(got.prompts["de"]["dog"]) > 1
    assert {f.chance for f in got.figures if f.metric == "uar"} == {1 / len(SOUNDS)}
    with pytest.raises(ClaraError, match=r"no figure 'uar' at 'xx/plain'"):
        got.value("xx/plain", "uar")


def test_languages_by_hand() -> None:
    """Two classes of 3 and 1 clips; English gets all but one, German the small class alone, Welsh two of the large."""
    truth = np.array([0, 0, 0, 1])
    named = {"en": np.array([0, 0, 1, 1]), "de": np.array([1, 1, 1, 1]), "cy": np.array([0, 0, 1, 0])}
    got, members = over_languages(named | {"fr": truth}, truth, "accuracy", far=("cy", "zu"))
    value = {(f.where, f.metric): f.value for f in got}
    assert members["worst_language"] == ("de",) and value["worst_language", "accuracy"] == 0.25
    assert over_languages(named | {"fr": truth}, truth, "uar")[1]["worst_language"] == ("cy",)
    assert value["other_languages", "accuracy"] == pytest.approx((0.25 + 0.5 + 1) / 3)
    assert value["other_languages", "uar"] == pytest.approx((0.5 + 1 / 3 + 1) / 3)
    assert value["other_languages", "accuracy of English"] == pytest.approx(value["other_languages", "accuracy"] / 0.75)
    assert members["far_languages"] == ("cy",) and value["far_languages", "accuracy"] == 0.5
    assert value["far_languages", "uar of English"] == pytest.approx((1 / 3) / (5 / 6))
    for f in got:
        assert f.interval[0] <= f.value <= f.interval[1]
    assert over_languages({"de": truth}, truth, "uar") == ([], {})
    two, _ = over_languages({"de": truth, "fr": truth}, truth, "uar")
    assert [f.metric for f in two] == ["accuracy", "uar"]


def test_draws_of_clips_of_which_english_names_none_have_no_share() -> None:
    truth = np.array([0, 0, 0, 1, 1])
    got, _ = over_languages({"en": np.array([0, 1, 1, 0, 0]), "de": truth}, truth, "accuracy")
    share = next(f for f in got if f.metric == "accuracy of English")
    assert share.value == pytest.approx(5.0) and share.interval[0] >= 5 / 4
    usual, _ = over_languages({"en": truth, "de": truth}, truth, "accuracy")
    assert {(f.value, f.interval) for f in usual} == {(1.0, (1.0, 1.0))}
    with pytest.raises(ClaraError, match="not defined for any of 10 resamples"):
        metrics.bootstrap_interval(lambda x: None, truth, samples=10)


def test_many_languages_are_one_table(context: Context, corpus: Path, tmp_path: Path) -> None:
    (corpus.parent / "text.yaml").write_text("far_languages: [fr, pl]\n")
    codes = "[en, de, fr, it, pl, lt]"
    text = (
        f"pictures: false\nevaluations:\n  tones: {{kind: zero_shot, data: {{corpus: tones.py, folder: tones, "
        f"splits: [test]}}, task: sound, languages: {codes}, far: text.yaml}}\n"
    )
    lines: list[str] = []
    (got,) = run(write_recipe(corpus, text), ToneEmbedder(), corpus, tmp_path / "out", log=lines.append)
    assert got.members["far_languages"] == ("fr", "pl")
    assert [line.split(":")[0] for line in lines[:3]] == [
        "tones en plain", "tones en calibrated", "tones mean of 5 other languages"
    ]  # fmt: skip
    assert "accuracy, share of English 40 % [" in lines[2]
    head = next(i for i, line in enumerate(lines) if line.startswith("language "))
    assert lines[head].split()[-2:] == ["tones", "accuracy"]
    rows = [line.split("  ")[0] for line in lines[head + 1 :]]
    assert rows[:4] == ["English", "German", "French (far)", "Italian"]
    assert rows[6:12] == [
        "mean of all others", "mean of all others, share of English", "mean of those far from audio",
        "mean of those far from audio, share of English", "worst", "worst, share of English",
    ]  # fmt: skip
    with pytest.raises(ClaraError, match="no such file beside"):
        zero_shot(ZeroShotConfig(data("test"), "sound", far="gone.yaml"), context)
    (corpus.parent / "text.yaml").write_text("far_languages: [xx]\n")
    with pytest.raises(ClaraError, match="expected codes"):
        zero_shot(ZeroShotConfig(data("test"), "sound", far="text.yaml"), context)


def test_calibration_is_another_figure() -> None:
    # every clip is nearest to class 0 by a constant that all clips share; the classes differ by less
    truth = np.array([0, 0, 1, 1])
    score = torch.tensor([[0.9, 0.2], [0.9, 0.2], [0.8, 0.3], [0.8, 0.3]])
    for shifted, accuracy in ((score, 0.5), (score - score.mean(0), 1.0)):
        found, _ = class_figures(Place(""), shifted.argmax(1).numpy(), truth, 2)
        assert (found[0].metric, found[0].value) == ("accuracy", accuracy)


def test_calibrated_and_plain_stand_apart(context: Context, monkeypatch) -> None:
    hear = ToneEmbedder._hear
    shift = torch.tensor([9.0, 0, 0, 0, 0, 0])  # a room that sounds of dog
    monkeypatch.setattr(ToneEmbedder, "_hear", lambda self, s: normalize(hear(self, s), dim=-1) + shift)
    got = zero_shot(ZeroShotConfig(data("test"), "sound"), context)
    assert got.value("en/plain", "uar") < 0.2
    assert got.value("en/calibrated", "uar") == 1.0


def test_labels_offered_may_be_more_but_not_fewer_than_those_of_the_clips(context: Context) -> None:
    got = zero_shot(ZeroShotConfig(data("test"), "sound", labels=(*SOUNDS, "train")), context)
    assert got.labels["train"] == 0
    assert got.confusion("en/plain")[list(got.labels).index("train")].sum() == 0
    with pytest.raises(ClaraError, match="cow"):
        zero_shot(ZeroShotConfig(data("test"), "sound", labels=("dog", "cat")), context)
    with pytest.raises(ClaraError, match="None of 12 clips"):
        zero_shot(ZeroShotConfig(data("test"), "emotion"), context)
    with pytest.raises(ClaraError, match="language"):
        zero_shot(ZeroShotConfig(data("test"), "sound", languages=("xx",)), context)


# retrieval


def test_ranks_by_chunks_are_those_of_the_whole_matrix() -> None:
    generator = torch.Generator().manual_seed(0)
    audio = normalize(torch.randn(23, 8, generator=generator), dim=-1)
    owner = np.repeat(np.arange(23), 3)
    text = normalize(audio[owner] + torch.randn(69, 8, generator=generator), dim=-1)
    text[5] = text[40]  # equal captions of different clips
    whole = metrics.retrieval((text.double() @ audio.double().T).round(decimals=6), owner)
    for chunk in (1, 7, 100):
        got = metrics.retrieval_figures(*ranks(audio, text, owner, chunk))
        assert got == whole


def test_retrieval_counts_captions(context: Context) -> None:
    rows = [r for r in context.rows(data("test")) if r.text]
    kept, texts = captioned(rows, 2)
    assert (len(kept), len(texts[0])) == (6, 2)
    with pytest.raises(ClaraError, match="12 clips have not 5"):
        retrieval(RetrievalConfig(data("test")), context)
    split = [Row("a.wav", "x", text=("one",)), Row("a.wav", "x", text=("two",))]
    assert captioned(split, 2)[1] == [["one", "two"]]


def test_retrieval_of_tones(context: Context, monkeypatch) -> None:
    rows = Context.rows
    monkeypatch.setattr(Context, "rows", lambda self, spec: [r for r in rows(self, spec) if r.text])
    got = retrieval(RetrievalConfig(data("test"), captions=2), context)
    assert (got.clips, got.notes["captions"]) == (6, 12)
    assert got.value("t2a", "R@1") == got.value("a2t", "R@1") == got.value("a2t", "mAP@10") == 1.0
    assert got.figure("t2a", "R@1").interval == (1.0, 1.0) and got.figure("t2a", "R@1").chance == 1 / 6
