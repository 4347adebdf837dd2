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
from clara.eval import report
from clara.eval.clips import Context, DataSpec
from clara.eval.contamination import SOURCES, SPELT, Training, contamination, folds_of, judge, training_of
from clara.eval.duplicates import duplicates
from clara.eval.keywords import KeywordConfig, keywords
from clara.eval.prompt_sets import SETS, prompt_set
from clara.eval.runner import load_recipe, run
from clara.eval.tagging import TaggingConfig, tagging
from clara.eval.zero_shot import ZeroShotConfig, zero_shot
from clara.text.prompts import task_labels
from clara.zoo.catalog import CHECKPOINTS
from clara.zoo.embedder import Embedder

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
    monkeypatch.setattr(report, "confusion_picture", lambda *_: None)


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
    assert [r["name"] for r in saved["results"]] == [r["name"] for r in results]
    ran, absent = {r["name"] for r in results}, {a["name"] for a in saved["not_at_hand"]}
    assert ran | absent == set(load_recipe(path)[0].evaluations)
    assert ran
    for result in saved["results"]:
        assert result["contamination"]["claim"] == "training data not known"
        assert result["data"][0]["layout"] in ("packed", "official")
        assert any(line.startswith(f"{result['name']} ") and line.endswith("not known") for line in lines)
    last = [line for line in lines if line.startswith("not at hand below ") or ": " in line]
    for one in saved["not_at_hand"]:
        assert any(re.search(rf"(^|[ ,]){re.escape(one['name'])}\b", line) for line in last)


def test_what_runs_is_most_of_it(data: Path) -> None:
    """The fixtures are not so thin that recipes pass by not running."""
    emotions = load_recipe(RECIPES / "emotion-zero-shot.yaml")[0].evaluations
    assert set(emotions) - set(LAYOUTS) - set(PACKED) == {"korean_emotional", "savee", "crema_d_subset"}
    emotional = {c for c in corpus_names() if load_corpus(c).INFO.task in ("emotion", "arousal")}
    assert emotional <= set(emotions), "a corpus of emotions that the recipe does not score"


def test_nothing_at_hand_is_an_error(zoo: Embedder, tmp_path: Path) -> None:
    with pytest.raises(ClaraError, match=r"Nothing of retrieval-clotho.yaml is at hand .*zenodo"):
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
        assert [r["name"] for r in results] == ["cafe", "emovo"]
        assert {d["layout"] for r in results for d in r["data"]} == {"official" if data == "data" else "shards"}
        found.append([r["languages"]["en"]["plain"] for r in results])
    assert found[0] == found[1]


def test_retrieval_lists_the_clips_with_hashes_and_the_missing(data: Path, zoo: Embedder, tmp_path: Path) -> None:
    path, out = RECIPES / "retrieval-audiocaps.yaml", []
    for folder in ("a", "b"):
        (result,) = run(path, zoo, data, tmp_path / folder, log=lambda line: None)
        out.append(result["manifest"])
    assert (out[0]["found"], out[0]["missing"]) == (2, 1)
    assert out[0] == out[1]
    lines = [json.loads(x) for x in (tmp_path / "a" / out[0]["file"]).read_text().splitlines()]
    assert {x["clip"]: x["found"] for x in lines} == {"AAA.wav": True, "BBB.wav": True, "gone.wav": False}
    assert all(re.fullmatch("[0-9a-f]{64}", x["sha256"]) for x in lines if x["found"])
    assert result["data"][0]["missing"] == 1
    assert result["duplicates"]["shared_captions"] == 10  # both clips have the same five captions
    assert result["duplicates"]["ceiling"] == 0.5
    assert result["duplicates"]["t2a"]["R@1"] == 1.0
    assert "against the query" in result["ties"]


# what training has heard


def test_every_corpus_of_ours_is_in_the_table() -> None:
    free = {"csv", "packed", "shards"}
    assert set(corpus_names()) - free <= set(SPELT)
    assert set(load_corpus("packed").INFOS) <= set(SPELT)
    assert set(SOURCES) <= set(SPELT)


