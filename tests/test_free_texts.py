"""Free texts say facts as no template does; each is true of one fact alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clara.errors import ClaraError
from clara.text.captions import CaptionConfig, Captioner, facts_of
from clara.text.free_texts import load_free_texts
from clara.text.prompts import task_labels
from clara.train.texts import LooseConfig, Sayer

FOLDER = Path(__file__).parents[1] / "recipes" / "train" / "texts"
LEAST = {"emotion": 12, "sound": 4, "instrument": 5, "voice": 4, "speaker": 4, "arousal": 4}
LEAST_ENGLISH = {"emotion": 40, "sound": 15, "instrument": 5, "voice": 15, "speaker": 8, "arousal": 10}
ANGER = ("emotion", "anger")


@pytest.fixture
def folder(tmp_path: Path) -> str:
    (tmp_path / "en.yaml").write_text("emotion:\n  anger: [yelling at somebody, hot-tempered]\n", encoding="utf-8")
    return str(tmp_path)


def captioner(folder: str, free: float, *codes: str) -> Captioner:
    return Captioner(CaptionConfig(languages=codes, free=free, texts=folder), {})


def test_a_fact_is_said_by_a_free_text_as_often_as_asked(folder: str) -> None:
    free = {"yelling at somebody", "hot-tempered"}
    for share in (0.0, 0.5, 1.0):
        rng, speaker = np.random.default_rng(0), captioner(folder, share, "en")
        drawn = [speaker.batch([frozenset({ANGER})], set(), rng)[0] for _ in range(400)]
        assert {c.facts for c in drawn} == {frozenset({ANGER})}
        assert abs(sum(c.text in free for c in drawn) / 400 - share) < 0.08
        assert share == 0 or {c.text for c in drawn} >= free


def test_templates_say_what_has_no_free_text(folder: str) -> None:
    german, rng = captioner(folder, 1.0, "de"), np.random.default_rng(0)
    assert german.free_text(ANGER, "de", rng) is None and german.say(ANGER, rng).text
    assert "dog" in captioner(folder, 1.0, "en").say(("sound", "dog"), rng).text


def test_the_text_stage_says_free_texts_too(folder: str) -> None:
    sayer, rng = Sayer(captioner(folder, 1.0, "en"), LooseConfig(share=1.0)), np.random.default_rng(0)
    assert {sayer.say(frozenset({ANGER}), rng)[0] for _ in range(20)} == {"yelling at somebody", "hot-tempered"}


def test_without_free_texts_captions_are_drawn_as_before(folder: str) -> None:
    facts = facts_of({"emotion": "anger", "language": "pl", "task": "emotion"})
    plain = Captioner(CaptionConfig(), {}).batch([facts], set(), np.random.default_rng(5))
    assert captioner(folder, 0.0).batch([facts], set(), np.random.default_rng(5)) == plain


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("emotoin: {anger: [x]}", "emotion"),
        ("emotion: {angre: [x]}", "anger"),
        ("emotion: {anger: x}", "list of at least one text"),
        ("emotion: {anger: [no]}", "quote 'no'"),
        ("emotion: [anger]", "Unknown emotion key"),
        ("emotion: {anger: [upset], sadness: [Upset]}", "Keep one"),
    ],
)
def test_a_mistake_in_a_file_is_named(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "en.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ClaraError, match=says):
        load_free_texts(str(tmp_path))


def test_a_mistake_in_the_settings_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClaraError, match="expected a folder"):
        load_free_texts(str(tmp_path))
    (tmp_path / "xx.yaml").write_text("emotion: {anger: [x]}", encoding="utf-8")
    with pytest.raises(ClaraError, match="Unknown language"):
        load_free_texts(str(tmp_path))
    with pytest.raises(ClaraError, match=r"captions\.texts"):
        CaptionConfig(free=0.5)
    with pytest.raises(ClaraError, match="probability"):
        CaptionConfig(free=1.5, texts="x")


@pytest.mark.parametrize("code", sorted(p.stem for p in FOLDER.glob("*.yaml")))
def test_our_texts_are_enough_and_their_keys_known(code: str) -> None:
    texts = load_free_texts(str(FOLDER))[code]
    least = LEAST_ENGLISH if code == "en" else LEAST
    assert {key for task, key in texts if task == "emotion"} == set(task_labels("emotion"))
    for (task, key), lines in texts.items():
        assert len(lines) >= least[task], f"{task} {key}: {len(lines)} texts"
        assert len({line.casefold() for line in lines}) == len(lines), f"{task} {key}: a text stands twice"
        assert all(line == " ".join(line.split()) for line in lines), f"{task} {key}: spaces"
