"""Captions of a sample, and what each of them claims.

A *fact* is a pair (task, key): ("emotion", "anger"), ("sound", "dog"), ("word", "ar:zero"), ("language", "pl"). A
caption claims a set of facts. It is a **positive** of every clip that has all of them, whichever clip it was written
for; it is **undecided**, neither positive nor negative, of a clip that was never labelled for what it claims. So two
angry clips are not negatives of each other's captions, and a corpus that holds no surprise does not teach that its
speakers cannot be surprised. A free text claims itself: ("text", the text).
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from clara.errors import ClaraError
from clara.text.free_texts import load_free_texts
from clara.text.prompts import Term, fill, languages, load_language, task_labels

Fact = tuple[str, str]
SPEECH_TASKS = frozenset({"emotion", "intensity", "language", "speaker", "arousal", "word", "voice"})
SOUND_TASKS = frozenset({"sound", "instrument"})
ATTRIBUTES = frozenset({"language", "speaker", "voice"})
# What a label of these tasks rules out; of the others of its task it says nothing (a low voice may be fast or not).
EXCLUDES = {
    "voice": (("high", "low"), ("loud", "quiet"), ("fast", "slow"), ("bright", "dark"), ("monotonous", "lively")),
    "speaker": (("male", "female"), ("child", "adult", "elderly")),
}
# Sounds that a voice makes: nobody measured whether it was high or loud.
VOCAL = ("crying baby", "sneezing", "coughing", "laughing", "sighing", "throat clearing", "screaming", "whispering",
         "singing", "humming", "gasping", "groaning", "shouting", "cheering", "crowd chatter", "choir", "sobbing",
         "children playing")  # fmt: skip
# How strongly an emotion is acted, as corpora call it under `original.intensity` or `.level`. The middle is not said.
INTENSITIES = {
    **dict.fromkeys(("low", "weak", "mild"), "low"),
    **dict.fromkeys(("medium", "moderate", "normal"), "medium"),
    **dict.fromkeys(("high", "strong", "intense"), "high"),
}
CHILD, ELDERLY = 13, 65  # years: younger than this, at least this
COMMAS = {"zh": "、", "ja": "、", "ar": "، ", "fa": "، ", "ur": "، "}


@dataclass(frozen=True)
class Caption:
    """A text and the facts it claims."""

    text: str
    facts: frozenset[Fact]


@dataclass(frozen=True)
class CaptionConfig:
    """Which text of a sample is trained on. Probabilities are per sample and step."""

    languages: tuple[str, ...] = ()
    """Languages of generated captions; empty = every language that has a file."""
    original: float = 0.5
    """Probability of one of the sample's own captions."""
    augmented: float = 0.5
    """Probability of one of its augmented captions."""
    visual: float = 0.5
    """Probability of a caption of what is seen."""
    joint: float = 0.25
    """Probability of one sentence that claims several facts, or how strong an emotion is."""
    composed: float = 0.8
    """Probability of one caption for both sounds of a mixed clip, or for a voice and the sound behind it."""
    said: float = 0.0
    """Probability of a caption that quotes the transcript with speaker and emotion."""
    transcript: float = 0.0
    """Probability of the transcript alone."""
    prompts: int = 1
    """Single-fact prompts per fact of the batch."""
    bank: int = 64
    """Most facts of other classes added as negatives."""
    attributes: float = 0.3
    """Probability that language, speaker and measured voice are captioned at all, lest they crowd out emotion."""
    english: float = 0.25
    """Probability that a caption is English, whatever the other languages."""
    free: float = 0.0
    """Probability that a single fact is worded by a free text instead of a template (clara.text.free_texts)."""
    texts: str | None = None
    """Folder of the free texts; null = none."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.free <= 1.0:
            raise ClaraError(f"captions.free={self.free}: expected a probability, 0 to 1.")
        if self.free > 0 and self.texts is None:
            raise ClaraError(
                f"captions.free={self.free} without texts: set captions.texts, such as recipes/train/texts."
            )


def facts_of(meta: Mapping[str, Any]) -> frozenset[Fact]:
    """The facts that a sample's labels state: emotion and its intensity, label under its task, language, gender and age
    of speech, what was measured of the voice (`original.acoustics.voice`, see clara.data.acoustics), and those of a
    mixture by name (`original.facts`: "sound/rain", "speaker/male", …, see clara.data.scenes)."""
    facts: set[Fact] = set()
    task, label, language = meta.get("task"), meta.get("label"), meta.get("language")
    original = meta.get("original") or {}
    if meta.get("emotion"):
        facts.add(("emotion", meta["emotion"]))
        facts |= {("intensity", degree)} if (degree := _intensity(meta["emotion"], original)) else set()
    if label and task in SOUND_TASKS | {"arousal"}:
        facts.add((task, label))
    if task in SOUND_TASKS and not label and isinstance(original.get("labels"), list | tuple):
        # several sounds; corpora whose words are none of our keys leave them to their captions
        several = {(task, str(key)) for key in original["labels"]}
        facts |= several if all(map(known, several)) else set()
    if label and task == "word" and language:
        facts.add(("word", f"{language}:{_word_key(language).get(_bare(label), label)}"))
    if language and language in load_language("en").terms["language"]:
        facts.add(("language", language))
    if meta.get("gender") in load_language("en").terms["speaker"]:
        facts.add(("speaker", meta["gender"]))
    if age := _age(meta.get("age")):
        facts.add(("speaker", age))
    measured = original.get("acoustics")
    if isinstance(measured, Mapping):
        facts |= {("voice", str(key)) for key in measured.get("voice", ())}
    facts |= _named_facts(original)
    return frozenset(facts)


def _named_facts(original: Mapping[str, Any]) -> set[Fact]:
    """The facts under `original.facts`; what else other sets keep there names none."""
    names = original.get("facts")
    parts = [str(n).partition("/") for n in names] if isinstance(names, list | tuple) else []
    return {(task, key) for task, _, key in parts if task in SPEECH_TASKS | SOUND_TASKS and known((task, key))}


@cache
def _word_key(language: str) -> dict[str, str]:
    """Names of the language's words -> key: a corpus may label "nulis" what its language file calls zero."""
    terms = load_language(language).terms["word"] if language in languages() else {}
    found = {_bare(name): key for key, term in reversed(list(terms.items())) for name in reversed(term.names)}
    return found | {key: key for key in terms}


