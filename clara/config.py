"""Configuration as typed data: YAML -> frozen dataclasses, strictly. Imports no torch.

An unknown key, a missing key and a wrong type are errors that name the place. PyYAML reads `1e-4` as a string; `build`
says so instead of passing the string on.
"""

from __future__ import annotations

import dataclasses
import importlib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from clara.errors import ClaraError, unknown
from clara.parsing import parse_yaml

T = TypeVar("T")
CONFIGS = Path(__file__).parent / "configs"
RECIPES = Path(__file__).parent / "_recipes"


@dataclass(frozen=True)
class Spec:
    """A choice from a registry."""

    kind: str
    """Name of the registered member."""
    options: dict[str, Any] = field(default_factory=dict)
    """Fields of that member's own config dataclass."""


@dataclass(frozen=True)
class ModelConfig:
    """A dual encoder as data."""

    embed_dim: int
    """D, the width of the space shared by audio and text."""
    front_end: Spec
    """Samples -> frames: 'log_mel', 'clap_mel', 'waveform' …"""
    audio: Spec
    """The audio tower and its options."""
    text: Spec
    """The text tower and its options."""
    tokenizer: Spec
    """The tokenizer; it must be the text tower's own."""
    audio_head: Spec = Spec("linear")
    """Projection from the audio tower's width to D."""
    text_head: Spec = Spec("linear")
    """Projection from the text tower's width to D."""
    init_scale: float = 14.285714
    """Initial inverse temperature, multiplied onto cosines."""
    init_bias: float | None = None
    """Initial bias of the logits, for the sigmoid loss; null = the model has none."""


