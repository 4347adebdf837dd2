"""Captions claim facts; a claim is true, false or undecided of a clip."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from clara.errors import ClaraError
from clara.text.captions import (
    EXCLUDES,
    VOCAL,
    Caption,
    CaptionConfig,
    Captioner,
    degree_of,
    facts_of,
    join,
    judge,
    open_tasks,
    over,
    said,
    verbalize,
)
from clara.text.prompts import languages, load_language, task_labels

ANGRY_POLE = facts_of({"emotion": "anger", "language": "pl", "gender": "male", "task": "emotion"})
DOG = facts_of({"label": "dog", "task": "sound"})
INVENTORY = ANGRY_POLE | {("emotion", "fear")}


def verdict(caption: set, clip: frozenset) -> int:
    return judge(frozenset(caption), clip, INVENTORY, open_tasks(clip))


def test_facts_of_labels() -> None:
    assert {("emotion", "anger"), ("language", "pl"), ("speaker", "male")} == ANGRY_POLE
    assert facts_of({"label": "zero", "task": "word", "language": "ar"}) == {("word", "ar:zero"), ("language", "ar")}
    assert facts_of({"text": ["rain"]}) == frozenset()
    mixed = {"original": {"facts": ["sound/rain", "speaker/male", "sound/nothing known", "year/1999", "rain", 3]}}
    assert facts_of(mixed) == {("sound", "rain"), ("speaker", "male")}
    assert facts_of({"original": {"facts": "sound/rain"}}) == frozenset()  # another set's word of its own
    for label, key in (("nulis", "zero"), ("Į_viršų", "up"), ("zero", "zero"), ("kita", "kita")):  # as corpora say
        assert ("word", f"lt:{key}") in facts_of({"label": label, "task": "word", "language": "lt"})


def test_a_claim_is_true_false_or_undecided() -> None:
    assert verdict({("emotion", "anger")}, ANGRY_POLE) == 1
    assert verdict({("emotion", "anger"), ("language", "pl")}, ANGRY_POLE) == 1
    assert verdict({("emotion", "fear")}, ANGRY_POLE) == -1
    assert verdict({("emotion", "surprise")}, ANGRY_POLE) == 0  # the corpus holds none: it cannot say
    assert verdict({("arousal", "high")}, ANGRY_POLE) == 0  # never labelled
    assert verdict({("arousal", "high"), ("language", "de")}, ANGRY_POLE) == -1  # one part is false
    assert verdict({("sound", "dog")}, ANGRY_POLE) == -1
    assert verdict({("emotion", "anger")}, DOG) == -1
    assert verdict({("sound", "dog")}, DOG | {("sound", "rain")}) == 1
    assert verdict({("sound", "dog"), ("sound", "rain")}, DOG) == -1
    assert verdict({("sound", "dog")}, frozenset({("text", "a kennel")})) == 0


def test_captions_are_a_function_of_the_generator() -> None:
    captioner = Captioner(CaptionConfig(languages=("en", "de")), {"x": INVENTORY})
    drawn = [captioner.batch([ANGRY_POLE], {"x"}, np.random.default_rng(3)) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert {f for c in drawn[0] for f in c.facts} == INVENTORY  # the bank adds fear, which no clip of the batch has


def test_the_texts_of_a_sample_are_drawn_by_their_probabilities() -> None:
    meta = {"text": ["original"], "text_augmented": ["augmented"], "visual_captions": ["seen"]}
    for kind, text in (("original", "original"), ("augmented", "augmented"), ("visual", "seen")):
        config = CaptionConfig(**{"original": 0.0, "augmented": 0.0, "visual": 0.0, "joint": 0.0, kind: 1.0})
        own = Captioner(config, {}).own(meta, DOG, np.random.default_rng(0))
        assert own == Caption(text, frozenset({("text", text)}))
    nothing = CaptionConfig(original=0.0, augmented=0.0, visual=0.0, joint=0.0)
    assert Captioner(nothing, {}).own(meta, DOG, np.random.default_rng(0)) is None


def test_attributes_are_dropped_unless_they_are_all_there_is() -> None:
    captioner = Captioner(CaptionConfig(attributes=0.0), {})
    assert captioner.heard(ANGRY_POLE, np.random.default_rng(0)) == {("emotion", "anger")}
    only_language = frozenset({("language", "yo")})
    assert captioner.heard(only_language, np.random.default_rng(0)) == only_language


def test_two_sounds_are_joined_in_one_sentence() -> None:
    text = join({("sound", "dog"), ("sound", "rain")}, "en", np.random.default_rng(0))
    assert "rain" in text and ("dog" in text or "bark" in text)


def test_words_are_written_as_they_are_spoken() -> None:
    assert "أمام" in verbalize(("word", "ar:forward"), "en", np.random.default_rng(0))
    assert "į apačią" in verbalize(("word", "lt:į_apačią"), "de", np.random.default_rng(0))


def test_unknown_caption_language_fails_at_once() -> None:
    with pytest.raises(ClaraError, match="'xx'"):
        Captioner(CaptionConfig(languages=("xx",)), {})


LOW_QUIET = facts_of({"language": "pl", "original": {"acoustics": {"voice": ["low", "quiet"]}}})


def test_a_voice_is_not_what_its_opposite_is_and_may_be_the_rest() -> None:
    assert {("voice", "low"), ("voice", "quiet"), ("language", "pl")} == LOW_QUIET
    assert verdict({("voice", "low"), ("voice", "quiet")}, LOW_QUIET) == 1
    assert verdict({("voice", "high")}, LOW_QUIET) == -1
    assert verdict({("voice", "fast")}, LOW_QUIET) == verdict({("voice", "trembling")}, LOW_QUIET) == 0
    assert verdict({("voice", "high")}, ANGRY_POLE) == 0  # never measured, or in the middle
    assert verdict({("voice", "high")}, DOG) == -1
    sobbing = frozenset({("sound", "sobbing")})
    assert verdict({("voice", "trembling")}, sobbing) == 0 and verdict({("emotion", "anger")}, sobbing) == -1
    assert set(VOCAL) <= set(load_language("en").terms["sound"])
    terms = load_language("en").terms
    assert {k for task, groups in EXCLUDES.items() for g in groups for k in g} <= {*terms["voice"], *terms["speaker"]}


@pytest.mark.parametrize(
    ("age", "key"), [("5", "child"), ("13", None), ("70", "elderly"), ("elderly", "elderly"), ("?", None)]
)
def test_age_is_said_where_it_is_worth_it(age: str, key: str | None) -> None:
    assert facts_of({"age": age}) == (frozenset({("speaker", key)}) if key else frozenset())
    if key:
        assert verdict({("speaker", "male")}, facts_of({"age": age})) == 0


@pytest.mark.parametrize("code", languages())
def test_every_language_speaks_of_voices_backgrounds_and_transcripts(code: str) -> None:
    rng, words = np.random.default_rng(0), load_language(code)
    low, quiet = (words.terms["voice"][k].names for k in ("low", "quiet"))
    text = join({("voice", "low"), ("voice", "quiet")}, code, rng)
    assert any(n in text for n in low) and any(n in text for n in quiet)
    behind = over(("emotion", "fear"), ("sound", "rain"), code, rng)
    assert any(n in behind for n in words.terms["sound"]["rain"].names)
    assert "{" not in behind
    quoted = said("fear", "female", "a {b} c", code, rng)
    assert "a {b} c" in quoted and words.terms["speaker"]["female"].names[0] in quoted


def test_a_transcript_is_quoted_with_speaker_and_emotion() -> None:
    meta = {"emotion": "anger", "gender": "male", "language": "pl", "transcript": " Kawa ", "text": []}
    captioner = Captioner(CaptionConfig(languages=("en",), said=1.0, joint=0.0), {})
    own = captioner.own(meta, facts_of(meta), np.random.default_rng(0))
    assert own.facts == {("text", "Kawa"), ("emotion", "anger"), ("speaker", "male")}
    assert "“Kawa”" in own.text and "man" in own.text
    clip = facts_of(meta) | {("text", "Kawa")}
    assert verdict(own.facts, clip) == 1
    assert verdict(own.facts, clip - {("emotion", "anger")} | {("emotion", "fear")}) == -1
    assert captioner.own({**meta, "gender": None}, facts_of(meta), np.random.default_rng(0)) is None


def test_a_voice_and_the_sound_behind_it_are_captioned_together() -> None:
    captioner = Captioner(CaptionConfig(languages=("en",), composed=1.0), {})
    own = captioner.own({}, ANGRY_POLE | {("sound", "rain")}, np.random.default_rng(0))
    assert own.facts == {("emotion", "anger"), ("sound", "rain")} and "rain" in own.text


STRONG = {"emotion": "anger", "gender": "male", "language": "en", "original": {"intensity": "strong"}}


@pytest.mark.parametrize(
    ("original", "emotion", "degree"),
    [
        ({"intensity": "strong"}, "anger", "high"),
        ({"intensity": "normal"}, "anger", "medium"),
        ({"level": "low"}, "fear", "low"),
        ({"level": "unspecified"}, "fear", None),
        ({"level": "7"}, "fear", None),
        ({"level": 3}, "fear", None),
        ({"level": "high"}, None, None),
        ({"level": "high"}, "neutral", None),
        ({"level": "high"}, "excitement", None),  # an emotion without words
    ],
)
def test_the_intensity_of_an_emotion_is_a_fact(original: dict, emotion: str | None, degree: str | None) -> None:
    found = {f for f in facts_of({"emotion": emotion, "original": original}) if f[0] == "intensity"}
    assert found == ({("intensity", degree)} if degree else set())


def test_very_angry_is_false_of_the_slightly_angry_and_undecided_where_nobody_says() -> None:
    very = {("emotion", "anger"), ("intensity", "high")}
    assert verdict(very, facts_of(STRONG)) == 1
    for other in ("low", "medium"):
        assert verdict(very, frozenset({("emotion", "anger"), ("intensity", other)})) == -1
    assert verdict(very, ANGRY_POLE) == 0
    assert verdict(very, frozenset({("emotion", "happiness")})) == -1 == verdict(very, DOG)
    assert verdict({("emotion", "anger")}, facts_of(STRONG)) == 1


@pytest.mark.parametrize("code", languages())
def test_an_emotion_is_said_with_its_intensity_where_the_language_can(code: str) -> None:
    language, rng = load_language(code), np.random.default_rng(0)
    for emotion, degree in itertools.product(task_labels("emotion"), ("low", "high")):
        facts = {("emotion", emotion), ("intensity", degree)}
        if degree_of(facts, code) is None:
            assert degree not in language.degrees or emotion in language.degrees["without"]
            continue
        text, adjective = join(facts, code, rng), language.terms["emotion"][emotion].forms["adj"][0]
        assert any(line.replace("{}", adjective) in text for line in language.degrees[degree])
        spoken = join(facts | {("voice", "low"), ("voice", "quiet")}, code, rng)
        assert any(line.replace("{}", adjective) in spoken for line in language.degrees[degree])
        assert any(name in spoken for name in language.terms["voice"]["quiet"].names)


def test_captions_of_a_clip_say_how_strong_its_emotion_is() -> None:
    captioner = Captioner(CaptionConfig(languages=("en",), joint=1.0), {})
    drawn = [captioner.own(STRONG, facts_of(STRONG), np.random.default_rng(i)) for i in range(40)]
    strong = [c for c in drawn if ("intensity", "high") in c.facts]
    assert strong and all(("emotion", "anger") in c.facts for c in strong)
    assert all(("very angry" in c.text or "extremely angry" in c.text) == (c in strong) for c in drawn)
    only = {"emotion": "anger", "original": {"level": "low"}}
    assert "angry" in captioner.own(only, facts_of(only), np.random.default_rng(0)).text
    medium = {"emotion": "anger", "original": {"level": "medium"}}
    assert captioner.own(medium, facts_of(medium), np.random.default_rng(0)) is None
    assert {c.facts for c in captioner.batch([facts_of(STRONG)], set(), np.random.default_rng(0))} == {
        frozenset({f}) for f in facts_of(STRONG) if f[0] != "intensity"
    }


def test_a_transcript_is_quoted_with_the_intensity() -> None:
    meta = STRONG | {"transcript": "Kids", "text": []}
    quote = Captioner(CaptionConfig(languages=("en",), said=1.0), {}).own(
        meta, facts_of(meta), np.random.default_rng(0)
    )
    assert {("text", "Kids"), ("emotion", "anger"), ("intensity", "high"), ("speaker", "male")} == quote.facts
    assert "very angry" in quote.text or "extremely angry" in quote.text
    without = Captioner(CaptionConfig(languages=("nl",), said=1.0), {})  # its lines hold no adjective
    quote = without.own(meta, facts_of(meta), np.random.default_rng(0))
    assert quote.facts == {("text", "Kids"), ("emotion", "anger"), ("speaker", "male")}
