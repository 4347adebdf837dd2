"""Label names and templates per language: (task, label, language) -> prompts. The words live in languages/*.yaml."""

from __future__ import annotations

import difflib
import re
import string
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from clara.config import load_yaml
from clara.errors import ClaraError, unknown

FOLDER = Path(__file__).parent / "languages"
# tags that IANA's registry replaces or groups under another, and names that are neither language's first
OLD_TAGS = {"no": "nb", "iw": "he", "in": "id", "cmn": "zh"}
OTHER_NAMES = {"Norwegian": "nb", "norsk": "nb", "Mandarin": "zh", "Farsi": "fa", "Castilian": "es", "Oriya": "or"}
TASKS = ("emotion", "sound", "instrument", "word", "language", "speaker", "arousal", "voice")


@dataclass(frozen=True)
class Term:
    """What a label is called. `names` are interchangeable, canonical first; `forms` holds adj, noun and adv where the
    language inflects (emotions)."""

    names: tuple[str, ...]
    forms: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Language:
    """One language's words: terms[task][key], templates[task], and sentences that join two things: `compose` two sounds
    {a} and {b}; `said` a {speaker}, the {text} spoken and one of {adj}, {adv}, {noun} of an emotion; `over` a filled
    emotion template {speech} and a {sound} behind it. `degrees`, where the language has them: how an emotion's first
    adjective is said to be weak ("low") or strong ("high"), but for the emotions `without`."""

    code: str
    name: str
    english_name: str
    checked: str
    terms: Mapping[str, Mapping[str, Term]]
    templates: Mapping[str, tuple[str, ...]]
    compose: tuple[str, ...]
    said: tuple[str, ...]
    over: tuple[str, ...]
    degrees: Mapping[str, tuple[str, ...]]


def languages() -> list[str]:
    """Codes of the languages that have a file, sorted."""
    return sorted(p.stem for p in FOLDER.glob("*.yaml"))


def load_language(language: str) -> Language:
    """Read one language, by anything that `language_code` knows. ClaraError for an unknown one or a malformed file."""
    return _load(language_code(language))


def language_code(language: str) -> str:
    """The code of a language: itself, a tag that begins with it ("de-AT", "pt_BR", "zh-Hans"), its English name or its
    own ("German", "deutsch"), in letters of any case and with or without their accents.

    Raises:
        ClaraError: no language with a file is called so; the nearest is named.
    """
    if not isinstance(language, str):
        raise ClaraError(f"language={language!r}: expected one code or name, such as 'de' or 'German'.")
    if code := find_language(language):
        return code
    names = _codes_by_name()
    near = difflib.get_close_matches(_plain(language), names, n=1, cutoff=0.75)
    hint = f" Did you mean {load_language(names[near[0]]).english_name!r} ({names[near[0]]})?" if near else ""
    raise ClaraError(f"{unknown('language', language, languages())}{hint}")


@cache
def find_language(language: str) -> str | None:
    """`language_code`, or None where no language is called so."""
    codes = languages()
    if language in codes:
        return language
    tag = re.split(r"[-_.@]", language.strip().lower())[0]
    found = OLD_TAGS.get(tag, tag)
    return found if found in codes else _codes_by_name().get(_plain(language))


@cache
def _codes_by_name() -> dict[str, str]:
    """Names as `_plain` writes them -> code. Read from the heads of the files: whole ones take seconds."""
    found = {_plain(name): code for name, code in OTHER_NAMES.items()}
    for code in languages():
        head = (FOLDER / f"{code}.yaml").read_text(encoding="utf-8").partition("checked:")[0]
        found |= {_plain(line.partition(": ")[2]): code for line in head.splitlines() if "name: " in line}
    return found


def _plain(name: str) -> str:
    """Small letters alone, without accents: 'Türkçe' -> 'turkce'."""
    return "".join(c for c in unicodedata.normalize("NFKD", name.casefold()) if c.isalpha())


@cache
def _load(code: str) -> Language:
    data = load_yaml(FOLDER / f"{code}.yaml")
    missing = {"code", "name", "english_name", "checked", "terms", "templates", "compose", "said", "over"} - set(data)
    if missing or data["code"] != code:
        raise ClaraError(f"{code}.yaml: missing {sorted(missing)} or its code is {data.get('code')!r}.")
    terms = {task: {key: _term(value) for key, value in keys.items()} for task, keys in data["terms"].items()}
    templates = {task: tuple(lines) for task, lines in data["templates"].items()}
    compose, said, over = (tuple(data[name]) for name in ("compose", "said", "over"))
    degrees = {key: _strings(lines) for key, lines in data.get("degrees", {}).items()}
    names = data["name"], data["english_name"], data["checked"]
    return Language(code, *names, terms, templates, compose, said, over, degrees)


def _strings(value: Any) -> tuple[str, ...]:
    return tuple(value) if isinstance(value, list) else (value,)


def _term(value: Any) -> Term:
    if isinstance(value, dict):
        forms = {form: _strings(v) for form, v in value.items()}
        return Term(forms["noun"], forms)
    return Term(_strings(value), {})


