"""Averaged weights: the arithmetic, what is left alone, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import save_tiny

from clara.errors import ClaraError
from clara.train.average import average
from clara.zoo.factory import create_model, get_tokenizer, save_checkpoint


@pytest.fixture
def two(tmp_path: Path) -> list[str]:
    """A tiny checkpoint and another whose every float is larger by one."""
    first = f"dir:{save_tiny(tmp_path / 'a')}"
    model = create_model(first)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor += 1.0
    save_checkpoint(tmp_path / "b", model, get_tokenizer(first), "# b\n", torch.float32)
    return [first, f"dir:{tmp_path / 'b'}"]


@pytest.mark.parametrize("part", ["all", "audio", "text"])
def test_a_part_is_averaged_and_the_rest_is_the_last_ones(part: str, two: list[str], tmp_path: Path) -> None:
    states = [create_model(n).state_dict() for n in (*two, f"dir:{average(two, [0.75, 0.25], tmp_path / 'c', part)}")]
    for name, first in states[0].items():
        inside = part == "all" or name.startswith((f"{part}.", f"{part}_head."))
        expected = (first + 0.25 if inside else states[1][name]) if first.is_floating_point() else first
        torch.testing.assert_close(states[2][name], expected)


@pytest.mark.parametrize("shares", [[0.5, 0.6], [1.5, -0.5], [1.0]])
def test_shares_must_be_shares(shares: list[float], two: list[str], tmp_path: Path) -> None:
    with pytest.raises(ClaraError, match="sum 1"):
        average(two, shares, tmp_path / "c")


def test_other_architectures_and_parts_are_refused(two: list[str], tmp_path: Path) -> None:
    with pytest.raises(ClaraError, match="of one line"):
        average(["clara-small.base", two[0]], [0.5, 0.5], tmp_path / "c")
    with pytest.raises(ClaraError, match="'audio'"):
        average(two, [0.5, 0.5], tmp_path / "c", "adio")
