"""Reports of users about time: bf16 on CPUs without it, and Ctrl-C in a long step."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny import tiny_zoo

import clara
from clara import layers
from clara.layers import bf16_pays


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A CPU that takes six times as long in bf16."""
    monkeypatch.setattr(layers, "_seconds_of_product", lambda dtype: 6.0 if dtype == torch.bfloat16 else 1.0)
    bf16_pays.cache_clear()
    yield
    bf16_pays.cache_clear()


def test_item_14_bf16_is_taken_where_it_pays(slow: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(UserWarning, match=r"float32 is taken instead of bf16: it takes 6\.0 times as long on this CPU"):
        assert not bf16_pays("cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not bf16_pays("cpu")  # measured and said once
    bf16_pays.cache_clear()
    monkeypatch.setattr(layers, "_seconds_of_product", lambda dtype: 1.0)
    assert bf16_pays("cpu") and bf16_pays("mps")


@pytest.mark.filterwarnings("ignore:float32 is taken")
def test_item_14_every_user_of_bf16_asks(slow: None, tmp_path: Path) -> None:
    zoo = tiny_zoo(tmp_path)
    half = clara.load(zoo.name if ":" in zoo.name else f"dir:{tmp_path}", device="cpu", precision="bfloat16")
    assert not half.half
    assert torch.equal(half.embed_text(["rain"]), zoo.embed_text(["rain"]))
    sources = [p.read_text(encoding="utf-8") for p in Path(clara.__file__).parent.rglob("*.py")]
    asking = [s for s in sources if "torch.autocast(" in s and "torch.bfloat16" in s]
    assert asking and all("bf16_pays" in s for s in asking)


STEP = """
import sys, time, hashlib
from clara.train.interrupt import Interrupt
with Interrupt() as interrupt:
    print("begun", flush=True)
    hashlib.pbkdf2_hmac("sha512", b"x", b"y", int(sys.argv[1]))  # one call, in which no handler of Python runs
    print("number", interrupt.number, flush=True)
"""


def begin(rounds: int) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", STEP, str(rounds)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.2)
    return process


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_item_14_a_long_step_answers_ctrl_c_at_once_and_ends_at_the_second() -> None:
    process = begin(1_000_000_000)
    start = time.perf_counter()
    process.send_signal(signal.SIGINT)
    assert "stopping after this step" in process.stderr.readline()
    assert time.perf_counter() - start < 5.0, "milliseconds, but for a busy machine"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 128 + signal.SIGINT
    process.stdout.close(), process.stderr.close()


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_item_14_after_one_ctrl_c_the_step_is_finished() -> None:
    process = begin(1_000_000)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=900)
    assert (process.returncode, out) == (0, f"number {int(signal.SIGINT)}\n") and error.count("stopping") == 1
