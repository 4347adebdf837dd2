"""Every language file is whole: all keys, no two equal labels, templates with their slot."""

from __future__ import annotations

import itertools

import pytest

from clara.errors import ClaraError
from clara.text.prompts import TASKS, fill, languages, load_language, own_prompts, prompts, slots, task_labels


@pytest.mark.parametrize("code", languages())
@pytest.mark.parametrize("task", TASKS)
def test_every_language_has_every_label_and_template(code: str, task: str) -> None:
    language = load_language(code)
    assert set(language.terms[task]) >= set(task_labels(task))
    assert len(language.templates[task]) >= 4
    labels = task_labels(task)
    canonical = [fill("{}", language.terms[task][k]).casefold() for k in labels]
    assert len(set(canonical)) == len(canonical), [x for x in canonical if canonical.count(x) > 1]
    for line in language.templates[task]:
        assert slots(line), line
        assert slots(line) <= ({"", "adj", "noun", "adv"} if task == "emotion" else {""}), line
    for term, line in itertools.product(language.terms[task].values(), language.templates[task]):
        text = fill(line, term)
        assert text.strip() and "{" not in text


@pytest.mark.parametrize("code", languages())
def test_compose_lines_hold_both_sounds(code: str) -> None:
    lines = load_language(code).compose
    assert len(lines) >= 5
    assert all("{a}" in line and "{b}" in line for line in lines)


def test_at_least_twelve_languages() -> None:
    assert len(languages()) >= 12


def test_prompts_speak_the_language_asked_for() -> None:
    english, german = prompts("emotion", ["anger"], "en")[0], prompts("emotion", ["anger"], "de")[0]
    assert any("angry" in p for p in english) and any("wütend" in p for p in german)
    assert prompts("word", ["yes"], "en", ["hear: {}"]) == [["hear: yes"]]
    with pytest.raises(ClaraError, match="no slot"):
        prompts("sound", ["dog"], "en", ["no place"])


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(ClaraError, match="emotion"):
        prompts("emotoin", ["anger"])
    with pytest.raises(ClaraError, match="'anger'"):
        prompts("emotion", ["angre"])
    with pytest.raises(ClaraError, match="language 'xx'"):
        prompts("emotion", ["anger"], "xx")


@pytest.mark.parametrize("labels", [[], "dog", ["dog", ""], ["dog", "dog"]])
def test_own_labels_are_checked(labels: object) -> None:
    with pytest.raises(ClaraError):
        own_prompts(labels)


def test_own_labels_may_hold_braces() -> None:
    assert own_prompts(["a {b}"], ["it is {}."]) == [["it is a {b}."]]
    with pytest.raises(ClaraError, match="slot"):
        own_prompts(["dog"], ["it is {label}"])
    with pytest.raises(ClaraError, match="cannot be read"):
        own_prompts(["dog"], ["it is {"])
