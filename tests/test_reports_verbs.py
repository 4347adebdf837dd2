"""Reports about verbs and their options (item 15), and about runs that meet what is broken (item 13)."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile as sf
import torch
from tiny import save_tiny
from tone_corpus import write_recipe
from tones import tone
from typer.testing import CliRunner

import clara
from clara.cli import app
from clara.data.entries import scan
from clara.data.loader import DataConfig
from clara.data.manifest import Row
from clara.data.tars import shards_of
from clara.eval.clips import Context, trial
from clara.train.finetune import finetune

QUICK = ("steps=2", "data.workers=1", "threads=1", "device=cpu", "precision=fp32", "data.augment=null")


def write_table(folder: Path, clips: int = 4) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["audio,text"]
    for i in range(clips):
        sf.write(folder / f"{i}.wav", tone(200 + 400 * (i % 2)), 16000)
        lines.append(f"{i}.wav,{('a low tone', 'a high tone')[i % 2]}")
    (folder / "t.csv").write_text("\n".join(lines) + "\n")
    return folder / "t.csv"


def test_15_finetune_in_a_script_without_a_main_guard(tmp_path: Path) -> None:
    table, init = write_table(tmp_path / "clips"), f"dir:{save_tiny(tmp_path / 'tiny')}"
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(clara.__file__).parents[1])!r})\n"
        "print('begun')\n"
        "from clara.train.finetune import finetune\n"
        f"print(finetune({str(table)!r}, {init!r}, {str(tmp_path / 'out')!r}, {QUICK!r}))\n"
    )
    found = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=900)
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert (lines[0], lines[-1], lines.count("begun")) == ("begun", str(tmp_path / "out" / "checkpoint"), 1)


def test_15_shards_in_a_script_without_a_main_guard(tmp_path: Path) -> None:
    write_table(tmp_path / "clips")
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(clara.__file__).parents[1])!r})\n"
        "print('begun')\n"
        "from clara.data.manifest import Row\n"
        "from clara.data.shards import ShardConfig, write_shards\n"
        f"rows = [Row({str(tmp_path / 'clips')!r} + f'/{{i}}.wav', 'c', 'train', text=('a',)) for i in range(4)]\n"
        f"print(write_shards(rows, {str(tmp_path / 'out')!r}, ShardConfig(samples_per_shard=2, workers=2))['count'])\n"
    )
    found = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=900)
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines() == ["begun", "4"]


def test_15_the_transform_can_be_pickled(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "tiny")
    _, transform, _ = clara.create_model_and_transforms(f"dir:{folder}")
    sf.write(tmp_path / "a.wav", tone(300), 16000)
    again = pickle.loads(pickle.dumps(transform))
    assert torch.equal(again(tmp_path / "a.wav"), transform(tmp_path / "a.wav"))
    loader = torch.utils.data.DataLoader(
        [str(tmp_path / "a.wav")] * 2, 2, num_workers=1, multiprocessing_context="spawn", collate_fn=Collate(transform)
    )
    assert next(iter(loader)).shape[0] == 2


class Collate:
    """Reads a list of clips with a transform."""

    def __init__(self, transform: Any) -> None:
        self.transform = transform

    def __call__(self, paths: list[str]) -> torch.Tensor:
        return torch.stack([self.transform(p) for p in paths])


@pytest.mark.parametrize("name", ["run[2]", "run*", "run{1,2}", "a?b"])
def test_15_folders_whose_names_hold_signs_of_patterns(name: str, tmp_path: Path) -> None:
    table, init = write_table(tmp_path / "clips"), f"dir:{save_tiny(tmp_path / 'tiny')}"
    quick = tuple("data.workers=0" if q.startswith("data.workers") else q for q in QUICK)
    folder = finetune(table, init, tmp_path / name, quick)
    assert (folder / "model.safetensors").is_file()
    (shard,) = (tmp_path / name / "shards").glob("*.tar")
    assert shards_of([str(shard)]) == shards_of([str(shard.parent)]) == [shard]
    assert len(scan(DataConfig((str(shard.parent),), 2))) == 4


def rows_of(split: str, clips: int, words: int = 6) -> list[Row]:
    return [
        Row(f"{language}{w}-{split}{i}.wav", "w", split, label=f"{language}{w}", task="word", language=language)
        for language in ("ca", "de")
        for w in range(words)
        for i in range(clips)
    ]


@pytest.mark.parametrize("limit", [1, 7, 20, 60])
def test_15_a_trial_of_few_shots_keeps_the_shots(limit: int) -> None:
    train, test = trial(rows_of("train", 8), rows_of("test", 4), 5, limit, seed=0)
    count = {row.label: sum(r.label == row.label for r in train) for row in train}
    assert set(count.values()) <= {5, 6, 7, 8} and len(count) >= 2 and len(test) <= max(1, limit)
    assert {row.label for row in test} <= set(count) and len({row.language for row in train}) <= 2


def test_15_words_with_a_limit(context: Context, corpus: Path, tmp_path: Path) -> None:
    from clara.eval.runner import run

    recipe = write_recipe(
        corpus,
        "evaluations:\n  few:\n    kind: probe\n    train: {corpus: tones.py, folder: tones, splits: [train]}\n"
        "    test: {corpus: tones.py, folder: tones, splits: [test]}\n    task: sound\n    shots: 3\n    seeds: 2\n"
        "pictures: false\n",
    )
    for limit in (2, 5, 9):
        (result,) = run(recipe, context.zoo, corpus, tmp_path / str(limit), [f"limit={limit}"], log=lambda line: None)
        assert result.limit == limit and result.clips <= limit and len(result.labels) >= 2


def test_15_data_is_the_folder_of_corpora_or_the_corpus_itself(tmp_path: Path) -> None:
    plugin = tmp_path / "toy.py"
    plugin.write_text(
        '"""A toy corpus."""\nfrom clara.data.manifest import Corpus, Row\n'
        'INFO = Corpus("toy", "CC0", "none", "sound")\n'
        "def rows(folder):\n"
        "    for p in sorted(folder.glob('*.wav')):\n"
        '        yield Row(str(p), "toy", "train", text=("a tone",))\n'
    )
    place = tmp_path / "data" / "Toy-master"
    place.mkdir(parents=True)
    sf.write(place / "a.wav", tone(300), 16000)
    for data in (place, place.parent):
        found = CliRunner().invoke(app, ["corpus", str(plugin), "--data", str(data)])
        assert found.exit_code == 0 and "1 clips" in found.stdout, found.output
        out = tmp_path / f"out-{data.name}"
        found = CliRunner().invoke(
            app, ["shards", str(out), "--corpus", str(plugin), "--data", str(data), "--workers", "1"]
        )
        assert found.exit_code == 0, found.output
        assert json.loads((out / "index.json").read_text())["count"] == 1
