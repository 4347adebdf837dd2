"""JSON and YAML that anyone may have written: what is read is plain values, or an error in one line.

The parsers themselves do not promise that. Deep nesting ends Python's in a RecursionError, libyaml's in a crash
of the process, a few hundred bytes of YAML aliases stand for more values than memory holds, and a number may have any
length.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import yaml

from clara.errors import ClaraError

DEEPEST = 100  # levels
MOST_VALUES = 1_000_000  # of a YAML file once its aliases are replaced by what they stand for
LONG_LINE = 500  # a level of block style takes a column at least
BRACKET = re.compile(r"[\[\]{}]")
# what numpy raises at an .npz that is none, or is damaged
NPZ_ERRORS = (OSError, ValueError, KeyError, EOFError, NotImplementedError, SyntaxError, BadZipFile, zlib.error)
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is eight times faster than PyYAML's own parser


def parse_json(text: str | bytes) -> Any:
    """The value that a text of JSON stands for. ClaraError, without a place, for anything else."""
    try:
        value = json.loads(text)
        opening = (text.count("["), text.count("{")) if isinstance(text, str) else (text.count(b"["), text.count(b"{"))
        if sum(opening) > DEEPEST:
            _refuse_deep(value)
    except RecursionError:
        raise ClaraError(f"more than {DEEPEST} levels of lists and objects") from None
    except ValueError as e:
        raise ClaraError(str(e)) from e
    return value


def _refuse_deep(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [x for v in level if isinstance(v, dict | list) for x in (v.values() if isinstance(v, dict) else v)]
        if not level:
            return
    raise RecursionError


def read_json(path: Path, expected: str) -> Any:
    """The value in a JSON file. ClaraError that names the file and says what was `expected`."""
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise ClaraError(f"{path} cannot be read ({e}): expected {expected}.") from e


def number_of_seconds(value: Any) -> float | None:
    """A length in seconds; None for what is not a finite number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        seconds = float(value)
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def parse_yaml(text: str) -> Any:
    """The value that a text of YAML stands for, plain types alone. ClaraError, without a place, for anything else."""
    try:
        if ("&" in text and "*" in text) or _may_be_deep(text):
            _refuse_bombs(text)
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as e:  # of dates that are none, too
        raise ClaraError(str(e)) from e


def _may_be_deep(text: str) -> bool:
    """Whether nesting beyond `DEEPEST` is possible: a cheap bound, since language files are read at every start."""
    depth = most = 0
    for bracket in BRACKET.finditer(text):
        depth = depth + 1 if bracket[0] in "[{" else max(0, depth - 1)
        most = max(most, depth)
    return most > DEEPEST // 2 or any(len(line) > LONG_LINE for line in text.splitlines())


def _refuse_bombs(text: str) -> None:
    """ClaraError where the values lie too deep, or are too many once aliases are replaced."""
    open_at: list[tuple[str | None, int]] = []  # (anchor, values so far) of what encloses the event
    sizes: dict[str | None, int] = {}
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_at.append((event.anchor, 1))
            if len(open_at) > DEEPEST:
                raise ClaraError(f"more than {DEEPEST} levels of lists and mappings")
            continue
        if isinstance(event, yaml.AliasEvent):
            anchor, size = None, sizes.get(event.anchor, MOST_VALUES + 1)  # of what encloses itself: endless
        elif isinstance(event, yaml.ScalarEvent):
            anchor, size = event.anchor, 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_at.pop()
        else:
            continue
        sizes[anchor] = size
        if open_at:
            open_at[-1] = (open_at[-1][0], open_at[-1][1] + size)
        if size > MOST_VALUES:
            raise ClaraError(f"its aliases stand for more than {MOST_VALUES:,} values")
