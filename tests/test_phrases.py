"""Paraphrases for development are free text: none is what the language files or the training texts say, and most avoid
the words of their label."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clara.config import load_yaml
from clara.data.manifest import Row
from clara.errors import ClaraError
from clara.eval.clips import AudioTextEmbedder, Context, DataSpec
from clara.eval.scores import Place
from clara.eval.wordings import DRAWS, load_phrases, one_text, over_kinds, worded
from clara.eval.zero_shot import ZeroShotConfig, zero_shot
from clara.report.text import headline
from clara.results import Figure
from clara.text.prompts import fill, load_language, prompts, slots, term

RECIPES = Path(__file__).parents[1] / "recipes"
FOLDER = RECIPES / "eval" / "phrases"
CODES = sorted(p.stem for p in FOLDER.glob("*.yaml"))
EMOTIONS = ("anger", "happiness", "sadness", "fear", "disgust", "surprise", "neutral", "calm", "boredom")
COUNTS = {"emotion": 5, "voice": 2, "sound": 3}
WITHOUT_LABEL = {"emotion": 3, "sound": 2}  # texts of a key that have none of its label's words, at least
WITH_SOUNDS = {"en", "de", "fr", "es", "ja", "it", "pl", "pt", "ru", "zh", "ko"}
UNSPACED = ("ja", "zh", "ko")  # words stand together, or carry particles
ESC50 = set(load_phrases(FOLDER, "en")["sound"])


def plain(text: str) -> str:
    """Letters and digits alone, in small letters."""
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum() or _is_mark(c))


def _is_mark(c: str) -> bool:
    return unicodedata.category(c).startswith("M")  # vowels of Hindi, accents


def said_by_language(code: str, task: str) -> Iterator[str]:
    """Every label of a task, in every form, alone and in every template; emotions with their degrees too."""
    language = load_language(code)
    for key, label in language.terms[task].items():
        names = {*label.names, *itertools.chain(*label.forms.values())}
        yield from names
        yield key
        for line in language.templates[task]:
            for choice in range(max(len(label.names), *(len(v) for v in label.forms.values()), 1)):
                yield fill(line, label, choice)
            if slots(line) == {""}:
                yield from (line.replace("{}", name) for name in names)
        for line in itertools.chain(*language.degrees.values()) if task == "emotion" else ():
            yield from (line.replace("{}", name) for name in names)


def training_texts(code: str) -> set[str]:
    """The texts of a language in `recipes/train/texts`: {language: {task: {key: [text, …]}}}, one file or several."""
    found: set[str] = set()
    for path in (RECIPES / "train" / "texts").glob("*.yaml"):
        data = load_yaml(path)
        data = data if path.stem != code else {code: data.get(code, data)}
        found |= set(_strings(data.get(code, {})))
    return found


def _strings(node: object) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict | list):
        for value in node.values() if isinstance(node, dict) else node:
            yield from _strings(value)


def has_words(text: str, words: str, code: str) -> bool:
    """Does a text hold these words, in a row?"""
    if code in UNSPACED:
        return len(plain(words)) > 1 and plain(words) in plain(text)
    mine, theirs = ([plain(w) for w in re.split(r"[\s'’\-–.,]+", t) if plain(w)] for t in (text, words))
    return any(mine[i : i + len(theirs)] == theirs for i in range(len(mine)))


def label_words(code: str, task: str, key: str) -> set[str]:
    label = term(task, key, code)
    return {*label.names, *itertools.chain(*label.forms.values())}


def every(code: str) -> Iterator[tuple[str, str, str]]:
    for task, keys in load_phrases(FOLDER, code).items():
        for key, texts in keys.items():
            yield from ((task, key, text) for text in texts)


def test_phrases_are_there_in_enough_languages() -> None:
    assert len(CODES) >= 15 and len(WITH_SOUNDS) >= 10
    assert len(ESC50) == 50


@pytest.mark.parametrize("code", CODES)
def test_every_key_has_its_number_of_phrases(code: str) -> None:
    found = load_phrases(FOLDER, code)
    wanted = {"emotion": set(EMOTIONS), "voice": set(load_language("en").terms["voice"])}
    wanted |= {"sound": ESC50} if code in WITH_SOUNDS else {}
    assert {task: set(keys) for task, keys in found.items()} == wanted
    assert {(task, key): len(texts) for task, keys in found.items() for key, texts in keys.items()} == {
        (task, key): COUNTS[task] for task, keys in wanted.items() for key in keys
    }


@pytest.mark.parametrize("code", CODES)
def test_no_phrase_stands_twice(code: str) -> None:
    counts = Counter(plain(text) for *_, text in every(code))
    assert not [text for text, n in counts.items() if n > 1]
    assert "" not in counts


@pytest.mark.parametrize("code", CODES)
def test_no_phrase_is_what_the_language_file_or_a_training_text_says(code: str) -> None:
    known = {plain(text) for task in COUNTS for text in said_by_language(code, task)}
    known |= {plain(text) for text in training_texts(code)}
    assert not [text for *_, text in every(code) if plain(text) in known]


@pytest.mark.parametrize("code", CODES)
def test_most_phrases_avoid_the_words_of_their_label(code: str) -> None:
    short = {}
    for task, least in WITHOUT_LABEL.items():
        for key, texts in load_phrases(FOLDER, code).get(task, {}).items():
            words = label_words(code, task, key)
            free = [text for text in texts if not any(has_words(text, w, code) for w in words)]
            if len(free) < least:
                short[task, key] = sorted(set(texts) - set(free))
    assert not short


def test_the_checks_see_templates_labels_and_their_words() -> None:
    said = {plain(text) for text in said_by_language("en", "emotion")}
    assert {plain("The speaker sounds FURIOUS!"), "rage", "withdisgust"} <= said
    assert has_words("a furious man", "furious", "en") and not has_words("an infuriating man", "furious", "en")
    assert has_words("とても怒った人", "怒った", "ja") and not has_words("전화 한 통", "화", "ko")


def test_training_texts_are_read_by_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "train" / "texts"
    folder.mkdir(parents=True)
    (folder / "all.yaml").write_text("en: {emotion: {anger: [one, two]}}\nde: {emotion: {anger: [drei]}}\n")
    (folder / "de.yaml").write_text("sound: {dog: [vier]}\n")
    monkeypatch.setattr("test_phrases.RECIPES", tmp_path)
    assert training_texts("en") == {"one", "two"}
    assert training_texts("de") == {"drei", "vier"}


# as prompts


def test_worded_gives_templates_labels_and_phrases() -> None:
    assert worded("templates", "sound", ["dog"], "en", FOLDER) == prompts("sound", ["dog"], "en")
    assert worded("labels", "sound", ["dog"], "de", FOLDER) == [[term("sound", "dog", "de").names[0]]]
    assert worded("labels", "emotion", ["anger"], "en", FOLDER) == [["anger"]]
    assert worded("paraphrases", "sound", ["rain", "dog"], "en", FOLDER)[1][0] == "a hound woofs"
    with pytest.raises(ClaraError, match="kind of prompts"):
        worded("paraphrase", "sound", ["dog"], "en", FOLDER)
    with pytest.raises(ClaraError, match="no paraphrases of sound"):
        worded("paraphrases", "sound", ["dog"], "am", FOLDER)
    with pytest.raises(ClaraError, match="No paraphrases in 'fi'"):
        worded("paraphrases", "sound", ["dog"], "fi", FOLDER)


@pytest.mark.parametrize(
    "text", ["sound: {dgo: [x]}", "sound: {dog: x}", "sounds: {dog: [x]}", "sound: [x]", "sound: {dog: ['']}"]
)
def test_a_malformed_file_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "en.yaml").write_text(text)
    with pytest.raises(ClaraError):
        load_phrases(tmp_path, "en")


def test_one_text_is_the_mean_over_single_texts() -> None:
    """Class 0 has a text that is right and one that is never chosen; class 1 has one text."""
    score = {"good": [1.0, 0.0], "bad": [-1.0, -1.0], "other": [0.5, 0.5]}
    truth_B = np.array([0, 1])

    def scores(texts: list[str]) -> torch.Tensor:
        return torch.tensor([score[t] for t in texts]).T

    accuracy, uar = one_text(Place("en/one_text"), [["good", "bad"], ["other"]], scores, truth_B, 0)
    rng = np.random.default_rng(0)
    right = [1.0 if rng.integers([2, 1])[0] == 0 else 0.5 for _ in range(DRAWS)]
    assert uar.value == pytest.approx(np.mean(right)) and 0.5 < uar.value < 1
    assert accuracy.std == pytest.approx(np.std(right, ddof=1))


def test_shares_are_of_the_first_kind() -> None:
    def given(head: str, value: float, single: float) -> list[Figure]:
        pairs = [("plain", "accuracy", value), ("plain", "uar", value / 2)]
        pairs += [("one_text", "accuracy", single), ("one_text", "uar", single / 2)]
        return [Figure("", metric, v, where=f"{head}/{end}") for end, metric, v in pairs]

    figures = given("en", 0.8, 0.6) + given("de", 0.4, 0.4)
    figures += given("labels/en", 0.4, 0.2) + given("labels/de", 0.4, 0.4)
    found = {(f.where, f.metric): f for f in over_kinds(figures, ["templates", "labels"], ["en", "de"], "uar")}
    value = {key: f.value for key, f in found.items()}
    assert value["labels/en/plain", "accuracy of templates"] == value["labels/en/plain", "uar of templates"] == 0.5
    assert value["labels/en/one_text", "uar of templates"] == 0.25
    assert value["labels/mean", "accuracy"] == pytest.approx(0.4)
    assert value["labels/mean", "accuracy of templates"] == pytest.approx(0.4 / 0.6)
    assert value["templates/mean/one_text", "accuracy"] == pytest.approx(0.5)
    assert found["labels/mean", "uar"].primary and not found["labels/mean", "accuracy"].primary
    assert not any(where.startswith("templates") and " of " in metric for where, metric in found)


class Words:
    """A checkpoint that hears a file's name: the class is its first letters. Templates are understood, paraphrases of
    rain are taken for a dog's."""

    name, sha256 = "words", "0" * 64

    def embed_audio(self, sources: list, batch_size: int = 16) -> torch.Tensor:
        return torch.stack([torch.eye(2)[int("rain" in str(s))] for s in sources])

    def embed_text(self, texts: list[str]) -> torch.Tensor:
        return torch.stack([torch.eye(2)[int("rain" in t)] for t in texts])


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    zoo: AudioTextEmbedder = Words()
    context = Context(zoo, tmp_path, RECIPES / "eval" / "free-text.yaml")
    rows = [_row(f"{label}{i}.wav", label) for label in ("dog", "rain") for i in range(3)]
    monkeypatch.setattr(context, "rows", lambda spec: rows)
    monkeypatch.setattr(context, "audio", lambda rows: zoo.embed_audio([row.audio for row in rows]))
    return context


