"""What the README, docs/ and its notebooks show works as it stands: every `python` and `sh` block and every cell is
run, on a tiny checkpoint."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import soundfile as sf
from tiny import save_tiny
from typer.testing import CliRunner

from clara import cli
from clara.apps.synth import RATE, clips
from clara.config import recipe_path
from clara.text.prompts import languages
from clara.zoo import catalog

ROOT = Path(__file__).parents[1]
TEXTS = {p: p.read_text(encoding="utf-8") for p in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
BLOCKS = [
    (page.relative_to(ROOT).as_posix(), kind, body)
    for page, text in TEXTS.items()
    for kind, body in re.findall(r"^```(\w+)\n(.*?)^```", text, flags=re.S | re.M)
]
PYTHON = [(page, body) for page, kind, body in BLOCKS if kind == "python"]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
SHELL = [(page, line) for page, kind, body in BLOCKS if kind == "sh" for line in body.splitlines()]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `make demo` leaves it, and tiny checkpoints under the names of the released ones."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("clara-base.v1", "clara-small.base"):
        save_tiny(folder / "checkpoints" / name)
    (folder / "demo_out").mkdir()
    for clip in clips():
        sf.write(folder / "demo_out" / f"{clip.name.replace(' ', '-')}.wav", clip.wave, RATE)
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, which is the working directory."""
    monkeypatch.setattr(catalog, "CHECKPOINT_FOLDER", made / "checkpoints")
    shutil.copytree(made / "demo_out", tmp_path / "demo_out")
    shutil.copy(made / "demo_out" / "knocks.wav", tmp_path / "recording.wav")  # the reader's own
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("page", "code"), PYTHON, ids=[f"{page}-{i}" for i, (page, _) in enumerate(PYTHON)])
def test_python_blocks_run(place: Path, page: str, code: str) -> None:
    exec(compile(code, page, "exec"), {})


def shown_by(cell: str, names: dict[str, Any]) -> Any:
    """Run a cell of a notebook; the value of its last expression, which a notebook shows, or None."""
    *body, last = ast.parse(cell).body
    value = ast.Expression(last.value) if isinstance(last, ast.Expr) else None
    exec(compile(ast.Module(body if value else [*body, last], []), "cell", "exec"), names)
    return eval(compile(value, "cell", "eval"), names) if value else None


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_run(place: Path, notebook: Path) -> None:
    if "espeak" in notebook.read_text(encoding="utf-8"):
        pytest.importorskip("espeakng_loader")
    names: dict[str, Any] = {}
    players = 0
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None), "outputs are not stored"
            shown = shown_by("".join(cell["source"]), names)
            players += hasattr(shown, "_repr_html_") and shown._repr_html_().count("<audio")
    assert players, "nothing is shown with a player"


def test_shell_lines_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clara.apps.demo.run", lambda files, out, model: None)  # test_demo.py runs it
    assert {"README.md", "docs/use.md"} <= {page for page, _ in SHELL}
    for page, line in SHELL:
        name, *arguments = shlex.split(line)
        result = CliRunner().invoke(cli.app, arguments)
        assert name == "clara" and result.exit_code == 0, f"{page}: {line}: {result.output} {result.exception}"


@pytest.mark.parametrize("page", TEXTS, ids=lambda p: p.name)
def test_other_lines_name_what_exists(page: Path) -> None:
    text = TEXTS[page]
    verbs = set(re.findall(r"^clara ([\w-]+)", "".join(re.findall(r"^```\w+\n(.*?)^```", text, re.S | re.M)), re.M))
    known = {c.name or c.callback.__name__ for c in cli.app.registered_commands}
    assert verbs <= known
    for kind in ("train", "eval"):
        for recipe in re.findall(rf"^clara {kind} (\S+)", text, flags=re.M):
            assert recipe_path(kind, recipe).is_file()
    for link in re.findall(r"\]\(([^)#]+)\)", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)):
        assert (page.parent / link).exists(), link
    assert set(re.findall(r"(\d+) languages", text)) <= {str(len(languages()))}
    for extra in re.findall(r"`?\[(\w+)\]['`]", text):
        assert re.search(rf"^{extra} = ", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), flags=re.M), extra
