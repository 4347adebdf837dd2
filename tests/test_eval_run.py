"""Recipes of evaluations, and what is written of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from tone_corpus import HZ, RATE, ToneEmbedder, data, write_recipe

from clara import metrics
from clara import results as outcomes
from clara.errors import ClaraError
from clara.eval.clips import Context
from clara.eval.probe import ProbeConfig, probe
from clara.eval.retrieval import caption_figures
from clara.eval.runner import load_recipe, run
from clara.eval.zero_shot import ZeroShotConfig, zero_shot
from clara.text.prompts import term

RECIPES = Path(__file__).parents[1] / "recipes" / "eval"


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
    assert saved["results"][0]["languages"] == ["de"] and saved["results"][0]["prompts"]["de"]["dog"]
    read = outcomes.read_results(out / "recipe.tones_1.json")
    assert list(read.results) == results and read.results[0].primary.what == "de plain"
    picture = (out / "recipe.tones_1.tones.de.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert lines[0].startswith("tones de plain: accuracy 1.000")
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
    assert (got.clips, got.notes["captions"]) == (2, 10)
    assert got.value("t2a", "R@1") == got.value("a2t", "mAP@10") == 1.0


def test_a_figure_that_is_no_number_is_not_written(tmp_path: Path) -> None:
    outcomes.write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(ClaraError, match="NaN"):
        outcomes.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_recipe_builds_and_says_how_it_is_run(path: Path) -> None:
    load_recipe(path)
    head = path.read_text(encoding="utf-8").split("evaluations:")[0]
    assert f"clara eval {path.stem} --model" in head
    assert "Cost:" in head


def test_outcomes_of_clips_go_through_text() -> None:
    truth, predicted = np.array([0, 3, 3, 12]), np.array([0, 5, 3, 1])
    assert outcomes.pack(truth, predicted) == "0 3>5 3 12>1"
    for got, wanted in zip(outcomes.unpack("0 3>5 3 12>1"), (truth, predicted)):
        np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(outcomes.unpack(outcomes.pack([1.0, 4, 2]))[0], [1, 4, 2])
    with pytest.raises(ClaraError, match="expected"):
        outcomes.unpack("3 x")


def test_a_result_holds_what_became_of_each_clip(context: Context) -> None:
    got = zero_shot(ZeroShotConfig(data("test"), "sound"), context)
    truth, predicted = outcomes.unpack(got.outcomes["en/plain"].text)
    assert metrics.uar(truth, predicted) == got.value("en/plain", "uar")
    assert got.confusion("en/plain").sum() == 12
    few = probe(ProbeConfig(data("train"), data("test"), "sound", shots=2, seeds=3), context)
    assert outcomes.unpack(few.outcomes["probe"].text)[0].tolist() == [3] * 12
    rows = [r for r in context.rows(data("test")) if r.text]
    found = caption_figures(context, context.audio(rows), [list(r.text) for r in rows])
    assert outcomes.unpack(found.outcomes["t2a"].text)[0].tolist() == [1] * 12
    assert outcomes.unpack(found.outcomes["t2a"].captions)[0].tolist() == [2] * 6
    assert [e["clip"] for e in found.examples] == [e["found"][0]["clip"] for e in found.examples]
    assert found.examples[0]["query"] == rows[0].text[0]


def test_results_of_another_format_are_refused_by_its_number(tmp_path: Path) -> None:
    old = {"recipe": "a.yaml", "checkpoint": {"name": "m", "sha256": "0"}, "results": []}
    (tmp_path / "old.json").write_text(json.dumps(old))
    with pytest.raises(ClaraError, match=r"old.json has format 1, this version of CLARA reads 2"):
        outcomes.read_results(tmp_path / "old.json")
