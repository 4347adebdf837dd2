"""Captions of a sample, and what each of them claims.

A *fact* is a pair (task, key): ("emotion", "anger"), ("sound", "dog"), ("word", "ar:zero"), ("language", "pl"). A
caption claims a set of facts. It is a **positive** of every clip that has all of them, whichever clip it was written
for; it is **undecided**, neither positive nor negative, of a clip that was never labelled for what it claims. So two
angry clips are no negatives of each other's captions, and a corpus that holds no surprise does not teach that its
speakers cannot be surprised. A free text claims itself: ("text", the text).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clara.text.prompts import Term, fill, languages, load_language, task_labels

Fact = tuple[str, str]
SPEECH_TASKS = frozenset({"emotion", "language", "speaker", "arousal", "word", "voice"})
SOUND_TASKS = frozenset({"sound", "instrument"})


@dataclass(frozen=True)
class Caption:
    """A text and the facts it claims."""

    text: str
    facts: frozenset[Fact]


@dataclass(frozen=True)
class CaptionConfig:
    """Which text of a sample is trained on. Probabilities are per sample and step.

    `languages` empty = every language that has a file. `original`, `augmented`, `visual`: the sample's own texts;
    `joint`: one sentence that claims several of its facts; `composed`: one for the two sounds of a mixed clip;
    `prompts`: how many single-fact prompts each fact of the batch gets; `bank`: facts of other classes added as
    negatives, at most; `attributes`: probability that a clip's language and speaker are captioned at all, so that they
    do not crowd out its emotion; `english`: that a caption is English whatever the other languages.
    """

    languages: tuple[str, ...] = ()
    original: float = 0.5
    augmented: float = 0.5
    visual: float = 0.5
    joint: float = 0.25
    composed: float = 0.8
    prompts: int = 1
    bank: int = 64
    attributes: float = 0.3
    english: float = 0.25


def facts_of(meta: Mapping[str, Any]) -> frozenset[Fact]:
    """The facts that a sample's labels state: emotion, label under its task, language and gender of speech."""
    facts: set[Fact] = set()
    task, label, language = meta.get("task"), meta.get("label"), meta.get("language")
    if meta.get("emotion"):
        facts.add(("emotion", meta["emotion"]))
    if label and task in SOUND_TASKS | {"arousal"}:
        facts.add((task, label))
    if label and task == "word" and language:
        facts.add(("word", f"{language}:{label}"))
    if language and language in load_language("en").terms["language"]:
        facts.add(("language", language))
    if meta.get("gender") in load_language("en").terms["speaker"]:
        facts.add(("speaker", meta["gender"]))
    return frozenset(facts)


def known(fact: Fact) -> bool:
    """Whether the language files can put this fact into words."""
    task, key = fact
    return task == "word" or key in task_labels(task)


def spoken_word(key: str) -> str:
    """The text of a word fact's key 'ar:zero': the word in its own language, or the label itself."""
    code, _, label = key.partition(":")
    terms = load_language(code).terms["word"] if code in languages() else {}
    return terms[label].names[0] if label in terms else label.replace("_", " ")


def verbalize(fact: Fact, language: str, rng: np.random.Generator) -> str:
    """Put one fact into words of `language`, template and synonym drawn by `rng`."""
    task, key = fact
    if task == "text":
        return key
    lines = load_language(language).templates[task]
    line = lines[rng.integers(len(lines))]
    if task == "word":
        return fill(line, Term((spoken_word(key),), {}))
    return fill(line, load_language(language).terms[task][key], int(rng.integers(12)))


def join(facts: Iterable[Fact], language: str, rng: np.random.Generator) -> str:
    """One text that claims all `facts`: two sounds by the language's `compose`, other facts as a list of phrases."""
    facts = sorted(facts)
    sounds = [f for f in facts if f[0] in SOUND_TASKS]
    if len(facts) == 2 and len(sounds) == 2:
        lang = load_language(language)
        first, second = (sounds[i] for i in rng.permutation(2))
        line = lang.compose[rng.integers(len(lang.compose))]
        names = [lang.terms[t][k].names for t, k in (first, second)]
        a, b = (n[rng.integers(len(n))] for n in names)
        return line.replace("{a}", a).replace("{b}", b)
    return ", ".join(verbalize(facts[i], language, rng) for i in rng.permutation(len(facts)))