def _bare(word: str) -> str:
    return word.replace("_", " ").casefold()


def _intensity(emotion: str, original: Mapping[str, Any]) -> str | None:
    told = next((original[k] for k in ("intensity", "level") if isinstance(original.get(k), str)), "")
    sayable = emotion != "neutral" and known(("emotion", emotion))
    return INTENSITIES.get(told.strip().lower()) if sayable else None


def _age(age: str | None) -> str | None:
    """'child' or 'elderly' of an age in years or in words. Other adults need no saying."""
    if age in ("child", "elderly"):
        return age
    years = float(age) if age and age.replace(".", "", 1).isdecimal() else None
    return None if years is None else "child" if years < CHILD else "elderly" if years >= ELDERLY else None


def known(fact: Fact) -> bool:
    """Whether the language files can put this fact into words. An intensity is said with its emotion only."""
    task, key = fact
    return task == "word" or (task != "intensity" and key in task_labels(task))


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


def degree_of(facts: Iterable[Fact], language: str) -> Fact | None:
    """The intensity among `facts`, where `language` can say it of the emotion beside it."""
    said, degrees = dict(facts), load_language(language).degrees
    if said.get("intensity") not in degrees or said.get("emotion") in (None, *degrees.get("without", ())):
        return None
    return "intensity", said["intensity"]


def _with_degree(emotion: str, degree: str, language: str, rng: np.random.Generator) -> Term:
    """The term of "very angry", in the adjective's form alone."""
    lang = load_language(language)
    adjective, lines = lang.terms["emotion"][emotion].forms["adj"][0], lang.degrees[degree]
    name = lines[rng.integers(len(lines))].replace("{}", adjective)
    return Term((name,), {"adj": (name,)})


def join(facts: Iterable[Fact], language: str, rng: np.random.Generator) -> str:
    """One text that claims all `facts`: two sounds by the language's `compose`, what is said of a voice in one phrase
    ("a low, quiet voice"), an emotion with its intensity ("a very angry voice"), other facts as a list of phrases."""
    facts = sorted(facts)
    if degree := degree_of(facts, language):
        emotion = next(f for f in facts if f[0] == "emotion")
        lines = [x for x in load_language(language).templates["emotion"] if "{adj}" in x]
        phrase = fill(lines[rng.integers(len(lines))], _with_degree(emotion[1], degree[1], language, rng))
        rest = [f for f in facts if f not in (emotion, degree)]
        phrases = [phrase, *([join(rest, language, rng)] if rest else [])]
        return ", ".join(phrases[i] for i in rng.permutation(len(phrases)))
    voice = [f for f in facts if f[0] == "voice"]
    if len(voice) > 1:
        others = [verbalize(f, language, rng) for f in facts if f[0] != "voice"]
        phrases = [*others, _voice_phrase([voice[i][1] for i in rng.permutation(len(voice))], language, rng)]
        return ", ".join(phrases[i] for i in rng.permutation(len(phrases)))
    sounds = [f for f in facts if f[0] in SOUND_TASKS]
    if len(facts) == 2 and len(sounds) == 2:
        lang = load_language(language)
        first, second = (sounds[i] for i in rng.permutation(2))
        line = lang.compose[rng.integers(len(lang.compose))]
        names = [lang.terms[t][k].names for t, k in (first, second)]
        a, b = (n[rng.integers(len(n))] for n in names)
        return line.replace("{a}", a).replace("{b}", b)
    return ", ".join(verbalize(facts[i], language, rng) for i in rng.permutation(len(facts)))


