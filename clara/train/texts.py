"""Pairs of texts of one meaning, for the text stage: facts said in two languages, and CLDR's words for emoji."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clara.errors import ClaraError, unknown
from clara.text.captions import Captioner, Fact, join, verbalize
from clara.text.prompts import TASKS, languages, load_language, task_labels


@dataclass(frozen=True)
class NamesConfig:
    """CLDR's names and keywords of emoji: `folder` of <locale>.json files ({"annotations": {emoji: [name, [keyword,
    …]]}}), `count` of emoji a batch. Two locales' words for one emoji mean the same."""

    folder: str
    count: int = 48


@dataclass(frozen=True)
class Pair:
    """Two texts that mean `facts`, each with its language, and the task whose classes they are told apart from."""

    one: str
    two: str
    task: str
    facts: frozenset[Fact]
    languages: tuple[str, str] = ("", "")


def facts_of_task(task: str) -> list[Fact]:
    """Every fact of a task that the language files can say; a word is another fact in each language it is spoken in."""
    if task not in TASKS:
        raise unknown("task in counts", task, TASKS)
    if task == "word":
        return [("word", f"{code}:{key}") for code in languages() for key in load_language(code).terms["word"]]
    return [(task, key) for key in task_labels(task)]


class Names:
    """CLDR's words for emoji, one list a locale."""

    def __init__(self, config: NamesConfig) -> None:
        self.count, self.texts = config.count, []
        files = sorted(Path(config.folder).glob("*.json"))
        if not files:
            raise ClaraError(f"names.folder {config.folder!r} holds no <locale>.json files of CLDR.")
        found: dict[str, list[list[str]]] = {}
        for path in files:
            notes = json.loads(path.read_text(encoding="utf-8")).get("annotations", {})
            for emoji, (name, keywords) in notes.items():
                found.setdefault(emoji, []).append([x for x in (name, *keywords[:3]) if x and x.strip()])
        self.texts = [[ws for ws in locales if ws] for _, locales in sorted(found.items())]
        self.texts = [locales for locales in self.texts if len(locales) > 1]

    def draw(self, rng: np.random.Generator) -> list[Pair]:
        """`count` emoji, each in the words of two locales."""
        out = []
        for i in rng.permutation(len(self.texts))[: self.count]:
            locales = self.texts[i]
            a, b = (locales[j] for j in rng.permutation(len(locales))[:2])
            # a name names one thing; a keyword, one time in four, may name several
            one, two = (ws[0] if rng.random() < 0.75 else ws[rng.integers(len(ws))] for ws in (a, b))
            out.append(Pair(one, two, "name", frozenset()))
        return out


def draw(
    counts: Mapping[str, int],
    pairs: int,
    captioner: Captioner,
    rng: np.random.Generator,
    known: Mapping[str, list[Fact]],
    names: Names | None = None,
) -> list[Pair]:
    """The pairs of one batch, sorted by task.

    Args:
        counts: how many facts of each task, several times over where the task has fewer.
        pairs: how many pairs of sounds, said in one sentence.
        captioner: draws the languages.
        rng: the batch's own.
        known: the facts with anchors, by task; of words, which are their own translations, only these are drawn.
        names: more translations.
    """
    chosen: list[frozenset[Fact]] = []
    for task, count in counts.items():
        # a word is its own translation: one that nobody recorded has nothing to be drawn to
        facts = sorted(known[task]) if task == "word" and known.get(task) else facts_of_task(task)
        rounds = [rng.permutation(len(facts)) for _ in range(-(-count // len(facts)))]
        chosen += [frozenset({facts[i]}) for i in np.concatenate(rounds)[:count]] if count else []
    sounds = facts_of_task("sound")
    two = {frozenset({sounds[i], sounds[j]}) for i, j in rng.integers(len(sounds), size=(pairs, 2)) if i != j}
    chosen += sorted(two, key=sorted)

    def say(facts: frozenset[Fact]) -> tuple[str, str]:
        language = captioner.language(rng)
        text = join(facts, language, rng) if len(facts) > 1 else verbalize(next(iter(facts)), language, rng)
        return text, language

    said = [(say(f), say(f), f) for f in chosen]
    out = [Pair(one, two, min(f)[0], f, (a, b)) for (one, a), (two, b), f in said]
    return sorted(out + (names.draw(rng) if names else []), key=lambda pair: pair.task)
