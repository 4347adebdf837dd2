"""What other pages than the README show: Python parses and its imports exist, shell lines name verbs, options, recipes
and scripts that exist. tests/test_readme.py runs what the README shows."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from clara.cli import app
from clara.config import recipe_path
from clara.errors import MissingDependency

ROOT = Path(__file__).parents[1]
PAGES = [page for place in ("*.md", "docs/**/*.md", "recipes/**/*.md", "benchmarks/*.md") for page in ROOT.glob(place)]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.M | re.S)
INDENTED = re.compile(r"^    (?:\$ )?((?:clara|python) .*)$", flags=re.M)


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of the code on a page; indented command lines are shell."""
    text = page.read_text(encoding="utf-8")
    return [*FENCED.findall(text), *(("sh", line) for line in INDENTED.findall(FENCED.sub("", text)))]


def faults_of_line(line: str) -> list[str]:
    """What a command line names that does not exist."""
    words = shlex.split(line, comments=True)
    if words[:1] == ["torchrun"] and "clara.cli" in words:
        words = ["clara", *words[words.index("clara.cli") + 1 :]]
    if words[:1] == ["python"] and len(words) > 1 and words[1].endswith(".py"):
        return [] if (ROOT / words[1]).is_file() else [f"no script {words[1]}"]
    return faults_of_verb(words[1:]) if words[:1] == ["clara"] else []


def faults_of_verb(words: list[str]) -> list[str]:
    command: Any = get_command(app)
    name = "clara"
    while getattr(command, "commands", None):
        if not words or words[0].startswith("-"):
            break
        name, command, words = words[0], command.commands.get(words[0]), words[1:]
        if command is None:
            return [f"no verb {name}"]
    known = {spelling for p in command.params for spelling in (*p.opts, *p.secondary_opts)} | {"--help"}
    faults = [f"{name} has no {w}" for w in words if re.match(r"--?[a-z]", w) and w.split("=")[0] not in known]
    if name in ("train", "align", "eval", "leave-one-out") and words and re.fullmatch(r"[a-z][\w-]*", words[0]):
        recipe_path({"eval": "eval", "leave-one-out": "leave_one_out"}.get(name, "train"), words[0])
    return faults


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_code_of_a_page_names_what_exists(page: Path) -> None:
    for language, text in blocks(page):
        if language == "python":
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("clara"):
                    try:
                        module = importlib.import_module(str(node.module))
                    except MissingDependency:  # an extra that is not installed here
                        continue
                    assert [a.name for a in node.names if not hasattr(module, a.name)] == [], node.module
        elif language in ("sh", "bash", "shell", "console"):
            for line in re.sub(r"\\\n\s*", " ", text).splitlines():
                found = re.search(r"(?:^|\s)((?:clara|python|torchrun) .*)", line.split("#")[0])
                assert not found or faults_of_line(found[1]) == [], line


def test_the_check_sees_faults() -> None:
    assert faults_of_line("clara clasify a.wav") == ["no verb clasify"]
    assert faults_of_line("clara classify a.wav --lable a -m x") == ["classify has no --lable"]
    assert faults_of_line("clara captions scenes a b c --count 3") == ["scenes has no --count"]
    assert faults_of_line("python benchmarks/none.py --rounds 2") == ["no script benchmarks/none.py"]
    assert faults_of_line("torchrun --nproc-per-node 2 -m clara.cli train clara-small-dev --sett a=1") == [
        "train has no --sett"
    ]
    assert sum(len(blocks(page)) for page in PAGES) > 40
