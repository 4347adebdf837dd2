"""Every evaluation recipe runs on tiny corpora with a tiny checkpoint, and says what it did not find and what was heard
in training."""

from __future__ import annotations

import csv
import json
import re
import tarfile
from pathlib import Path

import pytest
import torch
from layouts import LAYOUTS, write_clip
from tiny import tiny_zoo

from clara import metrics
from clara.data.manifest import corpus_names, load_corpus, rows_from_corpus
from clara.data.shards import ShardConfig, write_shards
from clara.errors import ClaraError
from clara.eval import runner
from clara.eval.clips import Context, DataSpec
from clara.eval.contamination import contamination, judge, sources_of, training_of
from clara.eval.duplicates import duplicates
from clara.eval.keywords import KeywordConfig, keywords
from clara.eval.prompt_sets import SETS, prompt_set
from clara.eval.runner import load_recipe, run
from clara.eval.tagging import TaggingConfig, tagging
from clara.eval.zero_shot import ZeroShotConfig, zero_shot
from clara.text.prompts import task_labels
from clara.zoo.catalog import CHECKPOINTS, TrainedOn
from clara.zoo.embedder import Embedder
from clara.zoo.lineage import Statement

RECIPES = Path(__file__).parents[1] / "recipes" / "eval"
COLUMNS = ["file", "seconds", "split", "language", "speaker", "gender", "age", "emotion", "label"]
COLUMNS += ["transcript", "caption"]
# packed set -> column of the class, two classes, language, split of the clips that are scored
PACKED = {
    "esc50": ("label", ("dog", "rain"), "", "valid"),
    "emodb": ("emotion", ("anger", "boredom"), "de", "test"),
    "nemo": ("emotion", ("anger", "sadness"), "pl", "valid"),
    "baved": ("label", ("low arousal", "high arousal"), "ar", "valid"),
    "lithuanian_words": ("label", ("taip", "ne"), "lt", "test"),
    "arabic_speech_commands": ("label", ("zero", "one"), "ar", "test"),
}
QUICK = {
    "retrieval-composed": ["evaluations.esc50-pairs.clips=1", "evaluations.esc50-pairs.seconds=3.0"],
    "words": ["evaluations.lithuanian-5-shot.seeds=2"],
    "few-shot": [f"evaluations.{c}-{k}.seeds=2" for c in ("emodb", "nemo", "esc50", "baved") for k in (1, 5, 10)],
    "keyword-spotting-mswc": [f"evaluations.{c}.seeds=2" for c in ("lithuanian", "arabic")]
    + ["evaluations.mswc.shots=[1]"],
}


