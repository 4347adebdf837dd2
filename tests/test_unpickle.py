"""Weights files: what is read, and what is refused by name. Nothing in a file is ever run."""

from __future__ import annotations

import argparse
import collections
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from clara.errors import ClaraError
from clara.zoo.unpickle import load_tensors, read_pickled

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b.bias": torch.ones(3, dtype=torch.float16)}


class Runs:
    """Pickled, it is a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def same(tensors: dict[str, torch.Tensor]) -> bool:
    return list(tensors) == list(STATE) and all(torch.equal(tensors[k], STATE[k]) for k in STATE)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_torch_files_of_every_age(zipped: bool, protocol: int, tmp_path: Path) -> None:
    training = {
        "epoch": 3,
        "state_dict": collections.OrderedDict(STATE),
        "best": np.float64(0.5),
        "scores": {"map": np.float32(2.0), "all": np.arange(3), "names": np.array(["x", "y"])},
        "args": argparse.Namespace(lr=1e-4),
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"betas": (0.9, 0.99)}]},
    }
    path = tmp_path / "a.pt"
    torch.save(training, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    data = read_pickled(path)
    assert (data["epoch"], data["best"], data["args"].lr) == (3, 0.5, 1e-4)
    assert data["scores"]["all"].tolist() == [0, 1, 2]
    assert data["scores"]["names"].tolist() == ["x", "y"]
    assert same(load_tensors(path, inside="state_dict"))


@pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="only Linux says what is mapped")
@pytest.mark.parametrize("old", [False, True])
def test_tensors_are_mapped_not_read(old: bool, tmp_path: Path) -> None:
    """Of a training state of many GB, what the model does not use stays on the disk: by either reader."""
    path = tmp_path / "a.ckpt"
    training = {"state_dict": STATE, "exp_avg": torch.zeros(50_000)} | ({"best": np.float64(0.5)} if old else {})
    torch.save(training, path, pickle_protocol=4 if old else 2)
    data = read_pickled(path)
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    spans = [[int(n, 16) for n in line[0].split("-")] for line in lines if line[-1] == str(path)]
    tensors = [*data["state_dict"].values(), data["exp_avg"]]
    assert all(any(low <= t.data_ptr() < high for low, high in spans) for t in tensors)
    data["state_dict"]["b.bias"].add_(1)
    assert torch.equal(load_tensors(path, inside="state_dict")["b.bias"], STATE["b.bias"]), "the file is never written"


def test_both_names_of_numpys_inner_module(tmp_path: Path) -> None:
    for old, new in ((b"numpy._core.multiarray", b"numpy.core.multiarray"), (b"", b"")):
        path = tmp_path / "a.pt"
        torch.save({"x": np.float64(0.25)}, path, pickle_protocol=2, _use_new_zipfile_serialization=False)
        path.write_bytes(path.read_bytes().replace(old, new))
        assert read_pickled(path) == {"x": 0.25}


def test_safetensors(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "a.safetensors")
    assert load_tensors(tmp_path / "a.safetensors").keys() == STATE.keys()
    (tmp_path / "b.safetensors").write_bytes(b"1234567890")
    with pytest.raises(ClaraError, match="not a readable safetensors"):
        load_tensors(tmp_path / "b.safetensors")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    ("call", "name"),
    [
        ((os.mkdir, "PLACE"), r"posix\.mkdir"),
        ((eval, "__import__('os').mkdir('PLACE')"), r"_*builtins?_*\.eval"),
        ((getattr, "x", "load"), r"_*builtins?_*\.getattr"),
        ((torch.load, "PLACE"), r"torch\.serialization\.load"),
        ((torch.hub.load, "PLACE"), r"torch\.hub\.load"),
    ],
)
def test_a_file_that_names_a_call_is_refused(call: Any, name: str, protocol: int, zipped: bool, tmp_path: Path) -> None:
    function, *arguments = call
    place = tmp_path / "made"
    arguments = [a.replace("PLACE", str(place)) if isinstance(a, str) else a for a in arguments]
    path = tmp_path / "evil.pt"
    torch.save(
        {"state_dict": STATE, "x": Runs(function, *arguments)},
        path,
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(ClaraError, match=f"evil.pt holds the global {name}: refused"):
        read_pickled(path)
    assert not place.exists()


def test_state_for_what_a_file_only_names_is_refused(tmp_path: Path) -> None:
    """BUILD on a class would change the class for the whole process."""
    path, mark = tmp_path / "evil.pt", pickle.dumps({"mark": 1}, 2)
    torch.save({"mark": 1}, path, _use_new_zipfile_serialization=False)
    state = b"\x80\x02cargparse\nNamespace\nN}X\x08\x00\x00\x00__init__K\x01s\x86b."
    assert mark in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(mark, state))
    with pytest.raises(ClaraError, match=r"state for <class 'argparse\.Namespace'>"):
        read_pickled(path)
    assert callable(argparse.Namespace.__init__)


@pytest.mark.parametrize("data", [b"hello, I am no weights", b"RIFF\x24\0\0\0WAVEfmt ", b"PK\3\4 no zip", b""])
def test_what_is_no_pickle_is_said(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(data)
    with pytest.raises(ClaraError, match=r"a\.pt is not a pickle of weights"):
        read_pickled(tmp_path / "a.pt")


def test_programs_and_broken_files_are_refused(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(1, 1)).save(str(tmp_path / "program.pt"))
    with pytest.raises(ClaraError, match="TorchScript"):
        read_pickled(tmp_path / "program.pt")
    torch.save(STATE, tmp_path / "half.pt")
    (tmp_path / "half.pt").write_bytes((tmp_path / "half.pt").read_bytes()[:300])
    with pytest.raises(ClaraError, match=r"half\.pt"):
        read_pickled(tmp_path / "half.pt")
    with pytest.raises(ClaraError, match="No such file"):
        read_pickled(tmp_path / "none.pt")


def test_what_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    torch.save({"parameters": STATE, "epoch": 1}, tmp_path / "a.pt")
    with pytest.raises(ClaraError, match="no 'model': it holds \\['epoch', 'parameters'\\]"):
        load_tensors(tmp_path / "a.pt", inside="model")
    torch.save({**STATE, "epoch": 1}, tmp_path / "a.pt")
    with pytest.raises(ClaraError, match="other things than tensors"):
        load_tensors(tmp_path / "a.pt")
    torch.save([1], tmp_path / "b.pt")
    with pytest.raises(ClaraError, match="holds list"):
        load_tensors(tmp_path / "b.pt")
