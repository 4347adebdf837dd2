"""What a checkpoint heard in training and under which licence it is, and what those made from it inherit. No torch.

Stated in the front matter of a card: `license`, `corpora` (name, license, clips, hours) and `touches` (benchmark -> how
training touches it), for the table's checkpoints as for any folder's README.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from clara.config import to_dict
from clara.zoo import catalog
from clara.zoo.catalog import CHECKPOINTS, Corpus

CARD, NOT_STATED = "README.md", "not stated"


@dataclass(frozen=True)
class Statement:
    """What a card says: licence, corpora (none: it does not say), and how benchmarks are touched."""

    license: str
    corpora: tuple[Corpus, ...]
    touches: Mapping[str, str]


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
    front = front_matter(Path(name.removeprefix("dir:")) / CARD)
    said = [c if isinstance(c, Mapping) else {"name": c} for c in front.get("corpora") or ()]
    corpora = tuple(Corpus(**{k: c[k] for k in ("name", "license", "clips", "hours") if k in c}) for c in said)
    if not front:
        return None
    return Statement(str(front.get("license") or NOT_STATED), corpora, dict(front.get("touches") or {}))


def _of_row(row: catalog.Checkpoint) -> Statement:
    return Statement(row.license, row.corpora, row.touches)


def front_matter(card: Path) -> Mapping[str, Any]:
    """The YAML before a card's text; empty where there is none."""
    parts = card.read_text(encoding="utf-8").split("---\n", 2) if card.is_file() else []
    try:
        front = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0].strip() else None
    except yaml.YAMLError:
        return {}
    return front if isinstance(front, Mapping) else {}


def heard_corpora(rows: Iterable[Mapping[str, Any]]) -> list[Corpus]:
    """The corpora of clips that are trained on, by what is known of each clip (corpus, license, seconds)."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        of = found.setdefault(str(row.get("corpus")), {"clips": 0, "seconds": 0.0, "license": {}})
        of["clips"] += 1
        of["seconds"] += float(row.get("seconds") or 0.0)
        of["license"][row.get("license") or NOT_STATED] = None
    return [
        Corpus(name, ", ".join(sorted(of["license"])), of["clips"], round(of["seconds"] / 3600, 3))
        for name, of in sorted(found.items())
    ]


def inherited(starts: Sequence[str], heard: Sequence[Corpus] = ()) -> dict[str, Any]:
    """The front matter of what is made from the checkpoints `starts` and trained on `heard`: all that they heard is
    heard, all licences hold, and what one of them does not say stays unsaid."""
    licences: dict[str, None] = {}
    corpora: dict[str, Corpus] = {}
    touches: dict[str, str] = {}
    for name in starts:
        said = statement(name) or Statement(NOT_STATED, (), {})
        licences[said.license] = None
        unsaid = Corpus(f"what {name} was trained on: not published")
        for corpus in said.corpora or (unsaid,):
            corpora.setdefault(corpus.name, corpus)
        for benchmark, how in said.touches.items():
            before = touches.get(benchmark)
            touches[benchmark] = how if before in (None, how) else f"{before}; {how}"
    corpora |= {corpus.name: corpus for corpus in heard}
    front: dict[str, Any] = {"license": " AND ".join(licences)} if licences else {}
    if starts:
        front["made_from"] = list(dict.fromkeys(starts))
    return front | {"corpora": [to_dict(c) for c in corpora.values()], "touches": touches}


def with_front(front: Mapping[str, Any], text: str) -> str:
    """A card: front matter and text."""
    return f"---\n{yaml.safe_dump(dict(front), sort_keys=False, allow_unicode=True)}---\n{text}"
