"""No number without a result: the figures of our cards are those of the files that clara eval wrote."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tiny import save_tiny

from clara.errors import ClaraError
from clara.report import cards
from clara.report.tables import LANGUAGES, card_sections, write_sections
from clara.results import Figure, Outcomes, Result, ResultFile, read_results, write_json
from clara.zoo import catalog
from clara.zoo.factory import load_checkpoint

CARDS = Path(__file__).parents[1] / "model_cards"
OWN = [n for n in catalog.list_pretrained() if catalog.checkpoint(n).source == "package"]
NAME = "clara-small.tiny"


def figures(where: str, primary: str, accuracy: float, uar: float = 0.25, chance: float | None = None) -> list[Figure]:
    ends = {"accuracy": (accuracy, (accuracy - 0.1, accuracy + 0.1)), "uar": (uar, (0.1, 0.9))}
    return [
        Figure(where.replace("/", " "), m, v, interval, chance, m == primary, where)
        for m, (v, interval) in ends.items()
    ]


def result_file(path: Path, sha256: str, recipe: str = "sounds.yaml", overrides: tuple = (), **changes: float) -> Path:
    codes = {code: changes.get(code, 0.5) for code in ("en", "de", "fr", "it", "pl", "lt")}
    found = []
    for code, accuracy in codes.items():
        for kind in ("plain", "calibrated"):
            found += figures(f"{code}/{kind}", "accuracy" if code == "en" else "", accuracy, chance=0.02)
    for where, accuracy, share in (("other_languages", 0.4, 0.8), ("far_languages", 0.35, 0.7)):
        found += figures(where, "accuracy", accuracy, chance=0.02)
        found.append(Figure(where, "accuracy of English", share, where=where))
    found += figures("worst_language", "accuracy", codes["fr"], chance=0.02)
    members = {"other_languages": tuple(codes)[1:], "far_languages": ("fr", "lt"), "worst_language": ("fr",)}
    zero = Result(
        8, tuple(found), dict.fromkeys(map(str, range(50)), 1), tuple(codes), members,
        {"en/plain": Outcomes("classes", "0 1 2")}, {"en": {"0": ["a"]}}, name="esc", kind="zero_shot",
        config={"task": "sound", "data": {"folder": "/home/me/esc"}, "far": "../train/text.yaml"},
    )  # fmt: skip
    few = Result(8, tuple(figures("probe", "uar", 0.75)), {"a": 4, "b": 4}, name="few", kind="probe",
                 config={"task": "emotion", "test": {"folder": "emo"}})  # fmt: skip
    t2a = Figure("t2a", "R@1", 0.25, (0.1, 0.3), 0.25, True, "t2a")
    a2t = Figure("a2t", "R@1", 0.125, None, 0.25, True, "a2t")
    data = ResultFile(
        recipe, {"name": "dir:/home/me/run", "sha256": sha256},
        "clara eval /home/me/sounds.yaml --model dir:/home/me/run --data /home/me/data", 2,
        (zero, few, Result(4, (t2a, a2t), name="caps", kind="retrieval")), tuple(overrides),
    )  # fmt: skip
    write_json(path, data)
    return path


@pytest.fixture
def sha256(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A card with figures of no file, beside the tiny checkpoint it is of."""
    (tmp_path / "cards").mkdir()
    monkeypatch.setattr(catalog, "CARDS", tmp_path / "cards")
    monkeypatch.setattr(catalog, "CHECKPOINT_FOLDER", tmp_path / "checkpoints")
    catalog.card.cache_clear()
    text = (CARDS / f"{OWN[0]}.md").read_text(encoding="utf-8")
    (tmp_path / "cards" / f"{NAME}.md").write_text(text.replace(OWN[0], NAME), encoding="utf-8")
    yield load_checkpoint(save_tiny(tmp_path / "checkpoints" / NAME)).sha256
    catalog.card.cache_clear()


def card_text(tmp_path: Path) -> str:
    text = (tmp_path / "cards" / f"{NAME}.md").read_text(encoding="utf-8")
    assert text == (tmp_path / "checkpoints" / NAME / "README.md").read_text(encoding="utf-8")
    return text