def _voice_phrase(keys: Sequence[str], language: str, rng: np.random.Generator) -> str:
    lang = load_language(language)
    line = lang.templates["voice"][rng.integers(len(lang.templates["voice"]))]
    names = [lang.terms["voice"][k].names for k in keys]
    return fill(line, Term((COMMAS.get(language, ", ").join(n[rng.integers(len(n))] for n in names),), {}))


def over(speech: Fact, sound: Fact, language: str, rng: np.random.Generator) -> str:
    """One text for a voice with a sound behind it: "an angry voice, with rain in the background"."""
    lang = load_language(language)
    line = lang.over[rng.integers(len(lang.over))]
    names = lang.terms[sound[0]][sound[1]].names
    values = {"speech": verbalize(speech, language, rng), "sound": names[rng.integers(len(names))]}
    return _fill_slots(line, values)


def said(
    emotion: str, speaker: str, text: str, language: str, rng: np.random.Generator, degree: str | None = None
) -> str:
    """One text that quotes what is said: "the woman says “…” in a frightened voice". `emotion`, `speaker` and `degree`
    are keys, `text` stays in the language that is spoken. A degree must be sayable (`degree_of`), in a line with {adj}.
    """
    lang = load_language(language)
    lines = [x for x in lang.said if "{adj}" in x] if degree else lang.said
    line = lines[rng.integers(len(lines))]
    term = _with_degree(emotion, degree, language, rng) if degree else lang.terms["emotion"][emotion]
    choice, forms = int(rng.integers(12)), term.forms
    values = {form: names[choice % len(names)] for form, names in forms.items()}
    return _fill_slots(line, values | {"speaker": lang.terms["speaker"][speaker].names[0], "text": text})


def _fill_slots(line: str, values: Mapping[str, str]) -> str:
    """Named slots at once, so that braces within a text are left as they are."""
    return "".join(
        text + (values[name] if name is not None else "") for text, name, _, _ in string.Formatter().parse(line)
    )