def pack(folder: Path, name: str) -> None:
    """A packed set: two classes, ten training clips and two scored ones each, of other speakers."""
    column, classes, language, scored = PACKED[name]
    folder.mkdir(parents=True)
    with tarfile.open(folder / "audio.tar", "w") as tar, (folder / "manifest.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, restval="")
        table.writeheader()
        for k, label in enumerate(classes):
            for i in range(12):
                clip = folder / "clip.wav"
                write_clip(clip, 200.0 * (k + 1) + 7 * i)
                tar.add(clip, f"{label}{i}.wav")
                clip.unlink()
                speaker = ("03", "08", "09", "10")[i % 4] if i < 10 else "13"
                split = "test" if name == "emodb" else "train" if i < 10 else scored
                cells = {"file": f"{label}{i}.wav", "seconds": 0.3, "split": split, "language": language}
                table.writerow(cells | {"speaker": speaker, "transcript": f"{label} {i % 3}", column: label})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of corpora: some packed, some as published."""
    folder = tmp_path_factory.mktemp("data")
    for name in PACKED:
        pack(folder / name, name)
    for name, layout in LAYOUTS.items():
        if name not in PACKED and name != "audiocaps":
            layout.write(folder / name)
    lines = ["audiocap_id,youtube_id,start_time,caption", "9,gone,0,Gone"]
    lines += [f"{n},{video},30,caption {n}" for video in ("AAA", "BBB") for n in range(5)]
    for i, clip in enumerate(("AAA", "BBB")):
        write_clip(folder / "audiocaps" / "clips" / f"{clip}.wav", 300.0 * (i + 1))
    (folder / "audiocaps" / "test.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def few(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpora of `data` that have every class in training and test."""
    folder = tmp_path_factory.mktemp("few")
    for name in (*PACKED, "mswc"):
        (folder / name).symlink_to(data / name)
    return folder


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few resamples and no pictures: what they are worth is tested elsewhere."""
    interval = metrics.bootstrap_interval

    def few(figure, *arrays, seed=0, samples=4) -> tuple[float, float]:
        return interval(figure, *arrays, seed=seed, samples=min(samples, 4))

    monkeypatch.setattr(metrics, "bootstrap_interval", few)
    monkeypatch.setattr(runner, "draw_confusions", lambda *_: None)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return tiny_zoo(tmp_path_factory.mktemp("zoo"))


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda p: p.stem)
def test_a_recipe_runs(path: Path, data: Path, few: Path, zoo: Embedder, tmp_path: Path) -> None:
    lines: list[str] = []
    taught = path.stem in ("few-shot", "linear-probe", "keyword-spotting-mswc")
    data = few if taught else data
    results = run(path, zoo, data, tmp_path, QUICK.get(path.stem, []), lines.append)
    (file,) = tmp_path.glob("*.json")
    saved = json.loads(file.read_text())
    assert [r["name"] for r in saved["results"]] == [r.name for r in results]
    ran, absent = {r.name for r in results}, {a["name"] for a in saved.get("not_found", ())}
    assert ran | absent == set(load_recipe(path)[0].evaluations)
    assert ran
    for result in saved["results"]:
        assert result["contamination"]["claim"] == "training data not known"
        assert result["data"][0]["layout"] in ("packed", "official")
        assert any(line.startswith(f"{result['name']} ") and line.endswith("not known") for line in lines)
    last = [line for line in lines if line.startswith("not found under ") or ": " in line]
    for name in absent:
        assert any(re.search(rf"(^|[ ,]){re.escape(name)}\b", line) for line in last)


def test_what_runs_is_most_of_it(data: Path) -> None:
    """The fixtures are not so thin that recipes pass by not running."""
    emotions = load_recipe(RECIPES / "emotion-zero-shot.yaml")[0].evaluations
    assert set(emotions) - set(LAYOUTS) - set(PACKED) == {"korean_emotional", "savee", "crema_d_subset"}
    emotional = {c for c in corpus_names() if load_corpus(c).INFO.task in ("emotion", "arousal")}
    assert emotional <= set(emotions), "a corpus of emotions that the recipe does not score"


def test_nothing_at_hand_is_an_error(zoo: Embedder, tmp_path: Path) -> None:
    with pytest.raises(ClaraError, match=r"No corpus of retrieval-clotho.yaml was found .*zenodo"):
        run(RECIPES / "retrieval-clotho.yaml", zoo, tmp_path, tmp_path / "out", log=lambda line: None)
    assert not (tmp_path / "out").exists()


def test_a_recipe_runs_from_shards_as_from_the_official_folder(zoo: Embedder, tmp_path: Path) -> None:
    for name in ("cafe", "emovo"):
        folder = LAYOUTS[name].write(tmp_path / "data" / name)
        write_shards(rows_from_corpus(name, folder), tmp_path / "shards", ShardConfig(format="wav"))
    found = []
    for data in ("data", "shards"):
        results = run(
            RECIPES / "emotion-zero-shot.yaml", zoo, tmp_path / data, tmp_path / f"out-{data}", log=lambda x: x
        )
        assert [r.name for r in results] == ["cafe", "emovo"]
        assert {d["layout"] for r in results for d in r.data} == {"official" if data == "data" else "shards"}
        found.append([(r.figures, r.outcomes) for r in results])
    assert found[0] == found[1]


def test_retrieval_lists_the_clips_with_hashes_and_the_missing(data: Path, zoo: Embedder, tmp_path: Path) -> None:
    path, out = RECIPES / "retrieval-audiocaps.yaml", []
    for folder in ("a", "b"):
        (result,) = run(path, zoo, data, tmp_path / folder, log=lambda line: None)
        out.append(result.manifest)
    assert (out[0]["found"], out[0]["missing"]) == (2, 1)
    assert out[0] == out[1]
    lines = [json.loads(x) for x in (tmp_path / "a" / out[0]["file"]).read_text().splitlines()]
    assert {x["clip"]: x["found"] for x in lines} == {"AAA.wav": True, "BBB.wav": True, "gone.wav": False}
    assert all(re.fullmatch("[0-9a-f]{64}", x["sha256"]) for x in lines if x["found"])
    assert result.data[0]["missing"] == 1
    assert result.notes["shared_captions"] == 10  # both clips have the same five captions
    assert result.notes["ceiling"] == 0.5
    assert result.value("equal/t2a", "R@1") == 1.0
    assert "against the query" in result.notes["ties"] and "clips" not in result.notes


# what training has heard


def trained(*entries: TrainedOn | str, **held_out: str) -> Statement:
    return Statement("", tuple(TrainedOn(e) if isinstance(e, str) else e for e in entries), held_out)


def test_sources_are_known_corpora_or_archives() -> None:
    names = {*corpus_names(), *load_corpus("packed").INFOS}
    archives = {"freesound", "youtube", "bbc", "soundbible", "tau_urban_acoustic_scenes"}
    assert {name for name in names if sources_of(name) is None} == {"csv", "packed", "shards"}
    assert {source for name in names for source in sources_of(name) or ()} <= names | archives


def test_every_training_corpus_of_our_own_checkpoint_is_known() -> None:
    training = training_of("clara-small.base")
    for entry in training.trained_on:
        assert sources_of(entry.corpus) is not None and judge(entry.corpus, training).status == "seen"
    assert judge("lithuanian_words", training).status == "unseen"


LAION = TrainedOn("laion_630k", sources=("freesound", "bbc"))
UNNAMED = TrainedOn(None, basis="music; which is not published")


@pytest.mark.parametrize(
    ("training", "corpus", "status"),
    [
        (trained(TrainedOn("nemo", splits=("train",), basis="other speakers")), "nemo", "seen"),
        (trained("nemo"), "emodb", "unseen"),
        (trained("audioset"), "audiocaps", "same-source"),
        (trained("audiocaps"), "audiocaps", "seen"),
        (trained("audiocaps"), "audioset", "same-source"),
        (trained("esc50"), "urbansound8k", "same-source"),
        (trained("wavcaps", esc50="on a blacklist"), "esc50", "same-source"),
        (trained(LAION), "fsd50k", "same-source"),
        (trained(LAION), "vggsound", "unseen"),
        (trained("read_speech", ravdess="not named in training"), "ravdess", "unseen"),
        (trained("arabic_speech_commands"), "speech_commands", "unseen"),
        (trained("english_words"), "speech_commands", "same-source"),
        (trained(UNNAMED), "ravdess", "unknown"),
        (trained(UNNAMED, "audioset"), "audiocaps", "same-source"),
        (trained("mswc"), "common_voice", "same-source"),
        (trained("nemo"), "my_recordings", "unknown"),  # no file states its sources
        (trained("my_recordings"), "my_recordings", "seen"),
        (trained(TrainedOn("esc50", folds=(1, 2, 3, 4))), "esc50", "seen"),  # which folds are scored is not known
        (None, "emodb", "unknown"),
    ],
)
def test_verdicts(training: Statement | None, corpus: str, status: str) -> None:
    found = judge(corpus, training)
    assert found.status == status, found
    assert found.because


FINAL = trained("nemo", "emodb", TrainedOn("esc50", folds=(1, 2, 3, 4)), "lithuanian_words", "arabic_speech_commands")


@pytest.mark.parametrize(
    ("corpus", "parts", "status"),
    [
        ("emodb", ("03", "16"), "seen"),
        ("lithuanian_words", ("a",), "seen"),
        ("nemo", ("SO2",), "seen"),
        ("esc50", ("fold1", "fold4"), "seen"),
        ("esc50", ("fold4", "fold5"), "seen"),
        ("esc50", ("fold5", None), "seen"),  # a clip whose fold is not known may be of any
        ("esc50", ("fold5",), "same-source"),
        ("urbansound8k", ("fold1",), "same-source"),
        ("ravdess", ("01",), "unseen"),
    ],
)
def test_a_checkpoint_trained_on_what_the_last_one_was_scored_on(
    corpus: str, parts: tuple[str | None, ...], status: str
) -> None:
    found = contamination({corpus: parts}, FINAL)
    assert found["status"] == status, found
    assert (found["claim"] == "zero-shot") == (status == "unseen")
    assert "fold" in found["corpora"]["esc50"]["because"] if corpus == "esc50" else True


def test_a_corpus_file_beside_the_recipe_states_its_sources(tmp_path: Path) -> None:
    (tmp_path / "corpora").mkdir()
    info = "INFO = Corpus('mine', '', '', 'sound', sources=('esc50',))"
    text = f"from clara.data.manifest import Corpus\nrows = list\n{info}\n"
    (tmp_path / "corpora" / "mine.py").write_text(text)
    near = tmp_path / "recipe.yaml"
    assert judge("mine", trained("fsd50k"), near=near).because == "training holds freesound"
    assert judge("mine", trained("nemo"), near=near).status == "unseen"


def test_a_name_that_no_file_can_have_is_refused_first(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("evaluations: {en/de: {kind: zero_shot, data: {corpus: emodb}, task: emotion}}\n")
    with pytest.raises(ClaraError, match="named 'en/de'"):
        load_recipe(path)


def test_the_worst_corpus_decides_and_no_card_is_no_claim() -> None:
    training = trained("nemo", "fsd50k")

    def claim(*corpora: str, training: Statement | None = training, taught: str | None = None) -> str:
        return contamination(dict.fromkeys(corpora, ()), training, taught=taught)["claim"]

    assert claim("emodb") == "zero-shot"
    assert "taught by clips" in claim("emodb", taught="taught by clips")
    assert claim("emodb", "esc50") == "same source as training data"
    assert claim("emodb", "esc50", "nemo") == "seen in training"
    assert claim("emodb", training=None) == "training data not known"


def test_the_card_of_a_folder_counts(tmp_path: Path) -> None:
    name = f"dir:{tmp_path}"
    assert training_of(name) is None
    (tmp_path / "README.md").write_text("# no front matter\n")
    assert training_of(name) is None
    (tmp_path / "README.md").write_text("---\ntrained_on:\n- {corpus: nemo, basis: all of it}\n---\n# mine\n")
    assert judge("nemo", training_of(name)).because == "trained on nemo (all of it)"
    older = ("trained_on: [{corpsu: nemo}]", "Did you mean 'corpus'"), ("corpora: [{name: nEMO}]", "write `trained_on:")
    for front, match in older:
        (tmp_path / "README.md").write_text(f"---\n{front}\n---\n")
        with pytest.raises(ClaraError, match=match):
            training_of(name)


def test_every_checkpoint_of_the_table_gets_a_verdict_on_every_corpus() -> None:
    for name in CHECKPOINTS:
        training = training_of(name)
        named = {t.corpus for t in training.trained_on} - {None}
        assert named and {judge(corpus, training).status for corpus in named} == {"seen"}, name


def test_a_result_on_seen_data_is_never_called_zero_shot(
    data: Path, zoo: Embedder, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(zoo, "name", "clara-small.base")
    lines: list[str] = []
    results = run(RECIPES / "emotion-zero-shot.yaml", zoo, data, tmp_path, log=lines.append)
    found = {r.name: r.contamination for r in results}
    assert found["nemo"]["claim"] == "seen in training"
    assert found["nemo"]["corpora"]["nemo"]["because"] == "trained on nemo (splits train; other speakers)"
    assert found["emodb"]["claim"] == "zero-shot"
    for line in lines:
        assert line.endswith("seen in training") == line.startswith(("nemo ", "ased ", "baved ")), line
        assert "zero-shot" not in line or not line.startswith(("nemo ", "ased ", "baved "))


# figures


def test_shared_captions_by_hand() -> None:
    """Three clips; "rain" is a caption of the first two, whose vectors are the wrong way round for it."""
    audio = torch.eye(3)
    texts = [["rain", "a"], ["rain", "b"], ["c", "d"]]
    rain, a, b, c = torch.tensor([0.6, 0.8, 0.0]), audio[0], audio[1], audio[2]
    found = duplicates(audio, torch.stack([rain, a, rain, b, c, c]), texts, chunk=2)
    assert (found["distinct_captions"], found["shared_captions"]) == (5, 2)
    assert found["ceiling"] == pytest.approx(5 / 6)
    assert found["t2a"]["R@1"] == 1.0  # plainly it is 5 of 6: "rain" finds the second clip for both
    assert duplicates(audio, torch.stack([a, a, b, b, c, c]), [["1", "2"], ["3", "4"], ["5", "6"]])["ceiling"] == 1.0


def test_prompts_are_those_published() -> None:
    evar, added = prompt_set("evar").prompts(["anger", "neutral", "surprise"], "crema_d")
    assert evar[:2] == [["angry person talking can be heard"], ["someone talking calmly can be heard"]]
    assert added == ["surprise"]
    assert prompt_set("mteb").prompts(["happiness"]) == ([["this person is feeling happy"]], [])
    assert prompt_set("clara").prompts(["anger"], "ravdess")[0] == [["a person talking in an angry voice"]]
    assert prompt_set("clara").prompts(["anger"], "crema_d")[0] == [["a person talking in a angry voice"]]
    assert prompt_set("paraclap").prompts(["surprise"], "tess")[0] == [["pleasant surprise"]]
    for name in SETS:
        texts, _ = prompt_set(name).prompts(task_labels("emotion"))
        assert len({t for (t,) in texts}) == len(texts), "two emotions have one prompt"
    with pytest.raises(ClaraError, match="Did you mean 'evar'"):
        prompt_set("evra")


def test_classes_can_be_merged_chosen_and_counted_by_fold(data: Path, zoo: Embedder) -> None:
    spec = DataSpec("iemocap", "iemocap")
    context = Context(zoo, data)
    four = ("anger", "happiness", "neutral", "sadness")
    got = zero_shot(ZeroShotConfig(spec, "emotion", four, merge={"excitement": "happiness"}, only=True), context)
    assert got.labels == {"anger": 1, "happiness": 1, "neutral": 1, "sadness": 0}
    assert zero_shot(ZeroShotConfig(spec, "emotion"), context).notes["unlabelled"] == 1
    got = zero_shot(ZeroShotConfig(DataSpec("esc50", "esc50"), "sound", per="speaker"), context)
    groups = {f.where: f for f in got.figures if f.where.startswith("en/per/") and f.metric == "accuracy"}
    assert {k[-2:]: f.what.split()[-2] for k, f in groups.items()} == {
        "03": "6",
        "08": "6",
        "09": "4",
        "10": "4",
        "13": "4",
    }
    assert got.value("en/per", "accuracy") == pytest.approx(sum(f.value for f in groups.values()) / 5)
    with pytest.raises(ClaraError, match="speaker"):
        zero_shot(ZeroShotConfig(DataSpec("esc50", "esc50"), "sound", per="speeker"), context)
    with pytest.raises(ClaraError, match="prompt_sets"):
        zero_shot(ZeroShotConfig(DataSpec("esc50", "esc50"), "sound", prompt_sets=("mteb",)), context)


def test_tags_and_keywords(data: Path, zoo: Embedder) -> None:
    context = Context(zoo, data)
    got = tagging(TaggingConfig(DataSpec("fsd50k", "fsd50k", ("test",))), context)
    assert got.labels == {"bark": 1, "dog": 1, "rain": 1}
    assert got.primary.value == pytest.approx(sum(got.value(k, "average_precision") for k in got.labels) / 3)
    with pytest.raises(ClaraError, match="has classes"):
        tagging(TaggingConfig(DataSpec("cafe", "cafe")), context)
    train, test = DataSpec("mswc", "mswc", ("train",)), DataSpec("mswc", "mswc", ("test",))
    got = keywords(KeywordConfig(train, test, shots=(1,), seeds=2), context)
    assert (got.clips, got.notes["spoken"]["de"]["words"]) == (2, 2)
    assert got.prompts["de"]["haus"][0] == "haus" and got.confusion("de/text/plain").shape == (2, 2)
    assert got.value("mean/1-shot", "accuracy") == got.value("de/1-shot", "accuracy")
    with pytest.raises(ClaraError, match="No language"):
        keywords(KeywordConfig(train, test, shots=(5,)), context)
    with pytest.raises(ClaraError, match="spoken language"):
        keywords(KeywordConfig(train, test, languages=("xx",)), context)
