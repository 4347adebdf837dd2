"""Evaluations on sounds whose right answer is known: each class is a tone, and the embedder hears tones."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from torch.nn.functional import normalize

from clara import metrics
from clara.audio import waveform
from clara.data.manifest import Row
from clara.errors import ClaraError
from clara.eval import outcomes, report
from clara.eval.clips import Context, DataSpec, source
from clara.eval.composed import ComposedConfig, captions, composed_retrieval, event, mix, mixtures
from clara.eval.languages import over_languages
from clara.eval.probe import ProbeConfig, choose_l2, draw_shots, fit_probe, probe, prototypes
from clara.eval.retrieval import RetrievalConfig, caption_figures, captioned, ranks, retrieval
from clara.eval.runner import load_recipe, run
from clara.eval.zero_shot import ZeroShotConfig, figures, zero_shot
from clara.text.prompts import term

RECIPES = Path(__file__).parents[1] / "recipes" / "eval"
SOUNDS = ("dog", "cat", "rain", "cow", "siren", "wind")
HZ = {label: 300.0 * 1.6**i for i, label in enumerate(SOUNDS)}
RATE = 16000
PLUGIN = """
import csv
from clara.data.manifest import Corpus, Row
INFO = Corpus("tones", "CC0", "none", "sound")
def rows(folder):
    for r in csv.DictReader((folder / "list.csv").open()):
        texts = tuple(t for t in r["text"].split("|") if t)
        known = {"label": r["label"], "task": "sound", "speaker": r["speaker"], "text": texts}
        yield Row(str(folder / r["file"]), "tones", r["split"], **known)
