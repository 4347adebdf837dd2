"""Pairs of texts of one meaning, for the text stage: facts said in two languages, and CLDR's words for emoji."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from clara.errors import ClaraError, unknown
from clara.parsing import parse_json
from clara.text.captions import EXCLUDES, SOUND_TASKS, Captioner, Fact, join, over, verbalize
from clara.text.prompts import TASKS, languages, load_language, task_labels


@dataclass(frozen=True)
class NamesConfig:
    """CLDR's names and keywords of emoji: words of two locales for one emoji mean the same."""

    folder: str
    """<locale>.json files: {"annotations": {emoji: [name, [keyword, …]]}}."""
    count: int = 48
    """Emoji per batch."""


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
            try:
                notes = parse_json(path.read_text(encoding="utf-8")).get("annotations", {})
                for emoji, (name, keywords) in notes.items():
                    found.setdefault(emoji, []).append([x for x in (name, *keywords[:3]) if x and x.strip()])
            except (OSError, ValueError, TypeError, AttributeError) as e:
                raise ClaraError(f"{path} cannot be read ({e}): expected annotations of CLDR.") from e
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


@dataclass(frozen=True)
class LooseConfig:
    """Phrasings without a template: a fact's word alone or among unrelated words."""

    share: float = 0.0
    """Probability that a fact is phrased so, 0 to 1."""
    tasks: tuple[str, ...] = ("emotion", "sound", "instrument", "language", "speaker", "arousal")
    """Tasks whose facts are."""
    most: int = 6
    """Most words around it, from the language's templates and `fillers`."""
    fillers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Further words by language."""

    def __post_init__(self) -> None:
        known = [task for task in TASKS if task != "word"]  # a word's text is the word itself, in one language
        if strange := set(self.tasks) - set(known):
            raise unknown("task in loose.tasks", min(strange), known)
        if not (0.0 <= self.share <= 1.0 and self.most >= 0):
            raise ClaraError(f"loose: share={self.share}, most={self.most}: expected 0 to 1, and at least 0.")


class Sayer:
    """Facts -> text, in a language that `captioner` draws."""

    def __init__(self, captioner: Captioner, loose: LooseConfig) -> None:
        self.captioner, self.loose = captioner, loose
        if unknown_codes := set(loose.fillers) - set(languages()):
            raise unknown("language in loose.fillers", min(unknown_codes), languages())
        self.words = {code: (*_template_words(code), *loose.fillers.get(code, ())) for code in captioner.languages}

    def say(self, facts: frozenset[Fact], rng: np.random.Generator) -> tuple[str, str]:
        """(text, language code)."""
        language = self.captioner.language(rng)
        if len(facts) > 1:
            sounds = [f for f in facts if f[0] in SOUND_TASKS]
            if len(facts) == 2 and len(sounds) == 1:
                return over(*(facts - set(sounds)), *sounds, language, rng), language
            return join(facts, language, rng), language
        fact = next(iter(facts))
        if (text := self.captioner.free_text(fact, language, rng)) is not None:
            return text, language
        if fact[0] in self.loose.tasks and rng.random() < self.loose.share:
            return self._loosely(fact, language, rng), language
        return verbalize(fact, language, rng), language

    def _loosely(self, fact: Fact, language: str, rng: np.random.Generator) -> str:
        term, words = load_language(language).terms[fact[0]][fact[1]], self.words[language]
        names = [name for form in (term.forms.values() or [term.names]) for name in form]
        around = [words[i] for i in rng.integers(len(words), size=rng.integers(self.loose.most + 1))]
        around.insert(int(rng.integers(len(around) + 1)), names[rng.integers(len(names))])
        return " ".join(around)


def _template_words(language: str) -> list[str]:
    """Every word of the language's templates but the slots, as often as it stands there."""
    lines = [line for lines in load_language(language).templates.values() for line in lines]
    return [w for line in lines for w in re.sub(r"\{\w*\}", " ", line).split() if any(c.isalpha() for c in w)]


def joint(rng: np.random.Generator) -> frozenset[Fact]:
    """Two to four facts of one clip: a voice over a sound, or what a voice is like, whose it is and how it feels."""

    def pick(task: str) -> Fact:
        facts = facts_of_task(task)
        return facts[rng.integers(len(facts))]

    if rng.random() < 0.5:
        return frozenset({pick(("emotion", "emotion", "speaker", "voice")[rng.integers(4)]), pick("sound")})
    axes = [*EXCLUDES["voice"], ("trembling",)]
    chosen = [axes[i] for i in rng.permutation(len(axes))[: 1 + rng.integers(2)]]
    facts = [("voice", axis[rng.integers(len(axis))]) for axis in chosen]
    facts += [pick(task) for task in ("emotion", "speaker") if rng.random() < 0.5]
    return frozenset(facts if len(facts) > 1 else [*facts, pick("emotion")])


def draw(
    counts: Mapping[str, int],
    several: tuple[int, int],
    sayer: Sayer,
    rng: np.random.Generator,
    known: Mapping[str, list[Fact]],
    names: Names | None = None,
) -> list[Pair]:
    """The pairs of one batch, sorted by task.

    Args:
        counts: how many facts of each task, several times over where the task has fewer.
        several: how many pairs of sounds said in one sentence, and how many other sentences of several facts (`joint`).
        sayer: puts facts into words.
        rng: the batch's own.
        known: the facts with anchors, by task; of words, which are their own translations, only these are drawn.
        names: more translations.
    """
    pairs, joints = several
    if min((pairs, joints, *counts.values())) < 0:
        raise ClaraError(f"counts {dict(counts)}, pairs {pairs}, joints {joints}: expected none below 0.")
    chosen: list[frozenset[Fact]] = []
    for task, count in counts.items():
        # a word is its own translation: one that nobody recorded has nothing to be drawn to
        facts = sorted(known[task]) if task == "word" and known.get(task) else facts_of_task(task)
        rounds = [rng.permutation(len(facts)) for _ in range(-(-count // len(facts)))]
        chosen += [frozenset({facts[i]}) for i in np.concatenate(rounds)[:count]] if count else []
    sounds = facts_of_task("sound")
    two = {frozenset({sounds[i], sounds[j]}) for i, j in rng.integers(len(sounds), size=(pairs, 2)) if i != j}
    chosen += sorted(two | {joint(rng) for _ in range(joints)}, key=sorted)

    said = [(sayer.say(f, rng), sayer.say(f, rng), f) for f in chosen]
    out = [Pair(one, two, _task(f), f, (a, b)) for (one, a), (two, b), f in said]
    return sorted(out + (names.draw(rng) if names else []), key=lambda pair: pair.task)


def _task(facts: frozenset[Fact]) -> str:
    """The task whose classes a text is told apart from. An angry voice over rain is no other emotion than anger."""
    tasks = sorted({task for task, _ in facts})
    return tasks[0] if len(tasks) == 1 else "joint"
