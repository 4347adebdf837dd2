"""The text stage: two texts of one meaning, drawn alike every time, come closer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

import clara
from clara.errors import ClaraError
from clara.text.captions import CaptionConfig, Captioner
from clara.train.align import AlignConfig, align, draw, facts_of_task

RECIPE = {
    "model": "clara-small", "steps": 25, "counts": {"emotion": 9, "sound": 20}, "pairs": 2, "threads": 2,
    "captions": {"languages": ["en", "de"]}, "optim": {"lr": 1.0e-3, "warmup_steps": 2},
}  # fmt: skip


def test_batches_are_seeded_and_parallel() -> None:
    config = AlignConfig("test-conv", 1, "x", {"emotion": 9, "word": 5}, pairs=3)
    captioner = Captioner(CaptionConfig(), {})
    one, two, tasks = draw(config, captioner, 4)
    assert (one, two, tasks) == draw(config, captioner, 4) and one != draw(config, captioner, 5)[0]
    assert tasks.count("emotion") == 9 and len(one) == len(two) == len(tasks)
    assert 9 + 5 < len(one) <= 9 + 5 + 3 and one != two


def test_a_word_is_another_fact_in_every_language() -> None:
    facts = facts_of_task("word")
    assert ("word", "ar:zero") in facts and ("word", "lt:zero") in facts
    with pytest.raises(ClaraError, match="'emotion'"):
        facts_of_task("emotoin")


def test_translations_come_closer(tmp_path: Path) -> None:
    def closeness(steps: int) -> float:
        recipe = tmp_path / f"{steps}.yaml"
        recipe.write_text(yaml.safe_dump({**RECIPE, "steps": steps, "out": str(tmp_path / f"out{steps}")}))
        zoo = clara.load(f"dir:{align(recipe)}")
        english = zoo.embed_text(["someone speaks angrily", "the sound of rain", "the sound of a siren"])
        german = zoo.embed_text(["jemand spricht wütend", "das Geräusch: Regen", "das Geräusch: Sirene"])
        cosine = english @ german.T
        return float(cosine.diagonal().mean() - cosine[~torch.eye(3, dtype=torch.bool)].mean())

    assert closeness(25) > closeness(1) + 0.1
