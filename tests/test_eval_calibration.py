"""How sure an evaluated model is, beside how often it is right: in the result, and in the table of a card."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tone_corpus import SOUNDS, ToneEmbedder, data, write_corpus

from clara.eval.clips import Context
from clara.eval.zero_shot import ZeroShotConfig, zero_shot
from clara.report.drawing import reliability
from clara.report.tables import calibration_table


class Sure(ToneEmbedder):
    """Always right; how sure of it depends on its scale alone."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale


def result(tmp_path: Path, scale: float):
    folder = tmp_path / "corpus"
    corpus = folder / "data" if folder.exists() else write_corpus(folder)
    return zero_shot(ZeroShotConfig(data("test"), "sound"), Context(Sure(scale), corpus, folder / "recipe.yaml"))


def test_a_model_that_is_right_and_unsure_has_a_calibration_error(tmp_path: Path) -> None:
    unsure, sure = (result(tmp_path, scale) for scale in (0.01, 100.0))
    assert unsure.value("en/plain", "accuracy") == sure.value("en/plain", "accuracy") == 1.0
    assert unsure.value("en/plain", "ece") == pytest.approx(1 - 1 / len(SOUNDS), abs=0.01)
    assert sure.value("en/plain", "ece") < 0.01
    bins = np.array(unsure.notes["reliability"]["en/plain"])
    assert bins[:, 0].sum() == unsure.clips == 12 and bins[2].tolist() == pytest.approx([12, 1 / 6, 1], abs=0.01)


def test_the_table_has_shares_by_confidence(tmp_path: Path) -> None:
    head, line = calibration_table([result(tmp_path, 100.0)])
    assert head[2:5] == ["calibration error", "accuracy", "0.0–0.2 sure"]
    assert line[3] == "1.000" and line[4] == "–" and line[-1] == "1.00 (12)"


def test_the_picture_has_a_bar_for_each_filled_bin(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    axes = reliability(np.array(result(tmp_path, 100.0).notes["reliability"]["en/plain"])).axes[0]
    assert [round(bar.get_height(), 3) for bar in axes.patches] == [1.0]