class Registry(Generic[T]):
    """Named classes, each with the dataclass that configures it. `homes`, name -> module, are those whose module, which
    registers them, is imported when one is first asked for: nobody waits for libraries that only others need."""

    def __init__(self, kind: str, homes: Mapping[str, str] | None = None) -> None:
        self.kind, self._homes = kind, dict(homes or {})
        self._members: dict[str, tuple[type[T], type]] = {}

    def register(self, name: str, config: type) -> Callable[[type[T]], type[T]]:
        """Decorator: add a class under `name`, configured by the dataclass `config`."""

        def add(cls: type[T]) -> type[T]:
            if name in self._members:
                raise ClaraError(f"{self.kind} {name!r} is registered twice.")
            self._members[name] = (cls, config)
            return cls

        return add

    def names(self) -> list[str]:
        """Registered names and those that have a home, sorted."""
        return sorted({*self._members, *self._homes})

    def get(self, name: str) -> tuple[type[T], type]:
        """The class and its config dataclass; ClaraError with near names when unknown."""
        if name in self._homes and name not in self._members:
            importlib.import_module(self._homes[name])
        if name not in self._members:
            raise unknown(self.kind, name, self.names())
        return self._members[name]

    def create(self, spec: Spec, *args: Any) -> T:
        """Build the member that `spec` names: `cls(config, *args)`."""
        cls, config = self.get(spec.kind)
        make: Callable[..., T] = cls  # what a member's __init__ takes, its kind's users know
        return make(build(config, spec.options, where=f"{self.kind} {spec.kind!r}"), *args)


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read one YAML mapping. ClaraError when the file is missing, not YAML or not a mapping."""
    path = Path(path)
    if not path.is_file():
        raise ClaraError(f"No such file: {path}. Expected a YAML file.")
    try:
        data = parse_yaml(path.read_text(encoding="utf-8"))
    except ValueError as e:  # not UTF-8, or not YAML
        raise ClaraError(f"{path} is not valid YAML: {e}") from e
    if not isinstance(data, dict):
        raise ClaraError(f"{path} holds {type(data).__name__}, expected a mapping of keys to values.")
    return data


def override(data: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """A copy of `data` with each `a.b=value` of `settings` set (the value is read as YAML). The key must exist."""
    out = _copy(data)
    for setting in settings:
        key, eq, text = setting.partition("=")
        if not eq:
            raise ClaraError(f"--set {setting!r}: expected key.path=value.")
        *parents, last = key.split(".")
        node: Any = out
        for part in parents:
            if not isinstance(node, dict) or part not in node:
                raise unknown(f"key in --set {setting!r}", part, node if isinstance(node, dict) else ())
            node = node[part]
        if not isinstance(node, dict) or last not in node:
            raise unknown(f"key in --set {setting!r}", last, node if isinstance(node, dict) else ())
        try:
            node[last] = parse_yaml(text)
        except ClaraError as e:
            raise ClaraError(f"--set {setting!r}: the value is not valid YAML ({e}).") from e
    return out


def _copy(x: Any) -> Any:
    if isinstance(x, Mapping):
        return {k: _copy(v) for k, v in x.items()}
    return [_copy(v) for v in x] if isinstance(x, list | tuple) else x


def build(cls: type[T], data: Any, where: str = "config") -> T:
    """Build the dataclass `cls` from a mapping. Raises ClaraError naming `where` and the key."""
    if not isinstance(data, Mapping):
        raise ClaraError(f"{where}: got {data!r}, expected a mapping for {cls.__name__}.")
    if cls is Spec:
        return _build_spec(data, where)
    fields = {f.name: f for f in dataclasses.fields(typing.cast(Any, cls)) if f.init}
    hints = typing.get_type_hints(cls)
    for key in data:
        if key not in fields:
            raise unknown(f"key in {where}", key, fields)
    values = {}
    for name, f in fields.items():
        if name in data:
            values[name] = _convert(hints[name], data[name], f"{where}.{name}")
        elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise ClaraError(f"{where}: key {name!r} is missing (expected {_type_name(hints[name])}).")
    return cls(**values)


def _build_spec(data: Mapping[str, Any], where: str) -> Any:
    if not isinstance(data.get("kind"), str):
        raise ClaraError(f"{where}: key 'kind' is missing or not a string; it names which one to use.")
    return Spec(data["kind"], {k: v for k, v in data.items() if k != "kind"})


def _type_name(hint: Any) -> str:
    return str(hint) if typing.get_args(hint) else str(getattr(hint, "__name__", hint))


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        inner = [a for a in args if a is not type(None)]
        for a in inner[:-1]:
            try:
                return _convert(a, value, where)
            except ClaraError:  # the last alternative reports the error
                continue
        return _convert(inner[-1], value, where)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else build(hint, value, where)
    if origin is tuple and isinstance(value, list | tuple):
        inner = args[0]
        if args[-1] is not Ellipsis:
            if len(value) != len(args):
                raise ClaraError(f"{where}: got {len(value)} values {value!r}, expected {len(args)}.")
            return tuple(_convert(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(zip(args, value)))
        return tuple(_convert(inner, v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        return {k: _convert(args[1], v, f"{where}.{k}") for k, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    plain = hint if origin is None and isinstance(hint, type) else None
    if plain and isinstance(value, plain) and not (plain is int and isinstance(value, bool)):
        return value
    tip = " (YAML reads 1e-4 as text: write 1.0e-4)" if hint is float and isinstance(value, str) else ""
    raise ClaraError(f"{where}: got {value!r} ({type(value).__name__}), expected {_type_name(hint)}{tip}.")


def to_dict(config: Any) -> Any:
    """The inverse of `build`: nested plain mappings and lists, ready for YAML."""
    if isinstance(config, Spec):
        return {"kind": config.kind, **to_dict(config.options)}
    if dataclasses.is_dataclass(config):
        return {f.name: to_dict(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {k: to_dict(v) for k, v in config.items()}
    return [to_dict(v) for v in config] if isinstance(config, list | tuple) else config


def without_defaults(x: Any) -> Any:
    """As `to_dict`, without the fields of dataclasses that hold their default or nothing."""
    if dataclasses.is_dataclass(x):
        pairs = ((f, getattr(x, f.name)) for f in dataclasses.fields(x))
        return {f.name: without_defaults(v) for f, v in pairs if v not in (f.default, (), {})}
    if isinstance(x, Mapping):
        return {k: without_defaults(v) for k, v in x.items()}
    return [without_defaults(v) for v in x] if isinstance(x, list | tuple) else x


def arch_names() -> list[str]:
    """Names of the architectures in `clara/configs`, sorted."""
    return sorted(p.stem for p in CONFIGS.glob("*.yaml"))


def arch_config(name: str) -> ModelConfig:
    """The config of one architecture by name."""
    if name not in arch_names():
        raise unknown("architecture", name, arch_names())
    return build(ModelConfig, load_yaml(CONFIGS / f"{name}.yaml"), where=f"{name}.yaml")


def recipe_path(kind: str, name: str, near: Path = Path(".")) -> Path:
    """A recipe's file: the path given, from the folder `near` or the working directory, or the one of that name that
    travels with the package. `kind` is its folder there: train, eval, leave_one_out. ClaraError for an unknown name."""
    for path in (near / name, Path(name)):
        if path.is_file():
            return path
    known = {p.stem: p for p in sorted((RECIPES / kind).glob("*.yaml"))}
    if name not in known:
        raise unknown(f"{kind} recipe (no such file either)", name, known)
    return known[name]


def config_file(name: str) -> Path:
    """The file of a recipe of any kind or of an architecture, by path or by name. ClaraError for an unknown name."""
    if Path(name).is_file():
        return Path(name)
    known = {p.stem: p for p in (*sorted(RECIPES.glob("*/*.yaml")), *sorted(CONFIGS.glob("*.yaml")))}
    if name not in known:
        raise unknown("recipe or architecture (no such file either)", name, known)
    return known[name]
