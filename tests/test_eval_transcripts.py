"""Clips by what is said: one query a sentence, all clips with it are right, and the draw is the seed's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tone_corpus import HZ, data
from torch.nn.functional import normalize

from clara.errors import ClaraError
from clara.eval.clips import Context
from clara.eval.transcripts import TranscriptConfig, sentence_figures, transcripts
from clara.text.prompts import term

NAMES = {label: term("sound", label).names[0] for label in HZ}


def test_figures_by_hand() -> None:
    """Two sentences, three clips: the first is said by clips 0 and 2. Clip 2 lies with the other sentence."""
    text = torch.eye(2)
    audio = normalize(torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]]), dim=-1)
    found = sentence_figures(audio, text, np.array([0, 1, 0]))
    assert (
        found.value("t2a", "R@1") == 1.0 and found.outcomes["t2a"].text == "1 1"
    )  # one of its two clips is found first
    assert found.value("t2a", "mAP@10") == pytest.approx(1.0)  # and the other second
    assert found.value("a2t", "R@1") == pytest.approx(2 / 3) and found.outcomes["a2t"].text == "1 1 2"
    assert found.figure("t2a", "R@1").chance == found.figure("a2t", "R@1").chance == 0.5
    same = sentence_figures(audio, torch.ones(2, 2) / 2**0.5, np.array([0, 1, 0]))
    assert same.value("a2t", "R@1") == 0.0  # a tie counts against the query


@pytest.fixture
def spoken(context: Context, monkeypatch: pytest.MonkeyPatch) -> Context:
    """The clips of tones, each saying its sound's name."""
    rows = context.rows
    monkeypatch.setattr(context, "rows", lambda spec: [replace(r, transcript=NAMES[r.label]) for r in rows(spec)])
    return context


def test_clips_are_drawn_by_the_seed(spoken: Context) -> None:
    whole = transcripts(TranscriptConfig(data("test")), spoken)
    assert (whole.clips, whole.notes["sentences"], whole.notes["without"]) == (12, len(HZ), 0)
    assert whole.value("t2a", "R@1") == whole.value("a2t", "R@1") == 1.0 and len(whole.examples) == 8
    some = [transcripts(TranscriptConfig(data("test"), clips=7), spoken) for _ in range(2)]
    assert some[0] == some[1] and some[0].clips == 7


def test_a_translation_is_the_query(spoken: Context, corpus: Path) -> None:
    dog, rain = NAMES["dog"], NAMES["rain"]
    (corpus.parent / "en.csv").write_text(f"transcript,translation\n{dog},{rain}\n{rain},{dog}\n{NAMES['cat']},\n")
    found = transcripts(TranscriptConfig(data("test"), translations="en.csv"), spoken)
    assert (found.clips, found.notes["sentences"], found.notes["without"]) == (4, 2, 8)
    assert found.value("t2a", "R@1") == 0.0
    with pytest.raises(ClaraError, match="no such file"):
        transcripts(TranscriptConfig(data("test"), translations="gone.csv"), spoken)


def test_a_corpus_without_transcripts_is_an_error(context: Context) -> None:
    with pytest.raises(ClaraError, match="0 sentences in the field 'transcript'"):
        transcripts(TranscriptConfig(data("test")), context)