def test_a_card_is_filled_from_results(sha256: str, tmp_path: Path) -> None:
    log: list[str] = []
    figures = cards.fill_card(
        NAME, [result_file(tmp_path / "r.json", sha256, fr=0.0625, overrides=["seed=1", "workers=8"])], log=log.append
    )
    values = {f["result"]: f for f in figures}
    assert len(log) > 10 and all(line.startswith("no longer stated: ") for line in log)
    assert {k: f["value"] for k, f in values.items()} == {
        "sounds/esc/en/plain/accuracy": 0.5,
        "sounds/esc/en/calibrated/accuracy": 0.5,
        "sounds/esc/other_languages/accuracy": 0.4,
        "sounds/esc/worst_language/accuracy": 0.062,
        "sounds/esc/far_languages/accuracy": 0.35,
        "sounds/caps/t2a/R@1": 0.25,
        "sounds/caps/a2t/R@1": 0.125,
    }
    assert values["sounds/esc/worst_language/accuracy"]["metric"] == "accuracy (fr)"
    assert [f["chance"] for f in figures] == ["0.020"] * 5 + ["0.250"] * 2
    assert values["sounds/caps/t2a/R@1"]["interval"] == "[0.100, 0.300]"
    assert values["sounds/caps/a2t/R@1"]["interval"] == "not computed"
    text = card_text(tmp_path)
    assert "| caps, t2a | R@1 | 0.250 | [0.100, 0.300] | 0.250 | not stated |" in text
    assert "\n## Languages\n" in text and "| French (far) | fr | 0.062 |" in text
    assert "| mean of all others | 5 | 0.400 [0.300, 0.500] |" in text and "share of English | 2 | 70 % |" in text
    assert "(`text.yaml`)" in text
    assert "| emo, 2 classes | UAR | not stated | probe | 0.250 [0.100, 0.900] |" in text
    assert (
        text.index("## Figures") < text.index("## Languages") < text.index("## Few labelled") < text.index("## Speed")
    )
    assert "EMO-DB, German prompts" not in text and "## Limits" in text
    assert catalog.checkpoint(NAME).sha256 == sha256
    assert catalog.checkpoint(NAME).figures[0]["command"] == (
        f"clara eval sounds.yaml --model {NAME} --data DATA --set seed=1"
    )
    kept = (tmp_path / "cards" / "results" / NAME / "sounds.json").read_text()
    assert "outcomes" not in kept and "prompts" not in kept and "/home" not in kept and len(kept) < 6000


def test_wording_and_choice_of_a_card_are_kept_and_values_renewed(sha256: str, tmp_path: Path) -> None:
    cards.fill_card(NAME, [result_file(tmp_path / "r.json", sha256)], log=lambda line: None)
    path = tmp_path / "cards" / f"{NAME}.md"
    _, head, body = path.read_text(encoding="utf-8").split("---\n", 2)
    data = yaml.safe_load(head)
    chosen = [f for f in data["figures"] if f["result"].endswith(("other_languages/accuracy", "a2t/R@1"))]
    chosen[0] |= {"what": "ESC-50, the others", "training": "other fold"}
    path.write_text(f"---\n{yaml.safe_dump(data | {'figures': chosen})}---\n{body}", encoding="utf-8")
    figures = cards.fill_card(NAME, [result_file(tmp_path / "r.json", sha256, en=0.25)], log=lambda line: None)
    assert [(f["what"], f["training"]) for f in figures if "/esc/" in f["result"]] == [
        ("ESC-50, the others", "other fold")
    ]
    assert [f["result"].split("/")[1] for f in figures] == ["esc", "caps"]  # few has a table of its own
    everything = cards.fill_card(NAME, [], every=True, log=lambda line: None)
    assert len(everything) == 8 and everything[0]["what"] == "ESC-50, the others"
    assert {f["training"] for f in everything if "/esc/" in f["result"]} == {"other fold"}
    assert everything[0]["training"] == "other fold"
    again = card_text(tmp_path)
    assert cards.fill_card(NAME, [], log=lambda line: None) == everything and card_text(tmp_path) == again


def test_what_training_saw_is_said_and_not_stated_unless_chosen(sha256: str, tmp_path: Path) -> None:
    path = result_file(tmp_path / "r.json", sha256)
    data = read_results(path)
    stated = zip(data.results, ("seen", "seen", "same-source"))
    write_json(path, replace(data, results=tuple(replace(r, contamination={"status": s}) for r, s in stated)))
    figures = cards.fill_card(NAME, [path], log=lambda line: None)
    found = {f["result"].split("/")[1]: f["training"] for f in figures}
    assert found == {"caps": "same-source"}
    assert "| emo, 2 classes | UAR | seen |" in card_text(tmp_path)
    every = cards.fill_card(NAME, [], every=True, log=lambda line: None)
    assert {f["training"] for f in every if "/esc/" in f["result"]} == {"seen"}
    assert cards.fill_card(NAME, [], log=lambda line: None) == every  # now they are chosen, and stay


