"""What the README shows works as it stands: every `python` and `sh` block is run, on a tiny checkpoint."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

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
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, flags=re.S)


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
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("code", [body for kind, body in BLOCKS if kind == "python"], ids=lambda c: str(len(c)))
def test_python_blocks_run(place: Path, code: str) -> None:
    exec(compile(code, "README.md", "exec"), {})


def test_shell_lines_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clara.apps.demo.run", lambda files, out, model: None)  # test_demo.py runs it
    lines = "".join(body for kind, body in BLOCKS if kind == "sh").splitlines()
    assert len(lines) > 5
    for line in lines:
        name, *arguments = shlex.split(line)
        result = CliRunner().invoke(cli.app, arguments)
        assert name == "clara" and result.exit_code == 0, f"{line}: {result.output} {result.exception}"


def test_other_lines_name_what_exists() -> None:
    verbs = set(re.findall(r"^clara ([\w-]+)", "".join(body for _, body in BLOCKS), flags=re.M))
    known = {c.name or c.callback.__name__ for c in cli.app.registered_commands}
    assert verbs <= known
    for kind in ("train", "eval"):
        for recipe in re.findall(rf"^clara {kind} (\S+)", TEXT, flags=re.M):
            assert recipe_path(kind, recipe).is_file()
    for link in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / link).exists(), link
    for heading in re.findall(r"\]\(#([^)]+)\)", TEXT):
        assert f"\n## {heading.replace('-', ' ')}\n" in TEXT.lower(), heading
    assert set(re.findall(r"(\d+) languages", TEXT)) == {str(len(languages()))}
    for extra in re.findall(r"`\[(\w+)\]`", TEXT):
        assert re.search(rf"^{extra} = ", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), flags=re.M), extra
