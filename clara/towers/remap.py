"""Foreign tensors under our names: a table of rules, strict in what it leaves over.

Every foreign key is renamed or dropped for a stated reason; which of our keys are then wanting, `load_strictly` says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from clara.errors import ClaraError


@dataclass(frozen=True)
class Rename:
    """Keys that `pattern` (a regular expression, over the whole key) fits become `target`, which may use its groups
    (`\\1`). Targets `name#0`, `name#1` … are the parts of one tensor, joined along their first axis: a query, key and
    value kept apart become one."""

    pattern: str
    target: str


@dataclass(frozen=True)
class Drop:
    """Keys that `pattern` fits are left out, for `reason`: what is computed anew, or has no part in an embedding."""

    pattern: str
    reason: str


Rule = Rename | Drop


def prefixed(rules: Iterable[Rule], source: str, target: str) -> tuple[Rule, ...]:
    """The rules of a part, for its place in a whole: `source` (a regular expression) stands before every pattern,
    `target` before every target."""
    return tuple(
        Rename(source + r.pattern, target + r.target) if isinstance(r, Rename) else Drop(source + r.pattern, r.reason)
        for r in rules
    )


def remap(tensors: Mapping[str, Tensor], rules: Iterable[Rule], where: str) -> dict[str, Tensor]:
    """`tensors` under their new names; the first rule that fits a key decides.

    Raises:
        ClaraError: keys that no rule knows, two keys of one target, or parts of which one is missing (all listed).
    """
    compiled = [(re.compile(rule.pattern), rule) for rule in rules]
    out: dict[str, Tensor] = {}
    parts: dict[str, dict[int, Tensor]] = {}
    faults = []
    for key, tensor in tensors.items():
        match, rule = next(((m, r) for p, r in compiled if (m := p.fullmatch(key))), (None, None))
        if rule is None:
            faults.append(f"unknown {key} {tuple(tensor.shape)}")
            continue
        if isinstance(rule, Drop):
            continue
        name, joined, index = match.expand(rule.target).partition("#")
        into = parts.setdefault(name, {}) if joined else out
        place = int(index) if joined else name
        if place in into:
            faults.append(f"{key} gives {name} a second time")
        into[place] = tensor
    for name, pieces in parts.items():
        if name in out or sorted(pieces) != list(range(len(pieces))):
            faults.append(f"{name} has the parts {sorted(pieces)}")
            continue
        out[name] = torch.cat([pieces[i] for i in range(len(pieces))])
    if faults:
        shown = "; ".join(faults[:20]) + (f"; and {len(faults) - 20} more" if len(faults) > 20 else "")
        raise ClaraError(f"{where} is not of the family it was read as: {shown}.")
    return out