def test_results_of_other_weights_are_refused_and_old_ones_removed(sha256: str, tmp_path: Path) -> None:
    with pytest.raises(ClaraError, match=r"is of weights 000000000000…, clara-small.tiny has"):
        cards.fill_card(NAME, [result_file(tmp_path / "r.json", "0" * 64)])
    kept = tmp_path / "cards" / "results" / NAME
    assert not kept.exists()
    cards.fill_card(NAME, [result_file(tmp_path / "r.json", sha256)], log=lambda line: None)
    result_file(kept / "old.json", "0" * 64)
    log: list[str] = []
    cards.fill_card(NAME, [], log=log.append)
    assert log == ["removed old.json: other weights"] and not (kept / "old.json").exists()


def test_what_is_no_result_is_refused(sha256: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(ClaraError, match="is not a result file"):
        cards.fill_card(NAME, [tmp_path / "a.json"])
    with pytest.raises(ClaraError, match="cannot be read"):
        cards.fill_card(NAME, [tmp_path / "no.json"])
    twice = [result_file(tmp_path / f"{i}.json", sha256) for i in (1, 2)]
    with pytest.raises(ClaraError, match="Two of the files"):
        cards.fill_card(NAME, twice)
    with pytest.raises(ClaraError, match="Unknown checkpoint"):
        cards.fill_card("clara-smal.tiny", [])


def test_sections_are_renewed_removed_and_what_is_between_them_stays(sha256: str, tmp_path: Path) -> None:
    cards.fill_card(NAME, [result_file(tmp_path / "r.json", sha256)], log=lambda line: None)
    before = card_text(tmp_path)
    cards.fill_card(NAME, [result_file(tmp_path / "r.json", sha256, lt=0.125)], log=lambda line: None)
    after = card_text(tmp_path)
    assert after != before and after == before.replace("| lt | 0.500 |", "| lt | 0.125 |")
    for file in (tmp_path / "cards" / "results" / NAME).glob("*.json"):
        file.unlink()
    cards.fill_card(NAME, [], log=lambda line: None)
    text = card_text(tmp_path)
    assert "## Languages" not in text and "## Few labelled" not in text and "## Speed" in text and "## Limits" in text


def test_recipes_made_for_a_table_fill_it_alone(sha256: str, tmp_path: Path) -> None:
    path = result_file(tmp_path / "r.json", sha256, recipe="multilingual.yaml")
    assert cards.fill_card(NAME, [path], log=lambda line: None) == []
    assert "| French (far) | fr | 0.500 |" in card_text(tmp_path)


def test_a_trial_is_no_figure(sha256: str, tmp_path: Path) -> None:
    path = result_file(tmp_path / "r.json", sha256)
    data = read_results(path)
    write_json(path, replace(data, results=(*data.results[:2], replace(data.results[2], limit=4))))
    with pytest.raises(ClaraError, match=r"trial on some of the clips \(caps\)"):
        cards.fill_card(NAME, [path])


@pytest.mark.parametrize("name", OWN)
def test_tables_of_a_card_are_those_of_its_results(name: str) -> None:
    files = cards.kept_results(CARDS / "results" / name)
    body = catalog.card(name)[1]
    for heading, text in card_sections(files).items():
        if f"\n{heading}\n" in body:
            assert f"\n{heading}\n\n{text}\n" in body


@pytest.mark.parametrize("name", OWN)
def test_every_figure_of_a_card_has_its_result(name: str) -> None:
    row, folder = catalog.checkpoint(name), CARDS / "results" / name
    assert row.figures
    found = cards.figures_by_place(cards.kept_results(folder))
    for stated in row.figures:
        figure, _, data = found[tuple(stated["result"].split("/", 2))]
        assert stated["value"] == round(figure.value, 3), stated["result"]
        assert data.checkpoint == {"name": name, "sha256": row.sha256}
        assert stated["checkpoint"] == name and stated["command"] == data.command
        assert re.findall(r"[\d.]+", stated["interval"]) == [f"{x:.3f}" for x in figure.interval or ()]
    body = catalog.card(name)[1]
    table = body.split(cards.TABLE_HEAD)[1].split("\n\n")[0].strip().splitlines()[1:]
    assert table == [cards._line(f) for f in row.figures]
    for file in folder.glob("*.json"):
        text = file.read_text(encoding="utf-8")
        assert len(text) < 500_000 and not re.search(r'"/|[ =]/\w+/', text), f"{file.name} is long, or names a folder"


def test_sections_follow_a_last_line_without_an_end() -> None:
    before = "# name\n\n## Figures\nlast"
    once = write_sections(before, {LANGUAGES: "A"})
    assert once == f"{before}\n{LANGUAGES}\n\nA\n\n"
    assert write_sections(once, {LANGUAGES: "A"}) == once and write_sections(once, {LANGUAGES: ""}) == f"{before}\n"