def test_every_training_corpus_of_our_own_checkpoint_is_known() -> None:
    training = training_of("clara-small.base")
    for name in training.names:
        found = [c for c in SPELT if judge(c, Training((name,), {})).status == "seen"]
        assert found, f"no corpus of the table is called {name!r}"
    assert judge("lithuanian_words", training).status == "unseen"


@pytest.mark.parametrize(
    ("names", "touches", "corpus", "status"),
    [
        (("nEMO",), {"nEMO": "train split, other speakers"}, "nemo", "seen"),
        (("nEMO",), {}, "emodb", "unseen"),
        (("AudioSet with captions made from its labels",), {}, "audiocaps", "same-source"),
        (("AudioCaps, train",), {}, "audiocaps", "seen"),
        (("AudioCaps, train",), {}, "audioset", "same-source"),
        (("ESC-50",), {}, "esc10", "same-source"),
        (("ESC-50",), {}, "urbansound8k", "same-source"),
        (("WavCaps: Freesound, BBC",), {"ESC-50": "on a blacklist"}, "esc50", "same-source"),
        (("Some speech",), {"RAVDESS": "not named in training"}, "ravdess", "unseen"),
        (("Some speech",), {"RAVDESS": "in training (its table)"}, "ravdess", "seen"),
        (("Arabic Speech Commands",), {}, "speech_commands", "unseen"),
        (("FSDD, Speech Commands and custom English commands",), {}, "speech_commands", "seen"),
        (("Music (which: not published)",), {}, "ravdess", "unknown"),
        (("AudioSetCaps",), {}, "audioset", "same-source"),
        (("Protest songs",), {}, "tess", "unseen"),
        (("MSWC in 41 languages",), {}, "common_voice", "same-source"),
        (("nEMO",), {}, "my_recordings", "unknown"),
        (("ESC-50",), {"ESC-50": "folds 1 to 4"}, "esc50", "seen"),  # which folds are scored is not known
    ],
)
def test_verdicts(names: tuple[str, ...], touches: dict[str, str], corpus: str, status: str) -> None:
    found = judge(corpus, Training(names, touches))
    assert found.status == status, found
    assert found.because


FINAL = Training(
    ("nEMO", "EMO-DB", "ESC-50", "Lithuanian words", "Arabic Speech Commands"),
    {"ESC-50": "folds 1 to 4", "EMO-DB": "all of it", "Lithuanian words": "train split"},
)


@pytest.mark.parametrize(
    ("corpus", "parts", "status"),
    [
        ("emodb", ("03", "16"), "seen"),
        ("lithuanian_words", ("a",), "seen"),
        ("nemo", ("SO2",), "seen"),
        ("esc50", ("fold1", "fold4"), "seen"),
        ("esc50", ("fold4", "fold5"), "seen"),
        ("esc50", ("fold5", None), "seen"),  # a clip whose fold is not told may be of any
        ("esc50", ("fold5",), "same-source"),
        ("esc10", ("fold5",), "same-source"),
        ("urbansound8k", ("fold1",), "same-source"),
        ("ravdess", ("01",), "unseen"),
        ("tess", ("OAF",), "unseen"),
        ("urdu", ("SM1",), "unseen"),
        ("turev_db", ("1157",), "unseen"),
        ("ukrainian_digits", (), "unseen"),
        ("bengali_digits", (), "unseen"),
    ],
)
def test_a_checkpoint_trained_on_what_the_last_one_was_scored_on(
    corpus: str, parts: tuple[str | None, ...], status: str
) -> None:
    found = contamination({corpus: parts}, FINAL)
    assert found["status"] == status, found
    assert (found["claim"] == "zero-shot") == (status == "unseen")
    assert "fold" in found["corpora"]["esc50"]["because"] if corpus == "esc50" else True


