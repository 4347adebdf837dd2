"""The house keeps its rules: imports point down, files and functions stay short, `import clara` stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "clara"
FILES = sorted(p for p in PACKAGE.rglob("*.py") if "_recipes" not in p.parts)
FLOORS = {
    "errors": 0,
    "config": 0,
    "deferred": 0,
    "hub": 0,
    "saving": 0,
    "parsing": 0,
    "results": 1,
    "layers": 1,
    "heads": 1,
    "audio": 1,
    "text": 1,
    "towers": 2,
    "model": 3,
    "data": 4,
    "zoo": 4,
    "train": 5,
    "report": 5,
    "eval": 6,
    "apps": 6,
    "integrations": 6,
    "cli": 7,
    "__main__": 7,
}
FREE = {"losses", "metrics", "calibration"}
# module names that occur twice, and why they still do
TWICE = {
    "acoustics": "data/acoustics.py annotates what audio/acoustics.py measures; it moves to a room for annotations",
    "anchors": "train/anchors.py trains towers/anchors.py; it is merged into the training loop",
}
MAX_FILE, MAX_TOWER_FILE, MAX_FUNCTION, MAX_ARGUMENTS = 400, 600, 60, 6


def room(path: Path) -> str:
    """The first part of a file's place in the package: 'audio' for audio/features.py, 'model' for model.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def clara_imports(tree: ast.AST) -> set[str]:
    """The rooms a module imports, wherever in it the import stands; imports for type checking only do not count."""
    skipped = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in ast.walk(block)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, "relative imports hide the floor"
            names = [f"{node.module}.{a.name}" for a in node.names]
        else:
            continue
        found |= {n.split(".")[1] for n in names if n.startswith("clara.")}
    return found & (FLOORS.keys() | FREE)


def faults_of(room_name: str, imported: set[str]) -> list[str]:
    """Imports that point up, or that a free room may not have."""
    if room_name in FREE:
        return sorted(imported - {"errors", room_name})
    return sorted(i for i in imported - FREE if FLOORS[i] > FLOORS[room_name])


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_file_keeps_the_rules(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    if room(path) != "__init__":
        assert room(path) in FLOORS.keys() | FREE, f"{room(path)} has no floor"
        assert not faults_of(room(path), clara_imports(tree)), "imports point up"
    limit = MAX_TOWER_FILE if room(path) == "towers" else MAX_FILE
    assert len(source.splitlines()) <= limit
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            check_function(node)
    public = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and not n.name.startswith("_")]
    assert [n.name for n in public if not ast.get_docstring(n)] == [], "public names without a docstring"
    assert ast.get_docstring(tree) or not tree.body, "a module begins by saying what it is"


@pytest.mark.parametrize("path", sorted(Path(__file__).parent.rglob("*.py")), ids=lambda p: p.name)
def test_files_of_tests_are_as_short(path: Path) -> None:
    limit = MAX_TOWER_FILE if path.stem == "test_towers" else MAX_FILE
    assert len(path.read_text(encoding="utf-8").splitlines()) <= limit


def check_function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    first = node.decorator_list[0].lineno if node.decorator_list else node.lineno
    assert node.end_lineno - first + 1 <= MAX_FUNCTION, f"{node.name} has too many lines"
    if any("command" in ast.unparse(d) for d in node.decorator_list):
        return  # the options of a command line verb are its arguments: a function for a shell, not for Python
    names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    if not node.name.startswith("_") or node.name == "__init__":
        assert len([n for n in names if n not in ("self", "cls")]) <= MAX_ARGUMENTS, (
            f"{node.name} has too many arguments"
        )


def test_module_names_are_unique() -> None:
    """A name in a traceback, a search or a tab of an editor means one file."""
    names = Counter(path.stem for path in FILES if not path.stem.startswith("__"))
    assert {name for name, count in names.items() if count > 1} == TWICE.keys()


def test_the_floor_check_sees_faults() -> None:
    assert clara_imports(ast.parse("def f():\n    from clara.zoo.factory import load")) == {"zoo"}
    assert clara_imports(ast.parse("from clara import cli")) == {"cli"}
    assert clara_imports(ast.parse("if TYPE_CHECKING:\n    from clara.cli import main")) == set()
    assert faults_of("towers", {"zoo", "layers", "losses"}) == ["zoo"]
    assert faults_of("losses", {"errors", "config"}) == ["config"]


@pytest.mark.parametrize(
    "code",
    [
        "import clara",
        "import clara; assert clara.list_models(); clara.list_pretrained()",
        "import clara.config, clara.data.manifest",
    ],
)
def test_light_names_do_not_import_torch(code: str) -> None:
    heavy = "[m for m in ('torch', 'transformers', 'numpy.fft', 'scipy') if m in sys.modules]"
    run = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint({heavy})"], capture_output=True, text=True, timeout=900
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"


def test_every_public_name_exists_and_type_checkers_see_it() -> None:
    import clara

    for name in clara.__all__:
        assert getattr(clara, name).__module__ == clara._HOMES[name]
    seen = {}
    for node in ast.walk(ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("clara."):
            seen |= {a.name: node.module for a in node.names if a.asname == a.name}  # `as` itself: a public name
    assert seen == clara._HOMES
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        clara.nothing  # noqa: B018


def test_one_version() -> None:
    import clara

    log = (PACKAGE.parent / "CHANGELOG.md").read_text(encoding="utf-8")
    assert log.split("## ")[1].split()[0] == clara.__version__
