"""Weights from files, without running what a file says: safetensors, torch's own format, and old pickles.

`torch.load(weights_only=True)` reads most torch files. It refuses older ones (numpy scalars, pickle protocol 4); for
those a second reader allows tensors, numpy arrays and numbers, plain containers, and empty stand-ins for the named
classes of a training framework, and refuses everything else by name. Nothing a file names is ever called beyond these.
"""

from __future__ import annotations

import argparse
import builtins
import collections
import pickle
import tarfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from clara.errors import ClaraError


class _Refused(pickle.UnpicklingError):
    """What a file names and may not have."""


class StandIn(dict):
    """In place of an object of a training framework: its arguments are forgotten, its items and state are kept."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*(a for a in args[:1] if isinstance(a, Mapping)))

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, Mapping):
            self.update(state)


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """How pickle protocol 2 writes bytes."""
    if encoding not in ("latin1", "latin-1", "utf8", "utf-8"):
        raise _Refused(f"bytes in the encoding {encoding!r}")
    return text.encode(encoding)


def _scalar(dtype: np.dtype, data: bytes) -> Any:
    """A numpy number; numpy's own would also give back objects."""
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise _Refused(f"a numpy scalar of {dtype}")
    return np.frombuffer(data, dtype)[0]


def _reconstruct(kind: type, shape: Any, dtype: Any) -> np.ndarray:
    if kind is not np.ndarray:
        raise _Refused(f"a numpy array of class {kind}")
    return np.ndarray(shape, dtype)


_STAND_INS = (
    ("pytorch_lightning.utilities.parsing", "AttributeDict"),
    ("lightning.fabric.utilities.data", "AttributeDict"),
    ("lightning_fabric.utilities.data", "AttributeDict"),
    ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"),
    ("pytorch_lightning.callbacks.early_stopping", "EarlyStopping"),
    ("lightning.pytorch.callbacks.model_checkpoint", "ModelCheckpoint"),
    ("lightning.pytorch.callbacks.early_stopping", "EarlyStopping"),
    ("omegaconf.dictconfig", "DictConfig"),
    ("omegaconf.listconfig", "ListConfig"),
)
_PLAIN = (
    *("set", "frozenset", "dict", "list", "tuple", "object", "slice"),
    *("int", "float", "bool", "complex", "str", "bytes", "bytearray"),
)
_ALLOWED: dict[tuple[str, str], Any] = {
    **{(module, name): getattr(builtins, name) for module in ("builtins", "__builtin__") for name in _PLAIN},
    **dict.fromkeys(_STAND_INS, StandIn),
    **{
        (f"numpy.{core}.multiarray", name): value
        for core in ("core", "_core")
        for name, value in (("scalar", _scalar), ("_reconstruct", _reconstruct))
    },
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "Counter"): collections.Counter,
    ("collections", "defaultdict"): collections.defaultdict,
    ("argparse", "Namespace"): argparse.Namespace,
    ("pathlib", "PosixPath"): lambda *parts: "/".join(parts),
    ("pathlib", "WindowsPath"): lambda *parts: "\\".join(parts),
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("torch.nn.parameter", "Parameter"): torch.nn.Parameter,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    **{("torch", str(t).removeprefix("torch.")): t for t in vars(torch).values() if isinstance(t, torch.dtype)},
}
_WITH_STATE = (StandIn, dict, argparse.Namespace, np.ndarray, np.dtype, Tensor)


class _Unpickler(pickle._Unpickler):  # the one written in Python: its steps can be refused one by one
    dispatch: ClassVar = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        if module == "numpy.dtypes" and isinstance(getattr(np.dtypes, name, None), type):
            return getattr(np.dtypes, name)
        if (module, name) not in _ALLOWED:
            raise _Refused(f"the global {module}.{name}")
        return _ALLOWED[module, name]

    def load_build(self) -> None:
        # state may be given to the objects that a file holds, not to the classes and functions it may name
        if not isinstance(self.stack[-2], _WITH_STATE):
            raise _Refused(f"state for {self.stack[-2]!r}")
        super().load_build()

    dispatch[pickle.BUILD[0]] = load_build

    def refuse(self) -> None:
        """Extension codes name what is registered in this process."""
        raise _Refused("an extension code")

    for _code in (pickle.EXT1, pickle.EXT2, pickle.EXT4):
        dispatch[_code[0]] = refuse


def _load(file: Any, **options: Any) -> Any:
    return _Unpickler(file, **options).load()


# what torch.load asks of a pickle module
_RESTRICTED = SimpleNamespace(Unpickler=_Unpickler, load=_load, __name__="restricted")
# and what it raises at a file that is none of its own
_UNREADABLE = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError)


def read_pickled(path: str | Path) -> Any:
    """The contents of a torch file (zip or older), on the CPU. Of a zip, tensors are mapped: what is not used, such as
    an optimiser's state, is never read.

    Raises:
        ClaraError: not a torch file, or one that names anything beyond tensors, numbers and containers (it is named).
    """
    path = Path(path)
    if not path.is_file():
        raise ClaraError(f"No such file: {path}.")
    mapped = _is_zip(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of protocols it may not read: the second reader does
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except _UNREADABLE:
        pass  # the second reader takes more, and says what is wrong with the rest
    if _is_program(path):
        raise ClaraError(f"{path} is a TorchScript program or a tar archive, not a file of weights: refused.")
    try:
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_RESTRICTED, mmap=mapped)
    except _Refused as e:
        raise ClaraError(
            f"{path} holds {e}: refused, since only tensors, numbers and plain containers are read. Ask its authors "
            "for a safetensors file."
        ) from e
    except _UNREADABLE as e:
        raise ClaraError(
            f"{path} is no pickle of weights, or a broken one ({e}): expected a file that torch.save wrote; if it is, "
            "copy or download it again."
        ) from e


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _is_program(path: Path) -> bool:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(n.endswith("constants.pkl") for n in archive.namelist())
    return tarfile.is_tarfile(path)


def load_tensors(path: str | Path, inside: str | None = None) -> dict[str, Tensor]:
    """The tensors of a safetensors or torch file by name; `inside` is the key of the dictionary that holds them, where
    a training state stands around it.

    Raises:
        ClaraError: no such file, an unreadable or refused one, no such key, or something that is no tensor among them.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return _safetensors(path)
    data = read_pickled(path)
    if inside is not None:
        if not isinstance(data, Mapping) or inside not in data:
            found = sorted(map(str, data))[:10] if isinstance(data, Mapping) else type(data).__name__
            raise ClaraError(f"{path} has no {inside!r}: it holds {found}.")
        data = data[inside]
    if not isinstance(data, Mapping) or not data:
        raise ClaraError(f"{path} holds {type(data).__name__}, expected named tensors.")
    others = [k for k, v in data.items() if not isinstance(v, Tensor)]
    if others:
        raise ClaraError(f"{path} holds other things than tensors: {sorted(map(str, others))[:10]}.")
    return {str(k): v.detach() for k, v in data.items()}


def _safetensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ClaraError(f"No such file: {path}.")
    try:
        return load_file(path)
    except SafetensorError as e:
        raise ClaraError(f"{path} is no readable safetensors file ({e}): copy or download it again.") from e
