"""Every language file is whole: all keys, no two equal labels, templates with their slot."""

from __future__ import annotations

import itertools
import re
import string
import unicodedata
from collections import Counter

import pytest

from clara.errors import ClaraError
from clara.text.captions import CaptionConfig, Captioner
from clara.text.prompts import (
    FOLDER,
    TASKS,
    fill,
    language_code,
    languages,
    load_language,
    own_prompts,
    prompts,
    slots,
    task_labels,
)

SCRIPTS = {
    "am": ("ETHIOPIC",),
    **dict.fromkeys(("ar", "fa", "ur"), ("ARABIC",)),
    **dict.fromkeys(("bg", "kk", "mn", "ru", "uk"), ("CYRILLIC",)),
    "bn": ("BENGALI",),
    "el": ("GREEK",),
    "he": ("HEBREW",),
    **dict.fromkeys(("hi", "mr"), ("DEVANAGARI",)),
    "ja": ("CJK", "HIRAGANA", "KATAKANA"),
    "ka": ("GEORGIAN",),
    "ko": ("HANGUL",),
    "or": ("ORIYA",),
    "ta": ("TAMIL",),
    "te": ("TELUGU",),
    "th": ("THAI",),
    "zh": ("CJK",),
}


@pytest.mark.parametrize("code", languages())
@pytest.mark.parametrize("task", TASKS)
def test_every_language_has_every_label_and_template(code: str, task: str) -> None:
    language = load_language(code)
    assert set(language.terms[task]) == set(task_labels(task))
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


@pytest.mark.parametrize("code", languages())
def test_said_and_over_lines_hold_their_slots(code: str) -> None:
    language = load_language(code)
    assert len(language.said) >= 3 and len(set(language.said)) == len(language.said)
    assert len(language.over) >= 3 and len(set(language.over)) == len(language.over)
    for line in language.said:
        assert Counter(slot_list(line)) == Counter(slots(line)), f"a slot twice: {line}"
        assert slots(line) - {"speaker", "text"} in ({"adj"}, {"adv"}, {"noun"}), line
        assert slots(line) >= {"speaker", "text"}, line
        for term in language.terms["emotion"].values():
            assert slots(line) - {"speaker", "text"} <= set(term.forms), line
    for line in language.over:
        assert sorted(slot_list(line)) == ["sound", "speech"], line


def test_forty_nine_languages_say_how_strong_an_emotion_is() -> None:
    assert {c for c in languages() if not load_language(c).degrees} == {"ga", "gn", "or", "yo"}
    for code in languages():
        degrees = load_language(code).degrees
        assert set(degrees) <= {"low", "high", "without"} and (not degrees or "high" in degrees), code
        assert set(degrees.get("without", ())) <= set(task_labels("emotion")), code
        lines = (*degrees.get("low", ()), *degrees.get("high", ()))
        assert all(slot_list(line) == [""] for line in lines) and len(set(lines)) == len(lines), code
        assert not degrees or any("{adj}" in line for line in load_language(code).templates["emotion"]), code


def slot_list(line: str) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(line) if name is not None]


@pytest.mark.parametrize("code", languages())
def test_emotions_have_every_form_and_every_language_is_named(code: str) -> None:
    language = load_language(code)
    for key, term in language.terms["emotion"].items():
        assert set(term.forms) == {"adj", "noun", "adv"}, key
    assert set(languages()) <= set(language.terms["language"])
    for task, terms in language.terms.items():
        for key, term in terms.items():
            for name in itertools.chain(term.names, *term.forms.values()):
                assert isinstance(name, str) and name == name.strip() != "" and "  " not in name, (task, key, name)


@pytest.mark.parametrize("code", languages())
def test_words_are_in_the_script_of_the_language(code: str) -> None:
    """A line pasted from another file shows here: most letters are of the script that the language's own name has."""
    language = load_language(code)
    scripts = SCRIPTS.get(code, ("LATIN",))
    for task in TASKS:
        texts = [n for term in language.terms[task].values() for n in term.names[:1]] + list(language.templates[task])
        letters = [c for text in texts for c in re.sub(r"{\w*}", "", text) if c.isalpha()]
        own = sum(unicodedata.name(c).startswith(scripts) for c in letters)
        assert own > 0.9 * len(letters), (task, own, len(letters))


def test_the_table_of_languages_is_whole() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\w+) \| ([^|]+) \| [^|]+ \| ([^|]+) \|$", text, flags=re.M)
    rows = [row for row in rows if row[0] != "code"]
    assert [code for code, _, _ in rows] == languages()
    for code, name, checked in rows:
        language = load_language(code)
        assert (name, checked) == (language.english_name, " ".join(language.checked.split()))


def test_fifty_three_languages() -> None:
    assert len(languages()) >= 53


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


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("de", "de"), ("DE", "de"), ("German", "de"), (" deutsch", "de"), ("de-AT", "de"), ("pt_BR", "pt"),
        ("pt_BR.UTF-8", "pt"), ("zh-Hans", "zh"), ("cmn-Hans-CN", "zh"), ("no", "nb"), ("norwegian bokmal", "nb"),
        ("Norwegian", "nb"), ("日本語", "ja"), ("हिन्दी", "hi"), ("turkce", "tr"), ("TIẾNG VIỆT", "vi"),
        ("avañe'ẽ", "gn"),
    ],
)  # fmt: skip
def test_a_language_is_found_by_code_tag_and_name(said: str, code: str) -> None:
    assert language_code(said) == code and load_language(said) is load_language(code)
    assert prompts("emotion", ["anger"], said) == prompts("emotion", ["anger"], code)


def test_every_name_is_found_and_no_two_languages_have_one() -> None:
    for code in languages():
        named = load_language(code)
        assert [language_code(name) for name in (code, named.name, named.english_name)] == [code] * 3


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("Germn", r"Did you mean 'German' \(de\)\?$"),
        ("espagnol", r"Did you mean 'Spanish' \(es\)\?$"),
        ("deu", "Did you mean 'eu' or 'de'"),
        ("Klingon", r"Known: am, ar.*zu\.$"),
        ("", "Known: am"),
        ("-", "Known: am"),
    ],
)
def test_a_language_that_is_none_is_told_the_nearest(said: str, message: str) -> None:
    with pytest.raises(ClaraError, match=rf"Unknown language '{said}'\..*{message}"):
        load_language(said)


def test_captions_are_drawn_in_languages_by_name() -> None:
    assert Captioner(CaptionConfig(languages=("German", "pt-BR")), {}).languages == ("de", "pt")
