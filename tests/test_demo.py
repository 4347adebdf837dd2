"""The demo runs offline on any checkpoint, with a user's files, and says what is right and what is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from tiny import save_tiny

from clara.apps import demo
from clara.apps.synth import RATE, Clip, clips
from clara.errors import ClaraError
from clara.text.prompts import languages, task_labels
from clara.zoo.catalog import CHECKPOINT_FOLDER


@pytest.fixture(scope="module")
def made() -> list[Clip]:
    """The demo's sounds."""
    return clips()


def test_sounds_are_the_same_each_time_and_named_by_the_language_files(made: list[Clip]) -> None:
    for a, b in zip(made, clips(), strict=True):
        assert np.array_equal(a.wave, b.wave)
        assert a.wave.dtype == np.float32 and 2 * RATE <= len(a.wave) <= 6 * RATE
        assert np.isfinite(a.wave).all() and 0.5 < np.abs(a.wave).max() <= 0.61
        assert a.label in task_labels(a.task)
    assert len({c.name for c in made}) == len(made) >= 8
    assert {meant for _, meant in demo.QUERIES} <= {c.name for c in made}
    assert set(demo.LANGUAGES) <= set(languages()) and len(demo.LANGUAGES) >= 5


def test_demo_with_a_file(made: list[Clip], tmp_path: Path, wav: object, capsys: pytest.CaptureFixture[str]) -> None:
    model = save_tiny(tmp_path / "tiny")
    picture = demo.run([str(wav(1.0, name="mine.wav"))], tmp_path / "out", f"dir:{model}")
    assert picture.stat().st_size > 20000
    assert len(list((tmp_path / "out").glob("*.wav"))) == len(made)
    printed = capsys.readouterr().out
    for clip in made:
        assert f"\n{clip.name} " in printed
    assert printed.count("\nmine.wav ") == len(demo.FILE_TASKS)
    marks = printed.count("✓ ") + printed.count("✗ ")
    assert marks == len(made) * len(demo.LANGUAGES)  # a user's file is neither right nor wrong
    right = sum(
        int(part.split()[-1]) for part in printed.split(f"Named as meant, of {len(made)}: ")[1].split(".")[0].split(",")
    )
    assert right == printed.count("✓ ")


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "tiny")
    with pytest.raises(ClaraError, match=r"No such audio file: .*none\.wav"):
        demo.run([str(tmp_path / "none.wav")], tmp_path / "out", f"dir:{model}")


def test_sounds_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    (tmp_path / "rain.wav").mkdir()
    with pytest.raises(ClaraError, match=r"rain\.wav cannot be written .*--out"):
        demo.run([], tmp_path, f"dir:{save_tiny(tmp_path / 'model')}")


def test_tables_align_scripts() -> None:
    lines = demo.table([["a", "b"], ["犬の声", "x"], ["é", "y"]]).splitlines()
    assert lines[2:] == ["犬の声  x", "é       y"]
    assert demo.width("e\u0301") == 1


def test_a_tone_is_where_it_belongs() -> None:
    picture = demo.spectrogram(np.sin(2 * np.pi * 2000 * np.arange(RATE) / RATE))
    assert abs(picture.mean(1).argmax() / 256 * 8000 - 2000) < 40 and picture.max() == pytest.approx(0.0)


@pytest.mark.skipif(not (CHECKPOINT_FOLDER / "clara-small.base").is_dir(), reason="no trained checkpoint here")
def test_the_trained_checkpoint_hears_what_is_meant(
    made: list[Clip], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.run([], tmp_path, "clara-small.base")
    printed = capsys.readouterr().out
    assert f"clara-small.base: {len(made)} sounds" in printed
    right = int(re.search(r"Named as meant, of \d+: en (\d+)", printed)[1])
    assert right >= 4, "imitations, so not all of them; chance is below one"
