"""Cards say what the checkpoint is, with nothing left empty and nothing that the files contradict."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from clara.errors import ClaraError
from clara.text.prompts import languages
from clara.zoo import catalog
from clara.zoo.convert import families
from clara.zoo.factory import checkpoint_folder, load_checkpoint

CARDS = Path(__file__).parents[1] / "model_cards"
OWN = [n for n in catalog.list_pretrained() if catalog.checkpoint(n).source == "package"]
FOREIGN = [n for n in catalog.list_pretrained() if n not in OWN]
TASKS = {"emotion", "arousal", "sound", "music", "instrument", "word", "speech", "language", "speaker", "voice",
         "retrieval"}  # fmt: skip
PARITY = {  # the families whose own code was run beside ours, and where
    "transformers": "test_convert.py",
    "laion": "golden/make_laion.py",
    "msclap": "golden/make_msclap.py",
    "wavcaps": "golden/make_wavcaps.py",
    "clara": "golden/make_clara.py",
    "glap": "golden/make_glap.py",
    "paraclap": "golden/make_paraclap.py",
    "m2d": "golden/make_m2d.py",
}
UNCOMPARED = "converter not yet compared"
COMPARED = "output parity on random weights; the published weights were not opened here"
AT_FULL_SIZE = COMPARED.replace(";", ", at the published size too;")  # by the tests marked `peers`
FULL_SIZE = r"htsat-tiny_roberta.*|htsat-base_roberta\.larger-clap-.*|.*\.msclap-.*"
SCORES = "| benchmark | metric | value | protocol | source |"


def front_matter(name: str) -> tuple[dict, str]:
    return catalog.card(name)


@pytest.mark.parametrize("name", catalog.list_pretrained())
def test_a_card_is_complete(name: str) -> None:
    data, body = front_matter(name)
    row = catalog.checkpoint(name)  # strict: an unknown key, a missing one or a wrong type is refused
    assert all(v not in (None, "", [], {}) for v in data.values())
    assert row.name == name and name.startswith(f"{row.architecture}.")
    assert row.terms in catalog.TERMS and set(row.tasks) <= TASKS
    assert row.sample_rate >= 16000 and row.window_seconds > 0 and row.embed_dim > 0 and row.trained_on
    assert all(re.fullmatch(r"[a-z]{2}", code) for code in row.languages)
    assert list(row.languages) == sorted(row.languages) and len({*row.languages}) == len(row.languages)
    assert body.startswith(f"# {name}\n")
    for line in body.splitlines():
        if line.startswith("|"):
            assert all(cell.strip() for cell in line.strip("|").split("|")), line
    assert not re.search(r"TODO|TBD|\?\?\?", (CARDS / f"{name}.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", OWN)
def test_our_card_has_figures_with_commands(name: str) -> None:
    row = catalog.checkpoint(name)
    assert set(row.languages) <= set(languages())
    assert all(t.corpus and t.license and t.clips != "not published" for t in row.trained_on)
    assert row.figures and row.sha256
    for figure in row.figures:
        wanted = ("what", "metric", "value", "checkpoint", "command")
        assert all(figure.get(k) not in (None, "") for k in wanted), figure


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_card_says_where_from_how_compared_and_whose_scores(name: str) -> None:
    row, (_, body) = catalog.checkpoint(name), front_matter(name)
    assert row.revision and row.converter
    if row.source == "file":
        assert row.download and f"--from {row.converter} --to FOLDER" in body and f"\n{row.download}." in body
    else:
        assert re.fullmatch(r"hf:[\w-]+/[\w-]+@[0-9a-f]{40}", row.source), "a hub source is pinned to a commit"
        assert f'clara.load("{name}")' in body
    lines = [line for line in body.splitlines() if line.startswith("|")]
    assert lines[0] == SCORES and len(lines) > 2
    assert all(len(line.strip("|").split(" | ")) == 5 for line in lines[2:])
    compared = row.converter in PARITY and row.converter in families()
    full = re.fullmatch(FULL_SIZE, row.name)
    assert row.verified == (AT_FULL_SIZE if full else COMPARED if compared else UNCOMPARED)
    assert not compared or (Path(__file__).parent / PARITY[row.converter]).is_file()
    assert re.findall(r"^## (.*)", body, re.M) == ["How to get it", "Published scores", "What to know"]


@pytest.mark.parametrize("name", OWN)
def test_a_card_agrees_with_the_files(name: str) -> None:
    data, _ = front_matter(name)
    folder = checkpoint_folder(catalog.parse_name(name))
    loaded = load_checkpoint(folder)
    assert data["sha256"] == loaded.sha256
    assert data["parameters"] == sum(p.numel() for p in loaded.model.parameters())
    assert data["embed_dim"] == loaded.model.config.embed_dim
    assert data["window_seconds"] == loaded.model.front_end.window_seconds
    assert (folder / "README.md").read_text(encoding="utf-8") == (CARDS / f"{name}.md").read_text(encoding="utf-8")


def test_the_checkpoints_of_the_package_fit_a_wheel() -> None:
    """Package indexes refuse files over 100 MB."""
    assert sum(f.stat().st_size for name in OWN for f in catalog.CHECKPOINT_FOLDER.joinpath(name).iterdir()) < 95e6


def test_no_card_without_a_checkpoint() -> None:
    assert {p.stem for p in CARDS.glob("*.md")} == set(catalog.list_pretrained())


def test_a_typing_error_in_a_card_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (CARDS / "dasheng_sonar.glap.md").read_text(encoding="utf-8")
    (tmp_path / "a.b.md").write_text(text.replace("sample_rate:", "sample_rat:"), encoding="utf-8")
    monkeypatch.setattr(catalog, "CARDS", tmp_path)
    with pytest.raises(ClaraError, match=r"model_cards/a\.b\.md 'sample_rat'. Did you mean 'sample_rate'"):
        catalog.checkpoint("a.b")


def test_filters() -> None:
    assert catalog.list_pretrained(licence="none stated", task="emotion") == ["wav2vec2_bert.paraclap"]
    assert catalog.list_pretrained("htsat*", licence="cc0") == [n for n in FOREIGN if ".laion-" in n]
    assert "clara-small.base" in catalog.list_pretrained(language="de", task="emotion")
    assert catalog.list_pretrained(language="German") == catalog.list_pretrained(language="de")
    assert all(catalog.checkpoint(n).terms == "permissive" for n in catalog.list_pretrained(licence="permissive"))
    for wrong in ({"task": "emotoin"}, {"licence": "gratis"}, {"language": "xx"}):
        with pytest.raises(ClaraError, match=f"Unknown {next(iter(wrong))} of a checkpoint"):
            catalog.list_pretrained(**wrong)


def test_what_must_be_fetched_by_hand_says_from_where_and_how() -> None:
    with pytest.raises(ClaraError, match=r"zenodo.org/.*clara convert glap_checkpoint.pt --from glap --to FOLDER"):
        checkpoint_folder(catalog.parse_name("dasheng_sonar.glap"))
    assert catalog.parse_name("dasheng_sonar", "glap") == catalog.parse_name("dasheng_sonar.glap")