class Captioner:
    """Draws the captions of a batch by a `CaptionConfig`; everything random comes from the generator passed in."""

    def __init__(self, config: CaptionConfig, inventory: Mapping[str, frozenset[Fact]]) -> None:
        """`inventory`: the facts that occur in each corpus, over all its clips."""
        self.config, self.inventory = config, inventory
        self.languages = config.languages or tuple(languages())
        for code in self.languages:
            load_language(code)  # an unknown language fails here, not in step 900

    def language(self, rng: np.random.Generator) -> str:
        """A caption language: English with probability `english`, else any."""
        if "en" in self.languages and rng.random() < self.config.english:
            return "en"
        return self.languages[rng.integers(len(self.languages))]

    def heard(self, facts: frozenset[Fact], rng: np.random.Generator) -> frozenset[Fact]:
        """A clip's facts of this step: language and speaker are dropped with probability 1 - `attributes`."""
        if rng.random() < self.config.attributes or not any(t not in ("language", "speaker") for t, _ in facts):
            return facts
        return frozenset(f for f in facts if f[0] not in ("language", "speaker"))

    def own(self, meta: Mapping[str, Any], facts: frozenset[Fact], rng: np.random.Generator) -> Caption | None:
        """The caption written for this clip alone, if one is drawn. Two sounds are captioned together, mostly."""
        c = self.config
        sounds = frozenset(f for f in facts if f[0] in SOUND_TASKS and known(f))
        if len(sounds) == 2 and rng.random() < c.composed:
            return Caption(join(sounds, self.language(rng), rng), sounds)
        for field, p in (("text", c.original), ("text_augmented", c.augmented), ("visual_captions", c.visual)):
            texts = meta.get(field) or ()
            if texts and rng.random() < p:
                text = texts[rng.integers(len(texts))]
                return Caption(text, frozenset({("text", text)}))
        said = [f for f in facts if f[0] != "text" and known(f)]
        if len(said) >= 2 and rng.random() < c.joint:
            chosen = frozenset(said[i] for i in rng.permutation(len(said))[: 2 + int(rng.integers(2))])
            return Caption(join(chosen, self.language(rng), rng), chosen)
        return None

    def batch(self, facts_B: Sequence[frozenset[Fact]], corpora: set[str], rng: np.random.Generator) -> list[Caption]:
        """Prompts for every fact of the batch and for up to `bank` others of the same tasks, as negatives."""
        present = sorted({f for facts in facts_B for f in facts if f[0] != "text" and known(f)})
        tasks = {t for t, _ in present}
        others = sorted({f for c in corpora for f in self.inventory.get(c, ()) if f[0] in tasks} - set(present))
        others = [others[i] for i in rng.permutation(len(others))[: self.config.bank] if known(others[i])]
        out = [
            Caption(verbalize(f, self.language(rng), rng), frozenset({f}))
            for f in present
            for _ in range(self.config.prompts)
        ]
        return out + [Caption(verbalize(f, self.language(rng), rng), frozenset({f})) for f in others]


def judge(
    caption: frozenset[Fact], clip: frozenset[Fact], inventory: frozenset[Fact], open_tasks: frozenset[str]
) -> int:
    """1: the caption is true of the clip; 0: undecided; -1: false.

    Args:
        caption: the facts claimed.
        clip: the facts the clip is labelled with.
        inventory: the facts that occur in the clip's corpus: a class that it lacks is undecided for a labelled clip.
        open_tasks: tasks for which this clip is not labelled and may hold anything (speech: its emotion, its words …).
    """
    if caption <= clip:
        return 1
    labelled = {task for task, _ in clip}
    for fact in caption - clip:
        task = fact[0]
        if task in labelled:
            if task == "emotion" and fact not in inventory:
                continue
            return -1
        if task not in open_tasks:
            return -1
    return 0


def open_tasks(facts: frozenset[Fact]) -> frozenset[str]:
    """Tasks for which a clip is undecided where unlabelled: speech for every speech task, a clip with nothing but a
    free text for all, labelled sounds for none."""
    if all(task == "text" for task, _ in facts):
        return SPEECH_TASKS | SOUND_TASKS
    return SPEECH_TASKS if any(task in SPEECH_TASKS for task, _ in facts) else frozenset()