def _row(audio: str, label: str) -> Row:
    return Row(audio, "esc50", "valid", label=label, task="sound")


def test_an_evaluation_says_each_kind_with_its_share(context: Context) -> None:
    spec = DataSpec("esc50")
    kinds = ("templates", "labels", "paraphrases")
    got = zero_shot(ZeroShotConfig(spec, "sound", languages=("en",), prompts=kinds), context)
    assert got.value("en/plain", "accuracy") == 1.0
    assert {f.where.split("/")[0] for f in got.figures} == {"en", *kinds}
    assert got.value("labels/en/plain", "accuracy of templates") == 1.0
    assert got.prompts["paraphrases/en"]["dog"] == list(load_phrases(FOLDER, "en")["sound"]["dog"])
    assert got.value("paraphrases/en/plain", "accuracy of templates") == 0.5  # no word of rain: every clip is a dog's
    lines = headline(replace(got, name="esc50"))
    (line,) = (line for line in lines if line.startswith("esc50 paraphrases en one text: accuracy 0.500"))
    assert "accuracy, share of templates 50 %" in line
    alone = zero_shot(ZeroShotConfig(spec, "sound", prompts=("paraphrases",)), context)
    assert alone.value("en/plain", "accuracy") == 0.5 and "paraphrases" not in alone.prompts


def test_kinds_of_prompts_that_do_not_go_are_refused(context: Context) -> None:
    for kinds, more in [
        ((), {}),
        (("labels", "labels"), {}),
        (("label",), {}),
        (("labels",), {"templates": ("a {}",)}),
    ]:
        with pytest.raises(ClaraError, match="prompts"):
            zero_shot(ZeroShotConfig(DataSpec("esc50"), "sound", prompts=kinds, **more), context)
