"""What a checkpoint was trained on and under which licence it is, and what those made from it inherit. No torch.

Stated in the front matter of a card: `license`, `trained_on` (a list of `catalog.TrainedOn`) and `held_out` (corpus ->
what says so), for the table's checkpoints as for any folder's README.md.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from clara.config import build, without_defaults
from clara.errors import ClaraError
from clara.parsing import parse_yaml
from clara.zoo import catalog
from clara.zoo.catalog import CHECKPOINTS, TrainedOn

CARD, NOT_STATED = "README.md", "not stated"


@dataclass(frozen=True)
class Statement:
    """What a card says: licence, training corpora (empty: no audio; None: it does not say), and those kept out
    of training."""

    license: str
    trained_on: tuple[TrainedOn, ...] | None
    held_out: Mapping[str, str] = field(default_factory=dict)


def statement(name: str) -> Statement | None:
    """What is stated of a checkpoint by its name in `clara.load`; None where nothing is. A repository of the hub is
    known by the row of the table that names it."""
    if name in CHECKPOINTS:
        return _of_row(CHECKPOINTS[name])
    if name.startswith("hf:"):
        repo = name.partition("@")[0]
        row = next((r for r in CHECKPOINTS.values() if r.source.partition("@")[0] == repo), None)
        return None if row is None else _of_row(row)
    if not name.startswith("dir:"):
        return None
    card = Path(name.removeprefix("dir:")) / CARD
    front = front_matter(card)
    if not front:
        return None
    if "trained_on" not in front and ("corpora" in front or "touches" in front):
        raise ClaraError(
            f"{card} states `corpora` and `touches`, as older versions did: write `trained_on: [{{corpus: NAME}}, …]` "
            "instead, with `folds`, `splits` and `basis` where they are known."
        )
    entries = front.get("trained_on")
    trained_on = None
    if not isinstance(entries, list | None) or not isinstance(front.get("held_out"), Mapping | None):
        raise ClaraError(f"{card}: expected a list under `trained_on`, and CORPUS: REASON under `held_out`.")
    if entries is not None:
        trained_on = tuple(build(TrainedOn, e, f"{card}.trained_on[{i}]") for i, e in enumerate(entries))
    return Statement(str(front.get("license") or NOT_STATED), trained_on, dict(front.get("held_out") or {}))


def _of_row(row: catalog.Checkpoint) -> Statement:
    return Statement(row.license, row.trained_on, row.held_out)


def front_matter(card: Path) -> Mapping[str, Any]:
    """The YAML before a card's text; empty where there is none, and, with a warning, where it cannot be read."""
    parts = card.read_text(encoding="utf-8", errors="replace").split("---\n", 2) if card.is_file() else []
    try:
        front = parse_yaml(parts[1]) if len(parts) == 3 and not parts[0].strip() else None
    except ClaraError as e:
        warnings.warn(f"{card}: what stands before its text counts as not stated ({e}).", stacklevel=2)
        return {}
    return front if isinstance(front, Mapping) else {}


def heard_corpora(rows: Iterable[Mapping[str, Any]]) -> list[TrainedOn]:
    """The corpora of clips that are trained on, by what is known of each clip (corpus, license, seconds)."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        of = found.setdefault(str(row.get("corpus")), {"clips": 0, "seconds": 0.0, "license": {}})
        of["clips"] += 1
        of["seconds"] += float(row.get("seconds") or 0.0)
        of["license"] |= dict.fromkeys(str(row.get("license") or NOT_STATED).split("; "))  # mixtures join theirs
    return [
        TrainedOn(
            name,
            license=", ".join(sorted(of["license"])),
            clips=of["clips"],
            hours=round(of["seconds"] / 3600, 3),
        )
        for name, of in sorted(found.items())
    ]


def inherited(starts: Sequence[str], heard: Sequence[TrainedOn] = ()) -> dict[str, Any]:
    """The front matter of what is made from the checkpoints `starts` and trained on `heard`: all that they were trained
    on counts, all licences hold, and what one of them does not say stays unsaid."""
    said = {name: statement(name) or Statement(NOT_STATED, None) for name in starts}
    trained_on: dict[TrainedOn, None] = {}
    for name, one in said.items():
        unsaid = (TrainedOn(None, basis=f"what {name} was trained on"),)
        trained_on |= dict.fromkeys(unsaid if one.trained_on is None else one.trained_on)
    trained_on |= dict.fromkeys(heard)
    shared = [set(one.held_out) for one in said.values()]
    kept = sorted(set.intersection(*shared) - {t.corpus for t in trained_on}) if shared else ()
    front: dict[str, Any] = {"license": " AND ".join(dict.fromkeys(s.license for s in said.values()))} if said else {}
    if starts:
        front["made_from"] = list(said)
    front["trained_on"] = without_defaults(list(trained_on))
    held_out = {corpus: "; ".join(dict.fromkeys(one.held_out[corpus] for one in said.values())) for corpus in kept}
    return front | ({"held_out": held_out} if held_out else {})


def with_front(front: Mapping[str, Any], text: str) -> str:
    """A card: front matter and text."""
    return f"---\n{yaml.safe_dump(dict(front), sort_keys=False, allow_unicode=True)}---\n{text}"
