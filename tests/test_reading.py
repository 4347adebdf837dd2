"""Audio read by threads ahead of the model: the same vectors, order and errors, and nothing left running."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from tiny import tiny_zoo

from clara.errors import ClaraError
from clara.zoo.reading import AHEAD, SOURCES, read_ahead


def slowly(row: int, source: str) -> Iterator[tuple[int, str, int]]:
    for k in range(row % 3 + 1):
        time.sleep(0.002 * (5 - row % 5))  # later ones are done first
        yield row, source, k


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_order_is_kept(threads: int) -> None:
    sources = [str(i) for i in range(40)]
    expected = [piece for i, source in enumerate(sources) for piece in slowly(i, source)]
    assert list(read_ahead(sources, slowly, threads)) == expected


def test_memory_is_bounded_and_threads_end() -> None:
    made, before = [], threading.active_count()

    def endless(row: int, source: str) -> Iterator[int]:
        for k in range(10**9):
            made.append(k)
            yield k

    pieces = read_ahead((str(i) for i in range(10**9)), endless, 2)
    next(pieces)
    time.sleep(0.2)
    assert len(made) <= 2 * (AHEAD + 1) + 2
    assert threading.active_count() == before + 2 and SOURCES > 0
    pieces.close()
    assert threading.active_count() == before


def test_an_error_comes_where_its_source_stands() -> None:
    def read(row: int, source: str) -> Iterator[int]:
        if row == 5:
            raise ClaraError("the sixth")
        yield row

    found = []
    with pytest.raises(ClaraError, match="the sixth"):
        for piece in read_ahead([str(i) for i in range(30)], read, 2):
            found.append(piece)
    assert found == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("long", ["windows", "center"])
def test_vectors_are_the_same_bit_by_bit(tmp_path: Path, long: str) -> None:
    zoo, rng = tiny_zoo(tmp_path / "zoo"), np.random.default_rng(0)
    (tmp_path / "clips").mkdir()
    for i in range(12):
        sf.write(tmp_path / "clips" / f"{i}.wav", 0.1 * rng.standard_normal(4000 * (i + 1)), 16000)
    zoo.readers = 0
    alone = zoo.embed_audio(tmp_path / "clips", long=long)
    zoo.readers = 3
    assert torch.equal(zoo.embed_audio(tmp_path / "clips", long=long), alone)
    with (tmp_path / "clips" / "3.wav").open("rb") as file:  # one open file, twice: it has one place
        assert torch.allclose(*zoo.embed_audio([file, file], long=long))
