"""Strict configuration: what is unknown, missing or of the wrong type is an error that names its place."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from clara.config import ModelConfig, Registry, Spec, arch_config, arch_names, build, load_yaml, override, to_dict
from clara.errors import ClaraError, require, unknown


@dataclass(frozen=True)
class Inner:
    rate: float
    name: str = "x"


@dataclass(frozen=True)
class Outer:
    count: int
    inner: Inner
    pair: tuple[int, int] = (1, 2)
    many: tuple[float, ...] = ()
    maybe: int | None = None
    table: dict[str, float] = dataclasses.field(default_factory=dict)
    flag: bool = False
    part: Spec = Spec("a")


GOOD = {"count": 3, "inner": {"rate": 0.5}}


def test_build_nested() -> None:
    got = build(Outer, {**GOOD, "pair": [3, 4], "many": [1, 2.5], "table": {"a": 1}, "part": {"kind": "b", "w": 3}})
    assert got == Outer(3, Inner(0.5), (3, 4), (1.0, 2.5), None, {"a": 1.0}, False, Spec("b", {"w": 3}))
    assert isinstance(got.many[0], float)
    assert build(Outer, {**GOOD, "maybe": None}).maybe is None
    assert build(Outer, to_dict(got)) == got


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cuont": 3}, "Unknown key in recipe 'cuont'. Did you mean 'count'"),
        ({"count": "3"}, "recipe.count: got '3' (str), expected int"),
        ({"count": 1.5}, "recipe.count: got 1.5 (float), expected int"),
        ({"count": True}, "recipe.count: got True (bool), expected int"),
        ({"flag": 1}, "recipe.flag: got 1 (int), expected bool"),
        ({"inner": {"rate": "1e-4"}}, "YAML reads 1e-4 as text: write 1.0e-4"),
        ({"inner": {}}, "recipe.inner: key 'rate' is missing (expected float)"),
        ({"inner": {"rate": 1.0, "naem": "y"}}, "Unknown key in recipe.inner 'naem'. Did you mean 'name'"),
        ({"inner": 3}, "recipe.inner: got 3, expected a mapping for Inner"),
        ({"pair": [1, 2, 3]}, "recipe.pair: got 3 values"),
        ({"pair": [1, "b"]}, "recipe.pair[1]: got 'b'"),
        ({"many": 3.0}, "recipe.many: got 3.0"),
        ({"many": [1.0, "b"]}, "recipe.many[1]: got 'b'"),
        ({"maybe": "b"}, "recipe.maybe: got 'b'"),
        ({"table": {"k": "v"}}, "recipe.table.k: got 'v'"),
        ({"part": {"width": 3}}, "recipe.part: key 'kind' is missing"),
    ],
)
def test_build_refuses(change: dict, message: str) -> None:
    with pytest.raises(ClaraError) as error:
        build(Outer, {**GOOD, **change}, where="recipe")
    assert message in str(error.value)


def test_build_refuses_what_is_no_mapping_or_lacks_a_key() -> None:
    with pytest.raises(ClaraError, match="expected a mapping for Outer"):
        build(Outer, [1])
    with pytest.raises(ClaraError, match="key 'count' is missing"):
        build(Outer, {"inner": {"rate": 1.0}})


def test_yaml_1e_4_is_an_error_with_its_remedy() -> None:
    with pytest.raises(ClaraError, match=r"write 1\.0e-4"):
        build(Inner, yaml.safe_load("rate: 1e-4"))
    assert build(Inner, yaml.safe_load("rate: 1.0e-4")).rate == 1e-4


def test_override_sets_what_exists_and_leaves_the_original() -> None:
    data = {"a": {"b": 1, "c": [1, 2]}, "d": None}
    assert override(data, ["a.b=2.5", "d=[x, y]"]) == {"a": {"b": 2.5, "c": [1, 2]}, "d": ["x", "y"]}
    assert data == {"a": {"b": 1, "c": [1, 2]}, "d": None}


@pytest.mark.parametrize("setting", ["a.bb=1", "x=1", "a.b.c=1", "a.b", "z.b=1", "a.b=[1"])
def test_override_refuses_what_does_not_exist(setting: str) -> None:
    with pytest.raises(ClaraError, match="--set"):
        override({"a": {"b": 1}}, [setting])


def test_load_yaml(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: {b: ü}", encoding="utf-8")
    assert load_yaml(path) == {"a": {"b": "ü"}}
    for text in ("a: [1,", "- 1\n- 2", "", "a: \tb: c: d"):
        path.write_text(text)
        with pytest.raises(ClaraError, match=r"a\.yaml"):
            load_yaml(path)
    path.write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(ClaraError, match="not valid YAML"):
        load_yaml(path)
    with pytest.raises(ClaraError, match="No such file"):
        load_yaml(tmp_path / "b.yaml")


def test_registry() -> None:
    registry: Registry = Registry("gadget")

    @registry.register("one", Inner)
    class One:
        def __init__(self, config: Inner, extra: int = 0) -> None:
            self.config, self.extra = config, extra

    assert registry.names() == ["one"]
    made = registry.create(Spec("one", {"rate": 2}), 5)
    assert (made.config, made.extra) == (Inner(2.0), 5)
    with pytest.raises(ClaraError, match=r"Unknown gadget 'onee'\. Did you mean 'one'"):
        registry.get("onee")
    with pytest.raises(ClaraError, match=r"gadget 'one'.*'rat'.*Did you mean 'rate'"):
        registry.create(Spec("one", {"rat": 2}))
    with pytest.raises(ClaraError, match="registered twice"):
        registry.register("one", Inner)(One)


@pytest.mark.parametrize("name", arch_names())
def test_every_architecture_builds_and_comes_back(name: str) -> None:
    config = arch_config(name)
    assert isinstance(config, ModelConfig)
    assert build(ModelConfig, yaml.safe_load(yaml.safe_dump(to_dict(config)))) == config


def test_unknown_architecture_names_the_nearest() -> None:
    with pytest.raises(ClaraError, match=r"Unknown architecture 'clara-smal'\. Did you mean 'clara-small'"):
        arch_config("clara-smal")


def test_errors_say_what_is_known_and_which_extra() -> None:
    assert str(unknown("fruit", "aple", ["apple", "fig"])) == (
        "Unknown fruit 'aple'. Did you mean 'apple'? Known: apple, fig."
    )
    assert str(unknown("fruit", "x", [])).endswith("Known: (none).")
    assert "Did you mean 'eng_Latn'?" in str(unknown("code", "eng", ["deu_Latn", "eng_Latn"]))
    assert "Did you mean" not in str(unknown("code", "xx", ["xxa_Latn"]))
    assert require("json", "none").dumps([1]) == "[1]"
    with pytest.raises(ClaraError, match=r"pip install 'clara\[demo\]'"):
        require("no_such_module", "demo")
