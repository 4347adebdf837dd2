"""The report says what the result files say, of any mixture of them, and needs no other file."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner

from clara.cli import app
from clara.errors import ClaraError
from clara.eval.scores import Place, class_figures
from clara.report.compare import differences
from clara.report.drawing import confusion, draw_confusions, embedding_map, svg
from clara.report.page import write_report
from clara.results import Figure, Outcomes, Result, ResultFile, pack, read_results, write_json
from clara.saving import sha256_of

LABELS = ["anger", "joy", "<sad>"]


def results_of(model: str, right: float) -> ResultFile:
    """An emotion evaluation of 90 clips, few-shot draws, and retrieval of 6 clips by 2 captions each."""
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(3), 30)
    predicted = np.where(rng.random(90) < right, truth, 0)
    figures, outcomes = [], {}
    for code in ("en", "de"):
        found, outcomes[f"{code}/plain"] = class_figures(Place(f"{code}/plain", "uar"), predicted, truth, 3)
        calibrated = Figure(f"{code} calibrated", "uar", right, primary=True, where=f"{code}/calibrated")
        figures += [*found, calibrated]
    emotion = Result(
        90, tuple(figures), dict.fromkeys(LABELS, 30), ("en", "de"), outcomes=outcomes, name="emodb", kind="zero_shot",
        config={"task": "emotion"}, clips_sha256="a", contamination={"status": "unseen", "claim": "zero-shot"},
        speed={"embedded": 90, "cached": 0, "seconds": 4.5, "clips_per_second": 20.0},
    )  # fmt: skip
    hits = Outcomes("hits", pack(3 * (predicted == truth)), 3)
    drawn = Figure("probe", "accuracy", float((predicted == truth).mean()), std=0.1, primary=True, where="probe")
    few = Result(90, (drawn,), dict.fromkeys(LABELS, 30), outcomes={"probe": hits}, name="few", kind="probe",
                 config={"task": "word"}, clips_sha256="b")  # fmt: skip
    ranks = np.where(rng.random(12) < right, 1, 4)
    shares = {"t2a": float((ranks == 1).mean()), "a2t": 0.5}
    query = {
        "query": "a | bar",
        "clip": 2,
        "rank": 2,
        "found": [{"clip": 1, "caption": "x"}, {"clip": 2, "caption": "y"}],
    }
    found = Result(
        6, tuple(Figure(way, "R@1", v, primary=True, where=way) for way, v in shares.items()), examples=(query,),
        outcomes={"t2a": Outcomes("ranks", pack(ranks), captions="2 2 2 2 2 2"),
                  "a2t": Outcomes("ranks", "1 1 1 2 3 4")},
        name="caps", kind="retrieval", clips_sha256="c",
    )  # fmt: skip
    checkpoint = {"name": model, "sha256": model * 3}
    return ResultFile(
        "all.yaml", checkpoint, f"clara eval all --model {model}", 2, (emotion, few, found), date="2026-01-01"
    )


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "all.one.json", tmp_path / "all.two.json"]
    for path, model, right in zip(paths, ("model-one", "model-two"), (0.5, 0.9)):
        write_json(path, results_of(model, right))
    rng, kept = np.random.default_rng(0), tmp_path / "all.one.emodb.npz"
    np.savez(kept, vectors=rng.random((40, 8)), labels=np.array(LABELS * 13 + ["joy"]))
    data = read_results(paths[0])
    emodb = replace(data.results[0], embeddings={"file": kept.name, "sha256": sha256_of(kept)})
    write_json(paths[0], replace(data, results=(emodb, *data.results[1:])))
    return paths


def test_differences_are_paired_and_of_the_same_clips_only() -> None:
    one, two = (results_of(m, r) for m, r in (("one", 0.5), ("two", 0.9)))
    found = {(d.evaluation, d.what): d for d in differences([one, two], ["one", "two"], samples=200)}
    assert set(found) == {
        ("all / emodb", "en plain"), ("all / emodb", "de plain"), ("all / few", "probe"),
        ("all / caps", "t2a"), ("all / caps", "a2t"),
    }  # fmt: skip

    def gain(result: int, where: str, metric: str) -> float:
        return two.results[result].value(where, metric) - one.results[result].value(where, metric)

    emotion = found["all / emodb", "en plain"]
    assert emotion.metric == "UAR" and emotion.clips == 90
    assert emotion.difference == pytest.approx(gain(0, "en/plain", "uar"))
    assert 0 < emotion.low < emotion.difference < emotion.high and emotion.p < 0.05
    assert found["all / few", "probe"].difference == pytest.approx(gain(1, "probe", "accuracy"))
    t2a = found["all / caps", "t2a"]
    assert t2a.difference == pytest.approx(gain(2, "t2a", "R@1")) and t2a.clips == 6
    assert found["all / caps", "a2t"].difference == 0 and found["all / caps", "a2t"].p == 1
    emodb, few, caps = two.results
    other = replace(two, results=(replace(emodb, clips_sha256="x"), replace(few, config={"shots": 5}), caps))
    assert {d.evaluation for d in differences([one, other], ["one", "two"], samples=20)} == {"all / caps"}


def test_the_page_is_whole_and_needs_nothing_else(two: list[Path], tmp_path: Path) -> None:
    page = write_report(two, tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://(?!www\.w3\.org/)|<script|<link|<img", page)
    root = ElementTree.fromstring(re.sub(r'<!doctype html>\n|<meta charset="utf-8">', "", page))
    headings = [e.text for e in root.iter() if e.tag in ("h1", "h2", "h3")]
    assert headings[:3] == ["Evaluation report", "Differences between models", "all: emodb"]
    assert sum(h.startswith("Confusions: ") for h in headings) == 2
    assert [h for h in headings if h.startswith("Map")] == ["Map of embeddings: model-one"]
    assert sum(h.startswith("Captions and what they find") for h in headings) == 2
    svg = "{http://www.w3.org/2000/svg}"
    assert len(list(root.iter(f"{svg}svg"))) == 3
    cells = [e.text for e in root.iter("td")]
    uar = read_results(two[1]).results[0].figure("en/plain", "uar")
    assert "{:.3f} [{:.3f}, {:.3f}]".format(uar.value, *uar.interval) in cells
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


def test_a_lone_result_of_a_card_is_reported_too(two: list[Path], tmp_path: Path) -> None:
    data = read_results(two[0])
    short = [replace(r, clips_sha256="", speed={}, contamination={}, examples=(), outcomes={}) for r in data.results]
    write_json(tmp_path / "short.json", replace(data, results=tuple(short)))
    text = write_report([tmp_path / "short.json"], tmp_path / "short.md").read_text(encoding="utf-8")
    assert "Differences" not in text and "Speed" not in text and "## all: caps" in text


def test_an_evaluation_given_twice_is_shown_once(two: list[Path], tmp_path: Path) -> None:
    """The same weights and settings again, a day later and with one evaluation less; then with other settings."""
    data = read_results(two[0])
    newer, other = tmp_path / "newer.json", tmp_path / "other.json"
    write_json(newer, replace(data, date="2026-01-02", results=data.results[:2], overrides=("workers=4",)))
    lines: list[str] = []
    text = write_report([two[0], newer, two[0]], tmp_path / "r.md", log=lines.append).read_text(encoding="utf-8")
    assert lines == [f"{two[0]}: emodb, few left out, {newer} is newer"]
    assert text.count("| model-one | en plain |") == 1 and "## all: caps" in text and "Differences" not in text
    assert text.count("| model-one | model-one") == 2  # two files are still read
    write_json(other, replace(data, overrides=("evaluations.emodb.templates=[x]",)))
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


def test_drawings(tmp_path: Path) -> None:
    root = ElementTree.fromstring(svg(confusion(np.array([[3, 1], [0, 2]]), ["a", "<b>"])))
    texts = [e.text.strip() for e in root.iter("{http://www.w3.org/2000/svg}text") if e.text]
    assert texts.count("<b>") == 2 and {"3", "1", "2"} <= set(texts)
    names = [f"n{i}" for i in range(30)]
    legend = svg(embedding_map(np.random.default_rng(0).random((60, 2)), names * 2))
    assert all(f">{name}<" in legend for name in names)
    data = results_of("one", 0.5)
    draw_confusions(tmp_path, "all.one", data.results[0])
    assert {p.name for p in tmp_path.iterdir()} == {"all.one.emodb.en.png", "all.one.emodb.de.png"}