def test_a_name_that_no_file_can_have_is_refused_first(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("evaluations: {en/de: {kind: zero_shot, data: {corpus: emodb}, task: emotion}}\n")
    with pytest.raises(ClaraError, match="named 'en/de'"):
        load_recipe(path)


def test_folds_are_read_from_a_note() -> None:
    assert folds_of("folds 1 to 3") == folds_of("Folds 1-3, of five") == {"fold1", "fold2", "fold3"}
    assert folds_of("fold 5") == {"fold5"} and folds_of("folds 1, 2 and 10") == {"fold1", "fold2", "fold10"}
    assert folds_of("the train split") == set()
    assert folds_of("all but fold 5") == folds_of("folds other than 5 and fold 4 without speech") == set()


def test_the_worst_corpus_decides_and_no_card_is_no_claim() -> None:
    training = Training(("nEMO", "Freesound"), {})
    assert contamination(["emodb"], training)["claim"] == "zero-shot"
    assert "taught by clips" in contamination(["emodb"], training, taught="taught by clips")["claim"]
    assert contamination(["emodb", "esc50"], training)["status"] == "same-source"
    assert contamination(["emodb", "esc50", "nemo"], training)["claim"] == "seen in training"
    assert contamination(["emodb"], None)["claim"] == "training data not known"


def test_the_card_of_a_folder_counts(tmp_path: Path) -> None:
    assert training_of(f"dir:{tmp_path}") is None
    (tmp_path / "README.md").write_text("# no front matter\n")
    assert training_of(f"dir:{tmp_path}") is None
    (tmp_path / "README.md").write_text("---\ncorpora:\n- name: nEMO\ntouches: {nEMO: all of it}\n---\n# mine\n")
    training = training_of(f"dir:{tmp_path}")
    assert judge("nemo", training).because == "nEMO: all of it"


def test_every_checkpoint_of_the_table_gets_a_verdict_on_every_corpus() -> None:
    for name in CHECKPOINTS:
        assert {judge(corpus, training_of(name)).status for corpus in SPELT} >= {"seen"}, name


def test_a_result_on_seen_data_is_never_called_zero_shot(
    data: Path, zoo: Embedder, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(zoo, "name", "clara-small.base")
    lines: list[str] = []
    results = run(RECIPES / "emotion-zero-shot.yaml", zoo, data, tmp_path, log=lines.append)
    found = {r["name"]: r["contamination"] for r in results}
    assert found["nemo"]["claim"] == "seen in training"
    assert found["nemo"]["corpora"]["nemo"]["because"] == "nEMO: train split, other speakers"
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
    assert got["labels"] == {"anger": 1, "happiness": 1, "neutral": 1, "sadness": 0}
    assert zero_shot(ZeroShotConfig(spec, "emotion"), context)["unlabelled"] == 1
    got = zero_shot(ZeroShotConfig(DataSpec("esc50", "esc50"), "sound", per="speaker"), context)
    per = got["languages"]["en"]["per"]
    assert {k: v["clips"] for k, v in per["groups"].items()} == {"03": 6, "08": 6, "09": 4, "10": 4, "13": 4}
    assert per["accuracy"] == pytest.approx(sum(g["accuracy"] for g in per["groups"].values()) / 5)
    with pytest.raises(ClaraError, match="speaker"):
        zero_shot(ZeroShotConfig(DataSpec("esc50", "esc50"), "sound", per="speeker"), context)
    with pytest.raises(ClaraError, match="prompt_sets"):
        zero_shot(ZeroShotConfig(DataSpec("esc50", "esc50"), "sound", prompt_sets=("mteb",)), context)


def test_tags_and_keywords(data: Path, zoo: Embedder) -> None:
    context = Context(zoo, data)
    got = tagging(TaggingConfig(DataSpec("fsd50k", "fsd50k", ("test",))), context)
    assert got["labels"] == {"bark": 1, "dog": 1, "rain": 1}
    assert got["macro_map"] == pytest.approx(sum(got["average_precision"].values()) / 3)
    with pytest.raises(ClaraError, match="has classes"):
        tagging(TaggingConfig(DataSpec("cafe", "cafe")), context)
    train, test = DataSpec("mswc", "mswc", ("train",)), DataSpec("mswc", "mswc", ("test",))
    got = keywords(KeywordConfig(train, test, shots=(1,), seeds=2), context)
    assert (got["clips"], got["spoken"]["de"]["words"]) == (2, 2)
    assert got["spoken"]["de"]["zero_shot"]["prompts"]["haus"][0] == "haus"
    with pytest.raises(ClaraError, match="No language"):
        keywords(KeywordConfig(train, test, shots=(5,)), context)
    with pytest.raises(ClaraError, match="spoken language"):
        keywords(KeywordConfig(train, test, languages=("xx",)), context)
