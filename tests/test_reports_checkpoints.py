"""Reports about weights files, one kind a section: item numbers are those of the list of faults."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from clara.errors import ClaraError
from clara.zoo.unpickle import read_pickled

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b.bias": torch.ones(3)}


def entry(info: zipfile.ZipInfo, at: int, comment: bytes = b"") -> bytes:
    """One entry of a zip's list of contents: a stored record whose header lies at `at`."""
    name = info.filename.encode()
    sizes = (info.CRC, info.file_size, info.file_size, len(name), 0, len(comment), 0, 0, 0, at)
    return struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 0, 20, 0, 0, 0, 0, 33, *sizes) + name + comment


def two_lists(first: bytes, second: bytes) -> bytes:
    """A zip whose end record states where the list of `first` lies, and has the list of `second` right before it."""
    archives = [zipfile.ZipFile(io.BytesIO(data)) for data in (first, second)]
    bodies = [data[: archive.start_dir] for data, archive in zip((first, second), archives)]
    lists = [b"".join(entry(i, i.header_offset) for i in a.infolist()) for a in archives]
    longest = max(map(len, lists))
    shift = len(bodies[0]) - longest  # Python adds the difference of stated and found places to every header's
    filled = []
    for archive, length, base in zip(archives, map(len, lists), (0, shift)):
        *most, last = archive.infolist()
        made = [entry(i, i.header_offset + base) for i in most]
        filled.append(b"".join([*made, entry(last, last.header_offset + base, b" " * (longest - length))]))
    count, at = len(archives[0].infolist()), sum(map(len, bodies))
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, longest, at, 0)
    return b"".join([*bodies, *filled, end])


class Told(torch.nn.Module):
    """A program whose state is set by code of its own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


def saved(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def test_16_a_program_that_only_torchs_reader_sees_is_refused(tmp_path: Path) -> None:
    program, path = io.BytesIO(), tmp_path / "a.pt"
    torch.jit.save(torch.jit.script(Told()), program)
    path.write_bytes(two_lists(program.getvalue(), saved({"x": {1: Path("a")}})))
    assert not any("constants" in n for n in zipfile.ZipFile(path).namelist())
    assert torch._C.PyTorchFileReader(str(path)).has_record("constants.pkl")
    with pytest.raises(ClaraError, match=r"a\.pt is a TorchScript program.*: refused"):
        read_pickled(path)


def test_16_a_program_that_only_zipfile_sees_is_refused(tmp_path: Path) -> None:
    program, path = io.BytesIO(), tmp_path / "a.pt"
    torch.jit.save(torch.jit.script(Told()), program)
    path.write_bytes(two_lists(saved(STATE), program.getvalue()))
    with pytest.raises(ClaraError, match=r"a\.pt (is a TorchScript program|is not a pickle|holds)"):
        read_pickled(path)


def test_16_archives_that_two_readers_see_differently_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(two_lists(saved(STATE), saved([torch.ones(4), torch.zeros(2)])))
    with pytest.raises(ClaraError, match=r"a\.pt holds (two lists of contents that differ|a record)"):
        read_pickled(path)


def test_16_no_file_reaches_the_loader_that_runs_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("a file was handed on")

    for name in ("torch.load", "torch.jit.load"):
        monkeypatch.setattr(name, never)
    for i, options in enumerate(({}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 5})):
        path = tmp_path / f"{i}.pt"
        torch.save({"x": STATE, "best": np.float64(1), "all": np.arange(3)}, path, **options)
        assert torch.equal(read_pickled(path)["x"]["a.weight"], STATE["a.weight"])


def test_16_compressed_records_are_refused_not_read_as_they_lie(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(io.BytesIO(saved({"w": torch.zeros(4000)}))) as old, zipfile.ZipFile(path, "w", 8) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(ClaraError, match="compressed record"):
        read_pickled(path)


class Made:
    """Pickled as the call of a global with arguments, and a state."""

    def __init__(self, name: str, arguments: tuple, state: Any = None) -> None:
        self.name, self.arguments, self.state = name, arguments, state

    def __reduce__(self) -> Any:
        return Global(self.name), self.arguments, self.state


class Global:
    """Pickled as a global by its name alone."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self) -> None: ...


