"""Captions whose every sound is one of our facts are found, and no others."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from clara.text.captions import known

SCRIPT = Path(__file__).parents[1] / "recipes" / "captions_match.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("captions_match", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["captions_match"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The neighing is far but a puppy yaps", None),
        ("A puppy yaps close by", "dog@0"),
        ("Several frogs are croaking loudly, then thunder rolls", "frog@0 thunderstorm@1"),
        ("A goat bleats while rain falls", None),
        ("Rain is falling on a tin roof while a lady talks", "rain@0 female@0"),
        ("A lady and a boy talk and giggle", "female@0 child@0 laughing/female@0 laughing/child@0"),
        ("Two guys chat", "male@0 male@0"),
        ("The crowd chatters", "crowd chatter@0"),
        ("The crowd applauds as a gentleman is talking", "clapping/people@0 male@0"),
        ("A cat meows followed by a siren wailing and kids playing", "cat@0 siren@1 children playing@1"),
        ("A cat meows before a siren wails", "cat@0 siren@1"),
        ("A cat meows after a siren wails", None),  # which is first would have to be turned round
        ("A robotic voice speaks", None),
        ("A cat and a dog", None),
        ("A cat meows and hisses", None),
        ("A baby screams then laughs", None),  # a baby's laughter is none of the facts
        ("A lady speaks with laughter in the background", "female@0 laughing@0"),
        ("An engine idles then roars", None),  # no clip does both
        ("Someone pours water into a glass", "pouring water@0"),
        ("A guy plays the electric guitar as an alarm clock is ringing", "electric guitar@0 clock alarm@0"),
        ("Kids shout then more shouting", "shouting/child@0 shouting@1"),
        ("A train passes and a horn honks", None),  # no car's
        ("Loud noise", None),
        ("Rain with a strange noise", None),
    ],
)
def test_events_of_a_caption(script: ModuleType, text: str, expected: str | None) -> None:
    found = script.events_of(text)
    said = found and " ".join(f"{'/'.join(e[1:])}@{stage}" for e, stage in zip(*found, strict=True))
    assert said == expected


def test_every_event_has_words(script: ModuleType) -> None:
    events = {entry.event for entry in script.lexicon()["entries"]} - {("speech",)}
    assert all(known(event) for event in events)
    assert all(who in ("anyone", "crowd") or known(("speaker", who)) for who, _ in script.lexicon()["people"].values())


def test_captions_of_a_test_set_are_left_out(script: ModuleType, tmp_path: Path) -> None:
    train, test, out = tmp_path / "train.csv", tmp_path / "test.csv", tmp_path / "events.jsonl"
    train.write_text('id,caption\n1,A dog barks.\n2,"a cow moos, then a hen clucks"\n3,A gong\n', encoding="utf-8")
    test.write_text("file,caption_1,caption_2\nx,nothing,a dog barks\n", encoding="utf-8")
    script.main([train], [test], out)
    (line,) = [json.loads(x) for x in out.read_text(encoding="utf-8").splitlines()]
    assert line == {
        "text": "a cow moos, then a hen clucks",
        "events": [["sound", "cow"], ["sound", "hen"]],
        "stages": [0, 1],
        "order": "then",
        "source": "train",
    }
