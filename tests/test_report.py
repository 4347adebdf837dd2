"""The report says what the result files say, of any mixture of them, and needs no other file."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner

from clara.cli import app
from clara.errors import ClaraError
from clara.eval.compare import differences
from clara.eval.drawing import colours, confusion_svg, map_svg
from clara.eval.outcomes import pack_classes, pack_counts
from clara.eval.page import write_report
from clara.eval.zero_shot import figures_of
from clara.saving import sha256_of

LABELS = ["anger", "joy", "<sad>"]


def result_file(path: Path, model: str, right: float) -> dict:
    """A result with an emotion evaluation of 90 clips, few-shot draws, and retrieval of 6 clips by 2 captions each."""
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(3), 30)
    predicted = np.where(rng.random(90) < right, truth, 0)
    table = figures_of(predicted, truth, LABELS)
    plain = {"plain": table, "calibrated": {"accuracy": right, "uar": right}}
    emotion = {"name": "emodb", "kind": "zero_shot", "config": {"task": "emotion"}, "clips": 90,
               "labels": dict.fromkeys(LABELS, 30), "languages": {"en": plain, "de": plain}, "clips_sha256": "a",
               "contamination": {"status": "unseen", "claim": "zero-shot"},
               "speed": {"embedded": 90, "cached": 0, "seconds": 4.5, "clips_per_second": 20.0}}  # fmt: skip
    hits = (3 * (predicted == truth)).astype(int)
    few = {"name": "few", "kind": "probe", "config": {"task": "word"}, "clips": 90, "labels": LABELS,
           "clips_sha256": "b", "methods": {"probe": {"accuracy": right, "accuracy_std": 0.1, "uar": right,
           "hits": pack_counts(hits), "runs": [{"accuracy": 1}] * 3}}}  # fmt: skip
    ranks = np.where(rng.random(12) < right, 1, 4)
    query = {
        "query": "a | bar",
        "clip": 2,
        "rank": 2,
        "found": [{"clip": 1, "caption": "x"}, {"clip": 2, "caption": "y"}],
    }
    found = {"name": "caps", "kind": "retrieval", "config": {}, "clips": 6, "clips_sha256": "c",
             "captions_of_clips": "2 2 2 2 2 2",
             "t2a": {"R@1": float((ranks == 1).mean()), "ranks": pack_counts(ranks)},
             "a2t": {"R@1": 0.5, "ranks": "1 1 1 2 3 4"}, "examples": [query]}  # fmt: skip
    data = {"command": f"clara eval all --model {model}", "checkpoint": {"name": model, "sha256": model * 3},
            "recipe": "all.yaml", "overrides": [], "date": "2026-01-01", "results": [emotion, few, found]}  # fmt: skip
    path.write_text(json.dumps(data))
    return data


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "all.one.json", tmp_path / "all.two.json"]
    for path, model, right in zip(paths, ("model-one", "model-two"), (0.5, 0.9)):
        result_file(path, model, right)
    rng, kept = np.random.default_rng(0), tmp_path / "all.one.emodb.npz"
    np.savez(kept, vectors=rng.random((40, 8)), labels=np.array(LABELS * 13 + ["joy"]))
    data = json.loads(paths[0].read_text())
    (emodb,) = (r for r in data["results"] if r["name"] == "emodb")
    emodb["embeddings"] = {"file": kept.name, "sha256": sha256_of(kept)}
    paths[0].write_text(json.dumps(data))
    return paths


def test_differences_are_paired_and_of_the_same_clips_only(tmp_path: Path) -> None:
    one, two = (result_file(tmp_path / "x.json", m, r) for m, r in (("one", 0.5), ("two", 0.9)))
    found = {(d.evaluation, d.place): d for d in differences([one, two], ["one", "two"], samples=200)}
    assert set(found) == {
        ("all / emodb", "languages en plain"), ("all / emodb", "languages de plain"), ("all / few", "methods probe"),
        ("all / caps", "t2a"), ("all / caps", "a2t"),
    }  # fmt: skip
    emotion = found["all / emodb", "languages en plain"]
    tables = [x["results"][0]["languages"]["en"]["plain"] for x in (one, two)]
    assert emotion.metric == "UAR" and emotion.clips == 90
    assert emotion.difference == pytest.approx(tables[1]["uar"] - tables[0]["uar"])
    assert 0 < emotion.low < emotion.difference < emotion.high and emotion.p < 0.05
    few = found["all / few", "methods probe"]
    assert few.difference == pytest.approx(tables[1]["accuracy"] - tables[0]["accuracy"])
    t2a = found["all / caps", "t2a"]
    shares = [x["results"][2]["t2a"]["R@1"] for x in (one, two)]
    assert t2a.difference == pytest.approx(shares[1] - shares[0]) and t2a.clips == 6
    assert found["all / caps", "a2t"].difference == 0 and found["all / caps", "a2t"].p == 1
    other = copy.deepcopy(two)
    other["results"][0]["clips_sha256"] = "other clips"
    other["results"][1]["config"] = {"task": "word", "shots": 5}
    assert {d.evaluation for d in differences([one, other], ["one", "two"], samples=20)} == {"all / caps"}


def test_the_page_is_whole_and_needs_nothing_else(two: list[Path], tmp_path: Path) -> None:
    page = write_report(two, tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|<script|<link|<img", page)
    root = ElementTree.fromstring(re.sub(r'<!doctype html>|<meta charset="utf-8">', "", page))
    headings = [e.text for e in root.iter() if e.tag in ("h1", "h2", "h3")]
    assert headings[:3] == ["Evaluation report", "Differences between models", "all: emodb"]
    assert sum(h.startswith("Confusions: ") for h in headings) == 2
    assert [h for h in headings if h.startswith("Map")] == ["Map of embeddings: model-one"]
    assert sum(h.startswith("Captions and what they find") for h in headings) == 2
    svg = "{http://www.w3.org/2000/svg}"
    assert len(list(root.iter(f"{svg}svg"))) == 3 and len(list(root.iter(f"{svg}circle"))) == 40 + 3
    cells = [e.text for e in root.iter("td")]
    table = json.loads(two[1].read_text())["results"][0]["languages"]["en"]["plain"]
    assert "{:.3f} [{:.3f}, {:.3f}]".format(table["uar"], *table["uar_95"]) in cells
    assert "✓ y" in page and "<sad>" not in page and "&lt;sad&gt;" in page
    assert [h for h in headings if h.startswith("Few")] == [
        "Few labelled clips: model-one",
        "Few labelled clips: model-two",
    ]
    assert "By the cards: zero-shot." in page and "20.0" in cells


def test_markdown_has_the_same_tables(two: list[Path], tmp_path: Path) -> None:
    text = write_report(two, tmp_path / "report.md").read_text(encoding="utf-8")
    assert "<svg" not in text and "| a \\| bar | 2 | x; ✓ y |" in text
    for block in text.split("\n\n"):
        if block.startswith("|"):
            widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.strip().splitlines()}
            assert len(widths) == 1, block
    assert re.search(r"^\| true \| named \| clips \|\n\| --- .*\n\| (joy|<sad>) \| anger \| \d+ of 30 \|", text, re.M)


def test_a_lone_result_of_an_older_kind_is_reported_too(two: list[Path], tmp_path: Path) -> None:
    data = json.loads(two[0].read_text())
    for result in data["results"]:
        for key in ("clips_sha256", "speed", "contamination", "examples", "captions_of_clips"):
            result.pop(key, None)
    (tmp_path / "old.json").write_text(json.dumps(data))
    text = write_report([tmp_path / "old.json"], tmp_path / "old.md").read_text(encoding="utf-8")
    assert "Differences" not in text and "Speed" not in text and "## all: caps" in text


def test_an_evaluation_given_twice_is_shown_once(two: list[Path], tmp_path: Path) -> None:
    """The same weights and settings again, a day later and with one evaluation less; then with other settings."""
    data = json.loads(two[0].read_text())
    newer, other = tmp_path / "newer.json", tmp_path / "other.json"
    newer.write_text(
        json.dumps(data | {"date": "2026-01-02", "results": data["results"][:2], "overrides": ["workers=4"]})
    )
    lines: list[str] = []
    text = write_report([two[0], newer, two[0]], tmp_path / "r.md", log=lines.append).read_text(encoding="utf-8")
    assert lines == [f"{two[0]}: emodb, few left out, {newer} is newer"]
    assert text.count("| model-one | en plain |") == 1 and "## all: caps" in text and "Differences" not in text
    assert text.count("| model-one | model-one") == 2  # two files are still read
    other.write_text(json.dumps(data | {"overrides": ["evaluations.emodb.templates=[x]"]}))
    lines.clear()
    text = write_report([two[0], other], tmp_path / "r.md", log=lines.append).read_text(encoding="utf-8")
    assert not lines and "| model-one (evaluations.emodb.templates=[x]) | en plain |" in text


def test_faults_are_told(two: list[Path], tmp_path: Path) -> None:
    for results, out, match in (
        (two, "r.pdf", "html or"),
        ([], "r.md", "No result files"),
        ([tmp_path / "x"], "r.md", "x"),
    ):
        with pytest.raises(ClaraError, match=match):
            write_report(results, tmp_path / out)
    done = CliRunner().invoke(app, ["report", *map(str, two), "--out", str(tmp_path / "cli.html")])
    assert done.exit_code == 0 and done.stdout.strip() == str(tmp_path / "cli.html")


def test_drawings() -> None:
    assert len(set(colours(60))) == 60
    counts = [[3, 1], [0, 2]]
    cells = [e for e in ElementTree.fromstring(confusion_svg(counts, ["a", "b"])).iter() if e.tag.endswith("title")]
    assert [e.text for e in cells] == ["a → a: 3 of 4", "a → b: 1 of 4", "b → b: 2 of 2"]
    circles = [
        e for e in ElementTree.fromstring(map_svg(np.zeros((3, 2)), ["a", "b", "a"])).iter() if "circle" in e.tag
    ]
    assert len(circles) == 5
    assert pack_classes([0, 1], [0, 0]) == "0 1>0"
