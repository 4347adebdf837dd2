"""Leave-one-corpus-out: the corpus is left out, the mean is right, and a second call goes on from the first."""

from __future__ import annotations

import csv
import json
import tarfile
from pathlib import Path

import pytest
import yaml
from layouts import write_clip

from clara import metrics
from clara.config import to_dict
from clara.data.entries import scan
from clara.data.manifest import rows_from_corpus
from clara.data.shards import ShardConfig, write_shards
from clara.errors import ClaraError
from clara.eval import leave_one_out as module
from clara.eval.leave_one_out import leave_one_out

CLASSES = ("anger", "sadness")
COLUMNS = (
    "file",
    "seconds",
    "split",
    "language",
    "speaker",
    "gender",
    "age",
    "emotion",
    "label",
    "transcript",
    "caption",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/ with three packed corpora of two emotions, shards/ of them, and a training recipe of two steps."""
    folder = tmp_path_factory.mktemp("left")
    for n, name in enumerate(("emodb", "nemo", "ased")):
        place = folder / "data" / name
        place.mkdir(parents=True)
        with tarfile.open(place / "audio.tar", "w") as tar, (place / "manifest.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, COLUMNS, restval="")
            table.writeheader()
            for i in range(8):
                write_clip(folder / "clip.wav", 200.0 * (i % 2 + 1) + 30 * n + i)
                tar.add(folder / "clip.wav", f"{i}.wav")
                split = "test" if name == "emodb" else "valid" if i < 4 else "train"
                cells = {"file": f"{i}.wav", "seconds": 0.3, "split": split, "language": "de", "speaker": f"s{i % 4}"}
                table.writerow(cells | {"emotion": CLASSES[i % 2]})
    write_shards(rows_from_corpus("packed", folder / "data"), folder / "shards", ShardConfig(format="wav"))
    train = {
        "model": "test-conv", "steps": 2, "out": "unused", "precision": "fp32", "threads": 1, "ema": None,
        "log_every": 1, "device": "cpu", "data": {"shards": [f"{folder}/shards/*.tar"], "batch_size": 4, "workers": 0,
        "splits": [], "augment": None, "exclude_corpora": [],
        "sampling": {"corpora": {"emodb": 1.0, "nemo": 1.0, "ased": 1.0}}},
    }  # fmt: skip
    (folder / "train.yaml").write_text(yaml.safe_dump(train))
    return folder


@pytest.fixture
def recipe(place: Path, tmp_path: Path) -> Path:
    """A leave-one-out recipe of two corpora and two seeds whose mean is over one of them."""
    text = {
        "train": str(place / "train.yaml"), "corpora": ["emodb", "nemo"], "seeds": [0, 1], "mean_over": ["nemo"],
        "data": str(place / "data"), "out": str(tmp_path / "out"),
        "eval_settings": ["evaluations.nemo.data.splits=[]", "evaluations.nemo.prompt_sets=[]"],
    }  # fmt: skip
    path = tmp_path / "loo.yaml"
    path.write_text(yaml.safe_dump(text))
    return path


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list:
    """Configs that were trained, in order; and few resamples."""
    interval, run, configs = metrics.bootstrap_interval, module.trainer.run, []
    monkeypatch.setattr(metrics, "bootstrap_interval", lambda f, *a, seed=0, samples=4: interval(f, *a, samples=4))

    def noted(config, folder):
        configs.append(config)
        return run(config, folder)

    monkeypatch.setattr(module.trainer, "run", noted)
    return configs


def test_each_corpus_is_left_out_once_a_seed_and_scored(recipe: Path, trained: list, tmp_path: Path) -> None:
    lines: list[str] = []
    made = leave_one_out(recipe, log=lines.append)
    assert [(r["corpus"], r["seed"]) for r in made["runs"]] == [("emodb", 0), ("nemo", 0), ("emodb", 1), ("nemo", 1)]
    for config, run in zip(trained, made["runs"], strict=True):
        assert config.data.exclude_corpora == (run["corpus"],) and config.seed == run["seed"]
        assert run["corpus"] not in config.data.sampling.corpora and len(config.data.sampling.corpora) == 2
        assert Path(config.out).name == f"{run['corpus']}-{run['seed']}"
        assert run["corpus"] not in {e.meta["corpus"] for e in scan(config.data)}
        assert run["clips"] == 8  # nEMO's own split is valid only: the recipe asks for all of it
        assert not list(Path(config.out).glob("step-*")) and (Path(config.out) / "checkpoint").is_dir()
        assert set(run["plain"]["per_class_recall"]) == set(run["labels"]) == set(CLASSES)
    nemo = [r["calibrated"]["uar"] for r in made["runs"] if r["corpus"] == "nemo"]
    assert made["mean"]["calibrated"]["uar"]["mean"] == pytest.approx(sum(nemo) / 2)
    assert made["mean"]["calibrated"]["uar"]["std"] == pytest.approx(abs(nemo[0] - nemo[1]) / 2**0.5)
    assert made["mean"]["seeds"] == [0, 1] and made["mean"]["corpora"] == ["nemo"]
    saved = json.loads((tmp_path / "out" / "leave-one-out.json").read_text())
    assert saved["runs"] == json.loads(json.dumps(made["runs"])) and saved["config"]["seeds"] == [0, 1]
    table = (tmp_path / "out" / "leave-one-out.md").read_text()
    assert "| emodb (not in the mean) | 8 | 2 |" in table and "**mean of 1**" in table and table.strip() in lines


def test_it_goes_on_and_refuses_another_recipe(recipe: Path, trained: list, tmp_path: Path) -> None:
    first = leave_one_out(recipe, ["seeds=[0]", "corpora=[nemo]"], lambda line: None)
    assert first["mean"]["plain"]["uar"]["std"] is None and len(trained) == 1
    again = leave_one_out(recipe, ["seeds=[0]"], lambda line: None)
    assert again["runs"][0] == first["runs"][0]
    assert [Path(c.out).name for c in trained] == ["nemo-0", "emodb-0"]
    for setting in ("train_settings=[steps=3]", 'eval_settings=["evaluations.nemo.data.splits=[train]"]'):
        with pytest.raises(ClaraError, match=r"of another recipe .*(steps was 2, is 3|splits was)"):
            leave_one_out(recipe, [setting], lambda line: None)
    assert len(trained) == 2


def test_a_run_that_failed_is_no_result_and_is_made_again(recipe: Path, trained: list, monkeypatch) -> None:
    evaluate = module.evaluate
    monkeypatch.setattr(module, "evaluate", lambda *a: (_ for _ in ()).throw(ClaraError("stopped here")))
    with pytest.raises(ClaraError, match="stopped here"):
        leave_one_out(recipe, ["seeds=[0]", "corpora=[nemo]"])
    assert list(Path(trained[0].out).glob("step-*"))  # nothing is trained twice for a failed evaluation
    monkeypatch.setattr(module, "evaluate", evaluate)
    made = leave_one_out(recipe, ["seeds=[0]", "corpora=[nemo]"], lambda line: None)
    assert len(trained) == 2 and len(made["runs"]) == 1


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        ("corpora=[emodb, nemmo]", "nemmo"),
        ("mean_over=[ased]", "mean_over"),
        ("seeds=[]", "seeds is"),
        ("language=de", "nemo: expected kind zero_shot with 'de'"),
        ("train=gone", "train recipe"),
        ("train_settings=[batch=3]", "batch"),
        ('train_settings=["init=clara-small.base"]', "was trained on nemo"),
    ],
)
def test_mistakes_are_told_before_training(recipe: Path, place: Path, trained: list, setting: str, error: str) -> None:
    text = yaml.safe_load((place / "train.yaml").read_text()) | {"init": None}
    recipe.with_name("train.yaml").write_text(yaml.safe_dump(text))
    with pytest.raises(ClaraError, match=error):
        leave_one_out(recipe, ["train=train.yaml", setting])
    assert not trained


def test_the_recipe_that_travels_names_what_the_evaluation_has() -> None:
    path = Path(__file__).parents[1] / "recipes" / "leave_one_out" / "emotion.yaml"
    plan = module._plan(path, ['train_settings=["init=null"]', "train=clara-small-audio"])
    assert len(plan.config.mean_over) == 6 and set(plan.config.corpora) - set(plan.config.mean_over) == {
        "crema_d_subset"
    }
    assert plan.training("ased", 1).data.exclude_corpora[-1] == "ased"
    assert to_dict(plan.training("ased", 1))["data"]["sampling"]["corpora"].keys() >= {"nemo"}
