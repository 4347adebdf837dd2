"""Every setting says what it means, and `clara config` prints it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from clara import cli
from clara.apps.settings import commented, field_docs
from clara.config import RECIPES, arch_names, build, config_file, load_yaml
from clara.errors import ClaraError
from clara.train.recipe import LossConfig, TrainConfig

PACKAGE = Path(__file__).parents[1] / "clara"
CONFIGS = ("Config", "Spec", "Stage", "Recipe")
RECIPE_FILES = sorted(RECIPES.glob("*/*.yaml"))


def undocumented(source: str) -> list[str]:
    """Fields of config dataclasses that have no one-paragraph docstring under them."""
    missing = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef) or not any("dataclass" in ast.unparse(d) for d in node.decorator_list):
            continue
        if node.name.endswith(CONFIGS) or node.name == "Coarse":
            for field, text in zip(node.body, [*node.body[1:], None]):
                said = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and text.value.value
                if isinstance(field, ast.AnnAssign) and not (
                    isinstance(said, str) and said.strip().endswith((".", "…"))
                ):
                    missing.append(f"{node.name}.{ast.unparse(field.target)}")
    return missing


@pytest.mark.parametrize(
    "path", sorted(p for p in PACKAGE.rglob("*.py") if "_recipes" not in p.parts), ids=lambda p: str(p.name)
)
def test_every_field_of_a_config_has_a_docstring(path: Path) -> None:
    assert undocumented(path.read_text(encoding="utf-8")) == []


def test_a_field_without_a_docstring_is_found() -> None:
    source = (
        '@dataclass(frozen=True)\nclass AConfig:\n    """A."""\n\n    x: int = 1\n    """What."""\n    y: int = 2\n'
    )
    assert undocumented(source) == ["AConfig.y"]
    assert set(field_docs(LossConfig)) == set(LossConfig.__dataclass_fields__)


@pytest.mark.parametrize("path", RECIPE_FILES, ids=lambda p: p.stem)
def test_a_recipe_is_printed_with_its_values_and_all_defaults(path: Path) -> None:
    given, shown = load_yaml(path), yaml.safe_load(commented(path))
    assert contains(shown, given)


@pytest.mark.parametrize("name", [n for n in arch_names() if not n.startswith("test-")])
def test_an_architecture_is_printed_too(name: str) -> None:
    assert contains(yaml.safe_load(commented(config_file(name))), load_yaml(config_file(name)))


def test_the_verb_prints_meaning_and_defaults() -> None:
    result = CliRunner().invoke(cli.app, ["config", "clara-small"])
    assert result.exit_code == 0 and "# Number of mel bands, F.\n  n_mels: 64" in result.output
    text = commented(RECIPES / "train" / "clara-base.yaml")
    assert "# Clips per step over all processes together." in text and "keep:" in text
    assert build(TrainConfig, yaml.safe_load(text)) == build(TrainConfig, load_yaml(RECIPES / "train/clara-base.yaml"))
    with pytest.raises(ClaraError, match="Did you mean 'clara-base'"):
        config_file("clara-bas")


def contains(shown: object, given: object) -> bool:
    """Whether `shown` has all that `given` has, and possibly more keys."""
    if isinstance(given, dict):
        return isinstance(shown, dict) and all(k in shown and contains(shown[k], v) for k, v in given.items())
    return shown == given