"""


class ToneEmbedder:
    """Hears which tones are in a clip, and reads which labels are in a text (English and German names)."""

    name, sha256 = "tones:1", "0" * 64

    def __init__(self) -> None:
        self.clips = 0

    def embed_audio(self, sources: list, batch_size: int = 16) -> torch.Tensor:
        self.clips += len(sources)
        return normalize(torch.stack([self._hear(s) for s in sources]), dim=-1)

    def _hear(self, source) -> torch.Tensor:
        wave = waveform.read(source, RATE)
        t = np.arange(len(wave)) / RATE
        power = [abs((wave * np.exp(-2j * np.pi * hz * t)).mean()) for hz in HZ.values()]
        return torch.tensor(power, dtype=torch.float32) + 1e-6

    def embed_text(self, texts) -> torch.Tensor:
        def read(text: str) -> torch.Tensor:
            names = [[n for code in ("en", "de") for n in term("sound", k, code).names] for k in SOUNDS]
            return torch.tensor([float(any(n in text for n in own)) for own in names]) + 1e-6

        return normalize(torch.stack([read(t) for t in texts]), dim=-1)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Data folder with `tones/`: per class 4 training clips (speakers a, b) and 2 test clips (speaker c)."""
    folder = tmp_path / "data" / "tones"
    folder.mkdir(parents=True)
    rng, lines = np.random.default_rng(0), ["file,split,label,speaker,text"]
    for label, hz in HZ.items():
        name = term("sound", label).names[0]
        for i in range(6):
            t = np.arange(RATE // 2) / RATE
            wave = 0.3 * np.sin(2 * np.pi * hz * t + i) + 0.01 * rng.standard_normal(len(t))
            sf.write(folder / f"{label}{i}.wav", wave, RATE)
            text = f"{name} is heard|the sound of {name}" if i == 5 else ""
            lines.append(f"{label}{i}.wav,{'train' if i < 4 else 'test'},{label},{'aabbcc'[i]},{text}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "tones.py").write_text(PLUGIN)
    return tmp_path / "data"


@pytest.fixture
def context(corpus: Path) -> Context:
    return Context(ToneEmbedder(), corpus, corpus.parent / "recipe.yaml")


def data(*splits: str, **options) -> DataSpec:
    return DataSpec("tones.py", "tones", splits, **options)


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
    assert got["clips"] == 12
    assert set(got["labels"]) == set(SOUNDS)
    assert got["languages"]["en"]["plain"]["accuracy"] == 1.0
    others = got["other_languages"]
    assert (others["languages"], others["accuracy"], others["uar_95"]) == (["de"], 1.0, (1.0, 1.0))
    assert "worst_language" not in got and "far_languages" not in got
    assert len(got["languages"]["de"]["prompts"]["dog"]) > 1


def test_languages_by_hand() -> None:
    """Two classes of 3 and 1 clips; English gets all but one, German the small class alone, Welsh two of the large."""
    truth = np.array([0, 0, 0, 1])
    named = {"en": np.array([0, 0, 1, 1]), "de": np.array([1, 1, 1, 1]), "cy": np.array([0, 0, 1, 0])}
    got = over_languages(named | {"fr": truth}, truth, "accuracy", far=("cy", "zu"))
    assert got["worst_language"]["language"] == "de" and got["worst_language"]["accuracy"] == 0.25
    assert over_languages(named | {"fr": truth}, truth, "uar")["worst_language"]["language"] == "cy"
    others = got["other_languages"]
    assert others["accuracy"] == pytest.approx((0.25 + 0.5 + 1) / 3)
    assert others["uar"] == pytest.approx((0.5 + 1 / 3 + 1) / 3)
    assert others["of_english"]["accuracy"] == pytest.approx(others["accuracy"] / 0.75)
    assert got["far_languages"]["languages"] == ["cy"] and got["far_languages"]["accuracy"] == 0.5
    assert got["far_languages"]["of_english"]["uar"] == pytest.approx((1 / 3) / (5 / 6))
    for found in got.values():
        assert found["accuracy_95"][0] <= found["accuracy"] <= found["accuracy_95"][1]
    assert over_languages({"de": truth}, truth, "uar") == {}
    assert "of_english" not in over_languages({"de": truth, "fr": truth}, truth, "uar")["other_languages"]


def test_draws_of_clips_of_which_english_names_none_have_no_share() -> None:
    truth = np.array([0, 0, 0, 1, 1])
    got = over_languages({"en": np.array([0, 1, 1, 0, 0]), "de": truth}, truth, "accuracy")["other_languages"]
    share = got["of_english"]
    assert share["accuracy"] == pytest.approx(5.0) and share["accuracy_95"][0] >= 5 / 4
    assert share["accuracy_95_left_out"] / metrics.BOOTSTRAP_SAMPLES == pytest.approx(0.8**5, abs=0.05)
    usual = over_languages({"en": truth, "de": truth}, truth, "accuracy")["other_languages"]["of_english"]
    assert usual == {"accuracy": 1.0, "accuracy_95": (1.0, 1.0), "uar": 1.0, "uar_95": (1.0, 1.0)}
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
    assert got["far_languages"]["languages"] == ["fr", "pl"]
    assert sum(line.startswith("tones [") for line in lines) == 1 and "% of English by accuracy" in lines[1]
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
    assert figures(score, truth, ["a", "b"])["accuracy"] == 0.5
    assert figures(score - score.mean(0), truth, ["a", "b"])["accuracy"] == 1.0


def test_calibrated_and_plain_stand_apart(context: Context, monkeypatch) -> None:
    hear = ToneEmbedder._hear
    shift = torch.tensor([9.0, 0, 0, 0, 0, 0])  # a room that sounds of dog
    monkeypatch.setattr(ToneEmbedder, "_hear", lambda self, s: normalize(hear(self, s), dim=-1) + shift)
    got = zero_shot(ZeroShotConfig(data("test"), "sound"), context)["languages"]["en"]
    assert got["plain"]["uar"] < 0.2
    assert got["calibrated"]["uar"] == 1.0


def test_labels_offered_may_be_more_but_not_fewer_than_those_of_the_clips(context: Context) -> None:
    got = zero_shot(ZeroShotConfig(data("test"), "sound", labels=(*SOUNDS, "train")), context)
    assert got["labels"]["train"] == 0
    assert got["languages"]["en"]["plain"]["per_class_recall"]["train"] is None
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
    assert (got["clips"], got["captions"]) == (6, 12)
    assert got["t2a"]["R@1"] == got["a2t"]["R@1"] == got["a2t"]["mAP@10"] == 1.0
    assert got["t2a"]["R@1_95"] == (1.0, 1.0)


# composed clips


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
    assert (got["clips"], got["languages"]["en"]["captions"]) == (15, 75)
    assert got["languages"]["en"]["t2a"]["R@1"] == got["languages"]["de"]["a2t"]["R@1"] == 1.0
    loudest = ToneEmbedder._hear
    monkeypatch.setattr(
        ToneEmbedder, "_hear", lambda self, s: (p := loudest(self, s)) * (p == p.max())
    )  # hears one event only: five clips share it, and a tie counts against the query
    assert composed_retrieval(config, context)["languages"]["en"]["t2a"]["R@1"] < 0.2


# few labels


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
    assert (got["clips"], got["train_clips"], len(got["methods"]["prototype"]["runs"])) == (12, 12, 3)
    for method in ("prototype", "probe"):
        assert got["methods"][method]["accuracy"] == 1.0
        assert got["methods"][method]["accuracy_std"] == 0.0
    every = probe(ProbeConfig(data("train"), data("test"), "sound"), context)
    assert every["train_clips"] == 24
    assert every["methods"]["probe"]["confusion"] == (2 * np.eye(6, dtype=int)).tolist()


def test_a_clip_in_both_sets_is_refused(context: Context) -> None:
    with pytest.raises(ClaraError, match="in the training and the test set"):
        probe(ProbeConfig(data("train", "test"), data("test"), "sound"), context)
    with pytest.raises(ClaraError, match="method"):
        probe(ProbeConfig(data("train"), data("test"), "sound", methods=("probes",)), context)


# recipes and reports


def write_recipe(corpus: Path, text: str) -> Path:
    path = corpus.parent / "recipe.yaml"
    path.write_text(text)
    return path


TWO = """
seed: 4
evaluations:
  tones: {kind: zero_shot, data: {corpus: tones.py, folder: tones, splits: [test]}, task: sound, languages: [en, de]}
  few: {kind: probe, train: {corpus: tones.py, folder: tones, splits: [train]},
        test: {corpus: tones.py, folder: tones, splits: [test]}, task: sound, shots: 2, seeds: 2}
"""


def test_a_recipe_writes_figures_with_their_provenance(corpus: Path, tmp_path: Path) -> None:
    out, lines = tmp_path / "out", []
    results = run(
        write_recipe(corpus, TWO),
        ToneEmbedder(),
        corpus,
        out,
        ["evaluations.tones.languages=[de]", "workers=2", f"cache={tmp_path / 'cache'}"],
        lines.append,
    )
    assert len(list((tmp_path / "cache").glob("*.sqlite"))) == 1
    saved = json.loads((out / "recipe.tones_1.json").read_text())
    assert saved["checkpoint"] == {"name": "tones:1", "sha256": "0" * 64}
    assert saved["seed"] == 4
    assert saved["command"]
    assert saved["versions"]["torch"]
    assert [r["name"] for r in saved["results"]] == ["tones", "few"]
    assert saved["results"][0]["clips"] == 12
    assert list(saved["results"][0]["languages"]) == ["de"]
    assert saved["results"][0]["languages"]["de"]["prompts"]["dog"]
    assert json.loads(json.dumps(results)) == saved["results"]
    picture = (out / "recipe.tones_1.tones.de.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert lines[0].startswith("tones [de] accuracy 1.000")
    assert not list(out.glob("*.tmp"))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (TWO.replace("zero_shot", "zeroshot"), "zero_shot"),
        (TWO.replace("languages", "langauges"), "languages"),
        (TWO.replace("splits: [test]", "splits: test"), "splits"),
        (TWO.replace("evaluations", "evaluation"), "evaluations"),
        ("evaluations: {}", "no evaluations"),
    ],
)
def test_a_fault_of_the_recipe_is_found_before_anything_is_computed(corpus: Path, text: str, match: str) -> None:
    zoo = ToneEmbedder()
    with pytest.raises(ClaraError, match=match):
        run(write_recipe(corpus, text), zoo, corpus, corpus.parent / "out")
    assert zoo.clips == 0


def test_the_audiocaps_recipe_reads_the_official_layout(tmp_path: Path, tone) -> None:
    folder = tmp_path / "audiocaps"
    folder.mkdir()
    lines = ["audiocap_id,youtube_id,start_time,caption"]
    for n, label in enumerate(("dog", "cow")):
        sf.write(folder / f"id{n}.wav", tone(0.3, hz=HZ[label]), RATE)
        lines += [f"{n}{i},id{n},30,{term('sound', label).names[0]} number {i}" for i in range(5)]
    (folder / "test.csv").write_text("\n".join(lines) + "\n")
    (got,) = run(
        RECIPES / "retrieval-audiocaps.yaml", ToneEmbedder(), tmp_path, tmp_path / "out", log=lambda line: None
    )
    assert (got["clips"], got["captions"]) == (2, 10)
    assert got["t2a"]["R@1"] == got["a2t"]["mAP@10"] == 1.0


def test_a_figure_that_is_no_number_is_not_written(tmp_path: Path) -> None:
    report.write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(ClaraError, match="NaN"):
        report.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_recipe_builds_and_says_how_it_is_run(path: Path) -> None:
    load_recipe(path)
    head = path.read_text(encoding="utf-8").split("evaluations:")[0]
    assert f"clara eval {path.stem} --model" in head
    assert "Cost:" in head


def test_outcomes_of_clips_go_through_text() -> None:
    truth, predicted = np.array([0, 3, 3, 12]), np.array([0, 5, 3, 1])
    assert outcomes.pack_classes(truth, predicted) == "0 3>5 3 12>1"
    for got, wanted in zip(outcomes.unpack_classes("0 3>5 3 12>1"), (truth, predicted)):
        np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(outcomes.unpack_counts(outcomes.pack_counts([1.0, 4, 2])), [1, 4, 2])
    for wrong in (outcomes.unpack_classes, outcomes.unpack_counts):
        with pytest.raises(ClaraError, match="expected"):
            wrong("3 x")


def test_a_result_holds_what_became_of_each_clip(context: Context) -> None:
    got = zero_shot(ZeroShotConfig(data("test"), "sound"), context)["languages"]["en"]["plain"]
    truth, predicted = outcomes.unpack_classes(got["outcomes"])
    assert metrics.confusion(truth, predicted, 6).tolist() == got["confusion"]
    few = probe(ProbeConfig(data("train"), data("test"), "sound", shots=2, seeds=3), context)
    assert outcomes.unpack_counts(few["methods"]["probe"]["hits"]).tolist() == [3] * 12
    rows = [r for r in context.rows(data("test")) if r.text]
    found = caption_figures(context, context.audio(rows), [list(r.text) for r in rows])
    assert outcomes.unpack_counts(found["t2a"]["ranks"]).tolist() == [1] * 12
    assert outcomes.unpack_counts(found["captions_of_clips"]).tolist() == [2] * 6
    assert [e["clip"] for e in found["examples"]] == [e["found"][0]["clip"] for e in found["examples"]]
    assert found["examples"][0]["query"] == rows[0].text[0]