class Captioner:
    """Draws the captions of a batch by a `CaptionConfig`; everything random comes from the generator passed in."""

    def __init__(self, config: CaptionConfig, inventory: Mapping[str, frozenset[Fact]]) -> None:
        """`inventory`: the facts that occur in each corpus, over all its clips."""
        self.config, self.inventory = config, inventory
        # an unknown language fails here, not in step 900
        self.languages = tuple(load_language(code).code for code in config.languages or languages())
        self.texts = load_free_texts(config.texts) if config.texts is not None and config.free > 0 else {}

    def language(self, rng: np.random.Generator) -> str:
        """A caption language: English with probability `english`, else any."""
        if "en" in self.languages and rng.random() < self.config.english:
            return "en"
        return self.languages[rng.integers(len(self.languages))]

    def free_text(self, fact: Fact, language: str, rng: np.random.Generator) -> str | None:
        """One of the fact's free texts, with probability `free`; None where none is drawn or `language` has none."""
        texts = self.texts.get(language, {}).get(fact, ())
        return texts[rng.integers(len(texts))] if texts and rng.random() < self.config.free else None

    def say(self, fact: Fact, rng: np.random.Generator) -> Caption:
        """A caption of this fact alone, free or by a template, in a language drawn."""
        language = self.language(rng)
        text = self.free_text(fact, language, rng)
        return Caption(verbalize(fact, language, rng) if text is None else text, frozenset({fact}))

    def heard(self, facts: frozenset[Fact], rng: np.random.Generator) -> frozenset[Fact]:
        """A clip's facts of this step: language, speaker and voice are dropped with probability 1 - `attributes`."""
        if rng.random() < self.config.attributes or not any(t not in ATTRIBUTES for t, _ in facts):
            return facts
        return frozenset(f for f in facts if f[0] not in ATTRIBUTES)

    def own(self, meta: Mapping[str, Any], facts: frozenset[Fact], rng: np.random.Generator) -> Caption | None:
        """The caption written for this clip alone, if one is drawn. Two sounds are captioned together, mostly, and so
        are a voice and the sound behind it."""
        c = self.config
        # the text of a mixture names its sounds already
        sounds = frozenset(
            f for f in facts if f[0] in SOUND_TASKS and known(f) and f not in _named_facts(meta.get("original") or {})
        )
        if len(sounds) == 2 and rng.random() < c.composed:
            return Caption(join(sounds, self.language(rng), rng), sounds)
        speech = sorted(f for f in facts if f[0] in ("emotion", "language", "speaker", "arousal", "voice"))
        if len(sounds) == 1 and speech and rng.random() < c.composed:
            voice, (sound,) = speech[0] if speech[0][0] == "emotion" else speech[rng.integers(len(speech))], sounds
            return Caption(over(voice, sound, self.language(rng), rng), frozenset({voice, sound}))
        if c.transcript > 0 and meta.get("transcript") and rng.random() < c.transcript:
            text = meta["transcript"].strip()
            return Caption(text, frozenset({("text", text)}))
        if c.said > 0 and (quoted := self._said(meta, rng)) is not None:
            return quoted
        for field, p in (("text", c.original), ("text_augmented", c.augmented), ("visual_captions", c.visual)):
            texts = meta.get(field) or ()
            if texts and rng.random() < p:
                text = texts[rng.integers(len(texts))]
                return Caption(text, frozenset({("text", text)}))
        known_ones = [f for f in facts if f[0] != "text" and known(f)]
        strength = frozenset(f for f in facts if f[0] == "intensity")
        if len(known_ones) + len(strength) >= 2 and rng.random() < c.joint:
            chosen = frozenset(known_ones[i] for i in rng.permutation(len(known_ones))[: 2 + int(rng.integers(2))])
            language = self.language(rng)
            chosen |= {degree} if (degree := degree_of(chosen | strength, language)) else frozenset()
            return Caption(join(chosen, language, rng), chosen) if len(chosen) > 1 else None
        return None

    def _said(self, meta: Mapping[str, Any], rng: np.random.Generator) -> Caption | None:
        """A caption that quotes the transcript, where speaker and emotion are known too and it is drawn."""
        facts = facts_of(meta)
        emotion, speakers = meta.get("emotion"), sorted(f for f in facts if f[0] == "speaker")
        if not (meta.get("transcript") and emotion in task_labels("emotion") and speakers):
            return None
        if rng.random() >= self.config.said:
            return None
        speaker, text = speakers[rng.integers(len(speakers))], meta["transcript"].strip()
        language = self.language(rng)
        has_adjective = any("{adj}" in line for line in load_language(language).said)
        degree = degree_of(facts, language) if has_adjective else None
        line = said(emotion, speaker[1], text, language, rng, degree and degree[1])
        return Caption(line, frozenset({("text", text), ("emotion", emotion), speaker, *([degree] if degree else [])}))

    def batch(self, facts_B: Sequence[frozenset[Fact]], corpora: set[str], rng: np.random.Generator) -> list[Caption]:
        """Prompts for every fact of the batch and for up to `bank` others of the same tasks, as negatives."""
        present = sorted({f for facts in facts_B for f in facts if f[0] != "text" and known(f)})
        tasks = {t for t, _ in present}
        others = sorted({f for c in corpora for f in self.inventory.get(c, ()) if f[0] in tasks} - set(present))
        others = [others[i] for i in rng.permutation(len(others))[: self.config.bank] if known(others[i])]
        return [self.say(f, rng) for f in [*(f for f in present for _ in range(self.config.prompts)), *others]]


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
        if task in EXCLUDES and task in labelled:
            if any(fact[1] in group and {(task, k) for k in group} & clip for group in EXCLUDES[task]):
                return -1
        elif task in labelled:
            if task == "emotion" and fact not in inventory:
                continue
            return -1
        if task not in open_tasks:
            return -1
    return 0


def open_tasks(facts: frozenset[Fact]) -> frozenset[str]:
    """Tasks for which a clip is undecided where unlabelled: speech for every speech task, a clip with nothing but a
    free text for all, labelled sounds for none, but those of a voice for what it is like."""
    if all(task == "text" for task, _ in facts):
        return SPEECH_TASKS | SOUND_TASKS
    if any(task in SPEECH_TASKS for task, _ in facts):
        return SPEECH_TASKS
    return frozenset({"voice"}) if any(task == "sound" and key in VOCAL for task, key in facts) else frozenset()
