"""A recipe or an architecture as commented YAML: every setting with its value and the docstring of its field."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import textwrap
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from clara.audio.features import FRONT_ENDS
from clara.config import ModelConfig, Registry, Spec, load_yaml, to_dict
from clara.eval.leave_one_out import LeaveOneOutConfig
from clara.eval.runner import KINDS, Recipe
from clara.heads import HEADS
from clara.text.tokenizer import TOKENIZERS
from clara.towers.base import AUDIO_TOWERS, TEXT_TOWERS
from clara.train.align import AlignConfig
from clara.train.recipe import TrainConfig

# a key that only files of this kind have -> the dataclass that they are built into
FILES: dict[str, type] = {
    "front_end": ModelConfig,
    "evaluations": Recipe,
    "corpora": LeaveOneOutConfig,
    "data": TrainConfig,
    "model": AlignConfig,
}
PARTS: dict[str, Registry] = {
    "front_end": FRONT_ENDS,
    "audio": AUDIO_TOWERS,
    "text": TEXT_TOWERS,
    "tokenizer": TOKENIZERS,
    "audio_head": HEADS,
    "text_head": HEADS,
}


def commented(path: Path) -> str:
    """The YAML file `path`, a recipe of any kind or an architecture, with all defaults filled in and above each key
    what it means. ClaraError for a file that cannot be read."""
    data = load_yaml(path)
    cls = next((c for key, c in FILES.items() if key in data), TrainConfig)
    return "\n".join([f"# {path.name}: {cls.__name__}", *_lines(cls, data)])


def field_docs(cls: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, by the field's name."""
    body = typing.cast(ast.ClassDef, ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]).body
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    }


def _lines(cls: type, data: Mapping[str, Any]) -> Iterator[str]:
    docs, hints = field_docs(cls), typing.get_type_hints(cls)
    fields = dataclasses.fields(typing.cast(Any, cls))
    for name in [*data, *(f.name for f in fields if f.name not in data)]:
        yield from (f"# {line}" for line in docs.get(name, "").splitlines())
        value = data[name] if name in data else next(_default(f) for f in fields if f.name == name)
        if value is dataclasses.MISSING:
            yield f"# {name}: required, set it here or with --set"
        else:
            yield from _setting(name, to_dict(value), hints.get(name))


def _setting(name: str, value: Any, hint: Any) -> Iterator[str]:
    """One key and its value; what is configured by a dataclass of its own is written out below it."""
    inner = next((t for t in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(t) and t is not Spec), None)
    if isinstance(value, Mapping) and inner is not None and typing.get_origin(hint) is not dict:
        yield f"{name}:"
        yield from _indented(_lines(typing.cast(type, inner), value))
    elif isinstance(value, Mapping) and value and inner is not None:  # one of them for each key
        yield f"{name}:"
        for key, each in value.items():
            yield f"  {key}:"
            yield from _indented(_indented(_lines(typing.cast(type, inner), each)))
    elif hint is Spec:
        yield f"{name}:"
        yield from _indented(_member(PARTS[name].get(value["kind"])[1], value))
    elif name == "evaluations":
        yield f"{name}:"
        for key, spec in value.items():
            yield f"  {key}:"
            yield from _indented(_indented(_member(KINDS[spec["kind"]][0], spec)))
    else:
        block = isinstance(value, Mapping) and len(value) > 0
        options: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "width": 110 if block else 10**6}
        text = yaml.safe_dump({name: value} if block else value, default_flow_style=not block, **options)
        lines = text.removesuffix("...\n").rstrip("\n").split("\n")
        yield from lines if block else [f"{name}: {lines[0]}"]


def _member(cls: type, spec: Mapping[str, Any]) -> Iterator[str]:
    yield f"kind: {spec['kind']}"
    yield from _lines(cls, {k: v for k, v in spec.items() if k != "kind"})


def _default(field: dataclasses.Field) -> Any:
    return field.default_factory() if callable(field.default_factory) else field.default


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)