class Pickler(pickle._Pickler):
    """Writes `Global` as what it names, though nothing of that name need be here, and storages of torch."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_named(self, value: Global) -> None:
        module, _, name = value.name.rpartition(".")
        self.write(pickle.GLOBAL + f"{module}\n{name}\n".encode())

    dispatch[Global] = save_named

    def persistent_id(self, value: Any) -> Any:
        return value.arguments if isinstance(value, Made) and value.name == "storage" else None


def crafted(value: Any, path: Path, records: dict[str, bytes] | None = None) -> Path:
    """A torch file that holds `value`, pickled as it is."""
    good = zipfile.ZipFile(io.BytesIO(saved(torch.zeros(4))))
    buffer = io.BytesIO()
    Pickler(buffer, 2).dump(value)
    with zipfile.ZipFile(path, "w") as new:
        for name in good.namelist():
            data = buffer.getvalue() if name.endswith("data.pkl") else good.read(name)
            new.writestr(name, (records or {}).get(name.partition("/")[2], data))
    return path


ADDRESS = struct.pack("<Q", id(STATE))
ARRAY = ("numpy._core.multiarray._reconstruct", (Global("numpy.ndarray"), (0,), b"b"))
PLAIN, OBJECT = Made("numpy.dtype", ("f8", False, True)), Made("numpy.dtype", ("O", False, True))
OBJECT_BY_STATE = Made("numpy.dtype", ("V8", False, True), (3, "|", None, ("x",), {"x": (OBJECT, 0)}, 8, 1, 27))


@pytest.mark.parametrize(
    "value",
    [
        Made(*ARRAY, (1, (1,), OBJECT, False, ADDRESS)),
        Made(*ARRAY, (1, (1,), OBJECT, False, [1])),
        Made(*ARRAY, (1, (1,), OBJECT_BY_STATE, False, ADDRESS)),
        Made(*ARRAY, (1, (1,), Made("numpy.dtype", ("i4,O", False, True)), False, ADDRESS * 2)),
        Made(*ARRAY, (1, (2,), PLAIN, False, ADDRESS)),
        Made(*ARRAY, (1, (-1, -1), PLAIN, False, ADDRESS)),
        Made(*ARRAY, (1, (2**40,), PLAIN, False, ADDRESS)),
        Made("numpy.ndarray", ((1,), OBJECT, ADDRESS)),
        Made("numpy.ndarray", ((2**40,), PLAIN)),
        Made("numpy._core.multiarray.scalar", (OBJECT, ADDRESS)),
        Made("numpy._core.multiarray.scalar", (OBJECT_BY_STATE, ADDRESS)),
        Made("numpy._core.numeric._frombuffer", (ADDRESS, OBJECT, (1,), "C")),
        Made("numpy._core.numeric._frombuffer", (ADDRESS, PLAIN, (2,), "C")),
    ],
)
def test_17_arrays_of_objects_or_beyond_their_bytes_are_refused(value: Made, tmp_path: Path) -> None:
    with pytest.raises(ClaraError, match=r"a\.pt holds (an array|a dtype|a call)"):
        read_pickled(crafted({"x": value}, tmp_path / "a.pt"))


STORAGE = Made("storage", ("storage", Global("torch.FloatStorage"), "0", "cpu", 4))


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (5,), (1,)),
        (1, (4,), (1,)),
        (0, (2, 2), (4, 1)),
        (-1, (1,), (1,)),
        (0, (2,), (-1,)),
        (0, (2**40,), (0,)),
        (0, (2**40, 2**40), (2**40, 2**40)),
        (0, (2, 2), (1,)),
        (2**63, (1,), (1,)),
        (0, (-1,), (1,)),
        (0.0, (1,), (1,)),
    ],
)
@pytest.mark.parametrize("function", ["_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"])
def test_17_tensors_beyond_their_storage_are_refused(
    offset: Any, size: Any, stride: Any, function: str, tmp_path: Path
) -> None:
    more = {"_rebuild_tensor": (), "_rebuild_tensor_v2": (False, {}), "_rebuild_tensor_v3": (False, {})}[function]
    more += (Global("torch.float32"),) if function.endswith("3") else ()
    value = Made(f"torch._utils.{function}", (STORAGE, offset, size, stride, *more))
    with pytest.raises(ClaraError, match=r"a\.pt holds a tensor of size"):
        read_pickled(crafted({"x": value}, tmp_path / "a.pt"))


def test_17_a_storage_beyond_its_record_is_refused(tmp_path: Path) -> None:
    for numel, message in (
        (5, "5 elements in 16 bytes"),
        (2**60, "elements in 16 bytes"),
        (-1, "unknown type or size"),
    ):
        storage = Made("storage", ("storage", Global("torch.FloatStorage"), "0", "cpu", numel))
        with pytest.raises(ClaraError, match=message):
            read_pickled(crafted({"x": storage}, tmp_path / "a.pt"))


@pytest.mark.parametrize(
    "value",
    [
        Made("builtins.bytes", (2**40,)),
        Made("builtins.bytearray", (2**40,)),
        Made("torch.nn.parameter.Parameter", (2**40,)),
        Made("builtins.str", ([[]],)),
        Made("builtins.dict", ([[((((1,),),),), 1]],)),
    ],
)
def test_17_nothing_is_made_that_the_file_has_no_bytes_for(value: Made, tmp_path: Path) -> None:
    with pytest.raises(ClaraError, match=r"a\.pt holds "):
        read_pickled(crafted({"x": value}, tmp_path / "a.pt"))


def test_17_what_numpy_and_torch_write_is_read(tmp_path: Path) -> None:
    base, flag = torch.arange(12.0), torch.nn.Parameter(torch.ones(2))
    flag.note = "kept by some trainers"
    values = {
        "turned": base.reshape(3, 4).T,
        "part": base[2:6],
        "flag": flag,
        "none": torch.zeros(0, 3),
        "one": torch.tensor(7, dtype=torch.int64),
        "wide": torch.ones(2, dtype=torch.bfloat16),
        "short": torch.ones(2, dtype=torch.uint16),
        "array": np.arange(6, dtype=">i4").reshape(2, 3).T,
        "texts": np.array(["x", "yy"]),
        "half": np.float16(0.5),
    }
    for options in ({}, {"pickle_protocol": 4}, {"pickle_protocol": 5}, {"_use_new_zipfile_serialization": False}):
        torch.save(values, tmp_path / "a.pt", **options)
        data = read_pickled(tmp_path / "a.pt")
        for name, value in values.items():
            same = torch.equal if isinstance(value, torch.Tensor) else np.array_equal
            assert same(data[name], value), name
            assert data[name].dtype in (value.dtype, getattr(value.dtype, "newbyteorder", lambda _: None)("=")), name
        assert data["turned"].untyped_storage().data_ptr() == data["part"].untyped_storage().data_ptr()


def test_fuzzing_places_that_no_file_has_are_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's reader may ask the system for a place before the file's beginning, which is an OSError."""

    def reader(file: object) -> None:
        raise OSError(22, "Invalid argument")

    path = tmp_path / "a.pt"
    path.write_bytes(saved(STATE))
    monkeypatch.setattr("torch._C.PyTorchFileReader", reader)
    with pytest.raises(ClaraError, match=r"a\.pt is not a pickle of weights, or damaged"):
        read_pickled(path)
