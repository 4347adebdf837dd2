"""Was a checkpoint trained on the corpus it is evaluated on? Its card's `trained_on` against the corpora's `sources`.

`seen`: the corpus, or a part of it, is among the training corpora. `same-source`: its recordings come from where
training recordings came from (AudioCaps is cut from AudioSet; ESC-50 from Freesound). `unseen`: neither, by the card.
`unknown`: the card does not state all that it was trained on, or no corpus file states where the recordings come from.
Only an unseen result is called zero-shot.

Folds: where the card states the `folds` that were trained on, and all clips evaluated are of others, the result is
`same-source`: ESC-50 and UrbanSound8K keep all clips of one recording in one fold, so none was heard, but they were
collected and labelled together. A split of a corpus by speakers stays `seen`: its sentences, room and microphone were
heard.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from clara.data.manifest import corpus_names, load_corpus
from clara.zoo.lineage import Statement, statement

STATUSES = ("unseen", "same-source", "unknown", "seen")  # from best to worst
CLAIMS = {
    "unseen": "zero-shot",
    "same-source": "same source as training data",
    "unknown": "training data not known",
    "seen": "seen in training",
}


@dataclass(frozen=True)
class Verdict:
    """A status, and why."""

    status: str
    because: str


def training_of(name: str) -> Statement | None:
    """What the card of a checkpoint states of its training (`clara.zoo.lineage`); None where it states nothing."""
    found = statement(name)
    return found if found and found.trained_on is not None else None


def judge(
    corpus: str, training: Statement | None, parts: Iterable[str | None] = (), near: Path | str | None = None
) -> Verdict:
    """The verdict on one corpus, as `Row.corpus` names it.

    Args:
        parts: `Row.speaker` of the clips evaluated, which holds the fold where there are folds.
        near: the recipe file; corpus files are looked for beside it first.
    """
    if training is None or training.trained_on is None:
        return Verdict("unknown", "the checkpoint has no card that states its training corpora")
    if mine := [t for t in training.trained_on if t.corpus == corpus]:
        told, evaluated = "; ".join(str(t) for t in mine), set(parts)
        trained = {f"fold{fold}" for t in mine for fold in t.folds}
        other = all(part and re.fullmatch(r"fold\d+", part) and part not in trained for part in evaluated)
        if evaluated and other and all(t.folds for t in mine):
            return Verdict("same-source", f"{', '.join(sorted(evaluated))} of the same corpus; trained on {told}")
        return Verdict("seen", f"trained on {told}")
    if sources_of(corpus, near) is None:
        return Verdict("unknown", f"no corpus file states where the recordings of {corpus!r} come from")
    note = f"; held out: {training.held_out[corpus]}" if corpus in training.held_out else ""
    heard = {o for t in training.trained_on if t.corpus for c in (t.corpus, *t.sources) for o in _origins(c, near)}
    if shared := sorted(_origins(corpus, near) & heard):
        return Verdict("same-source", f"training holds {', '.join(shared)}{note}")
    if vague := next((t for t in training.trained_on if t.corpus is None), None):
        return Verdict("unknown", f"trained on {vague}")
    return Verdict("unseen", f"not among the training corpora of the card{note}")


@cache
def sources_of(corpus: str, near: Path | str | None = None) -> tuple[str, ...] | None:
    """`Corpus.sources` of a corpus file or packed set, None where there is none or it does not say."""
    if corpus in corpus_names(None if near is None else Path(near)):
        return load_corpus(corpus, near).INFO.sources
    packed = load_corpus("packed").INFOS
    return packed[corpus].sources if corpus in packed else None


def _origins(corpus: str, near: Path | str | None) -> set[str]:
    return {corpus}.union(*(_origins(source, near) for source in sources_of(corpus, near) or ()))


def contamination(
    parts: Mapping[str, Iterable[str | None]],
    training: Statement | None,
    near: Path | str | None = None,
    taught: str | None = None,
) -> dict[str, Any]:
    """What stands in a result: {"status": the worst, "claim": its words, "corpora": {name: {"status", "because"}}}.

    Args:
        parts: corpus -> `parts` evaluated, as `judge` takes them.
        near: as of `judge`.
        taught: how labelled clips of the corpus taught the classes (few-shot, probe), which makes no result zero-shot.
    """
    verdicts = {name: judge(name, training, parts[name], near) for name in sorted(parts)}
    worst = max((v.status for v in verdicts.values()), key=STATUSES.index, default="unknown")
    found = {name: {"status": v.status, "because": v.because} for name, v in verdicts.items()}
    claim = f"unseen by the encoder, {taught}" if taught and worst == "unseen" else CLAIMS[worst]
    return {"status": worst, "claim": claim, "corpora": found}