def slots(template: str) -> set[str]:
    """The slots of a template: '' for {}, else adj, noun, adv. ClaraError when braces do not balance."""
    if not isinstance(template, str):
        raise ClaraError(f"Template {template!r}: expected a text with {{}} where the label goes.")
    try:
        return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError as e:
        raise ClaraError(f"Template {template!r} cannot be read: {e}. Write the label's place as {{}}.") from e


def fill(template: str, term: Term, choice: int = 0) -> str:
    """Put a term in a template. `choice` walks through the synonyms, 0 being the canonical name."""
    values = {form: names[choice % len(names)] for form, names in term.forms.items()}
    missing = slots(template) - {""} - set(values)
    if missing:
        has = sorted(values) or "one form, {}"
        raise ClaraError(f"Template {template!r} asks for {sorted(missing)}; the label has {has}.")
    # str.format would choke on braces in a label, and treats {} and {adj} alike once split
    out = []
    for text, name, _, _ in string.Formatter().parse(template):
        out.append(text)
        if name is not None:
            out.append(values[name] if name else term.names[choice % len(term.names)])
    return "".join(out)


def task_labels(task: str) -> list[str]:
    """The keys of a task, in the order of the English file."""
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    return list(load_language("en").terms[task])


def term(task: str, label: str, language: str = "en") -> Term:
    """One label's term. ClaraError for an unknown task, label or language."""
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    known = load_language(language).terms[task]
    if label not in known:
        raise unknown(f"{task} label in {language!r}", label, known)
    return known[label]


def prompts(
    task: str, labels: Sequence[str], language: str = "en", templates: Sequence[str] | None = None
) -> list[list[str]]:
    """One list of prompts per label: every template of the task filled with the label's canonical name.

    Args:
        labels: keys of the task ("anger", "dog"), the same in every language.
        templates: instead of the language's own; each needs {} (or {adj}, {noun}, {adv} for emotions).
    """
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    lines = load_language(language).templates[task] if templates is None else templates
    for line in lines:
        if not slots(line):
            raise ClaraError(f"Template {line!r} has no slot: write {{}} where the label goes.")
    return [[fill(line, term(task, label, language)) for line in lines] for label in labels]


def own_prompts(labels: Sequence[str], templates: Sequence[str] = ("{}",)) -> list[list[str]]:
    """Prompts for a user's own label texts. ClaraError for no, empty or equal labels, or a template without {}."""
    if isinstance(labels, str) or not labels:
        raise ClaraError(f"labels={labels!r}: expected a list of at least one label.")
    if any(not isinstance(x, str) or not x.strip() for x in labels):
        raise ClaraError(f"labels={list(labels)!r}: every label must be a text that is not empty.")
    if len(set(labels)) != len(labels):
        raise ClaraError(f"labels={list(labels)!r}: two labels are equal.")
    for line in templates:
        if slots(line) != {""}:
            raise ClaraError(f"Template {line!r}: expected exactly the slot {{}} where the label goes.")
    return [[fill(line, Term((label,), {})) for line in templates] for label in labels]


def label_texts(
    labels: Sequence[str] | None = None,
    task: str | None = None,
    language: str = "en",
    templates: Sequence[str] | None = None,
    least: int = 2,
) -> tuple[list[str], dict[str, str], list[list[str]]]:
    """What a zero-shot classifier distinguishes: its K labels, the name of each by label, and the prompts of each.

    Args:
        labels: own label texts; or, with `task`, some of that task's keys (default: all).
        task: a task of the language files, such as "emotion".
        language: of the names and templates of a `task`. Own labels are used as they are.
        templates: texts with {} where the label goes; default: the language's own for a task, else the bare label.
        least: labels expected.

    Raises:
        ClaraError: neither labels nor task, fewer than `least` labels, equal or empty ones, a template without a slot,
            an unknown task, label or language.
    """
    language = language_code(language)  # an unknown one is an error even where own labels do not need it
    if isinstance(templates, str) or (templates is not None and not list(templates)):
        raise ClaraError(f"templates={templates!r}: expected a list of texts such as 'the sound of {{}}'.")
    if labels is None:
        if task is None:
            raise ClaraError("Give labels=[…] of your own, or task='emotion' (sound, instrument, word, …).")
        labels = task_labels(task)
    chosen = _checked(labels, least)
    if task is None:
        return chosen, dict(zip(chosen, chosen)), own_prompts(chosen, templates or ("{}",))
    names = {key: fill("{}", term(task, key, language)) for key in chosen}
    return chosen, names, prompts(task, chosen, language, templates)


def _checked(labels: Sequence[str], least: int = 2) -> list[str]:
    if isinstance(labels, str):
        raise ClaraError(f"labels={labels!r} is one text: expected a list such as ['dog', 'rain'].")
    if isinstance(labels, Mapping):
        raise ClaraError(f"labels={labels!r}: expected a list; of a mapping only the keys would be used.")
    labels = list(labels)
    if len(labels) < least:
        raise ClaraError(
            f"labels={labels!r}: expected at least two, for the scores say which of them fits best. For one alone ask "
            "for independent scores."
        )
    if any(not isinstance(x, str) or not x.strip() for x in labels):
        raise ClaraError(f"labels={labels!r}: every label must be a text that is not empty.")
    return labels
