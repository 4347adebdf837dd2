"""What a pickle of weights may name, and what is made of it.

Each function checks what it is given: dtypes from a list (an array of objects is an array of addresses), shapes and
strides against the bytes that are there, keys that can be hashed in constant time.
"""

from __future__ import annotations

import argparse
import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class Refused(pickle.UnpicklingError):
    """What a file names or states and may not."""


class StandIn(dict):
    """In place of an object of a training framework: its arguments are forgotten, its items and state are kept."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*(a for a in args[:1] if isinstance(a, Mapping)))

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, Mapping):
            self.update(state)


class Storage(NamedTuple):
    """Elements of one type in a row, (numel,): what tensors are views of."""

    flat: Tensor


class Dtype:
    """A numpy dtype under construction: numpy's own takes fields, objects and flags from its state."""

    def __init__(self, value: np.dtype) -> None:
        self.value = value


class _Marker:
    """A class that a file may name, and not call."""

    def __init__(self, name: str) -> None:
        self.name = name


_ARRAY, _TENSOR = _Marker("numpy.ndarray"), _Marker("torch.Tensor")
_CODE = re.compile(
    r"[<>|=]?(?:[?bhilqBHILQefdFD]|b1|[iu][1248]|f[248]|c8|c16|[SU]\d{1,9}|bool_?|u?int(?:8|16|32|64)"
    r"|float(?:16|32|64)|complex(?:64|128))"
)
NUMPY_CLASS = re.compile(r"(Bool|U?Int(?:8|16|32|64)|Float(?:16|32|64)|Complex(?:64|128))DType")
_MOST_AXES = 32
_NUMBERS = (int, float, complex)
_SCALARS = (str, int, float, bool, bytes, type(None), np.generic, torch.dtype, torch.device)


def checked_key(key: Any) -> Any:
    """A key, if hashing it is cheap: tuples within tuples can take for ever."""
    if isinstance(key, _SCALARS) or (isinstance(key, tuple) and all(isinstance(k, _SCALARS) for k in key)):
        return key
    raise Refused(f"a key of type {type(key).__name__}")


def _dictionary(kind: type) -> Callable[..., Any]:
    def make(items: Any = ()) -> Any:
        pairs = items.items() if isinstance(items, dict) else items
        return kind((checked_key(key), value) for key, value in pairs)

    return make


def _defaults(factory: Any = None, items: Any = ()) -> Any:
    return _dictionary(dict)(items)


def _collection(kind: type) -> Callable[..., Any]:
    def make(items: Any = ()) -> Any:
        if not isinstance(items, list | tuple | set | frozenset):
            raise Refused(f"a {kind.__name__} of {type(items).__name__}")
        return kind(map(checked_key, items) if kind in (set, frozenset) else items)

    return make


def _number(kind: type) -> Callable[..., Any]:
    def make(*values: Any) -> Any:
        if not all(
            isinstance(v, int | float | complex | None) or (isinstance(v, str) and len(v) < 100) for v in values
        ):
            raise Refused(f"a {kind.__name__} of {[type(v).__name__ for v in values]}")
        return kind(*values)

    return make


def _bytes(kind: type) -> Callable[..., Any]:
    """bytes and bytearray; of a number they would make so many zeros."""

    def make(data: Any = b"", encoding: str = "latin1") -> Any:
        if isinstance(data, str):
            data = _encode(data, encoding)
        if not isinstance(data, bytes | bytearray | list):
            raise Refused(f"{kind.__name__} of {type(data).__name__}")
        return kind(data)

    return make


def _text(value: Any = "", encoding: str = "utf8") -> str:
    if isinstance(value, bytes) and encoding in ("latin1", "latin-1", "utf8", "utf-8", "ascii"):
        return value.decode(encoding)
    if not isinstance(value, str):
        raise Refused(f"a str of {type(value).__name__}")
    return value


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """How pickle protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf8", "utf-8"):
        raise Refused(f"bytes in the encoding {encoding!r:.40}")
    return text.encode(encoding)


def _dtype(code: Any, *_: Any) -> Dtype:
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        raise Refused(f"an array of dtype {code!r:.40}")
    return Dtype(np.dtype(code))


def set_byte_order(dtype: Dtype, state: Any) -> None:
    """The state of a plain dtype: (version, order, subdtype, names, fields, size, alignment, flags)."""
    if not isinstance(state, tuple) or len(state) < 7 or state[1] not in ("<", ">", "|", "="):
        raise Refused("a dtype with an unknown state")
    if any(part is not None for part in state[2:5]) or state[5] not in (-1, dtype.value.itemsize):
        raise Refused("a dtype of several fields")
    dtype.value = dtype.value.newbyteorder(state[1])


def _shaped(dtype: Any, shape: Any, data: Any) -> tuple[np.dtype, tuple[int, ...], bytes]:
    """What an array is made of, if it agrees: `data` holds just the elements of `shape`."""
    if not isinstance(dtype, Dtype):
        raise Refused(f"an array of dtype {type(dtype).__name__}")
    if not isinstance(data, bytes | bytearray):
        raise Refused(f"an array of dtype {dtype.value} from {type(data).__name__}")
    if not isinstance(shape, tuple) or len(shape) > _MOST_AXES or not all(type(n) is int and n >= 0 for n in shape):
        raise Refused(f"an array of shape {shape!r:.60}")
    if math.prod(shape) * dtype.value.itemsize != len(data):
        raise Refused(f"an array of shape {shape} and dtype {dtype.value} in {len(data)} bytes")
    return dtype.value, shape, bytes(data)


def _scalar(dtype: Any, data: Any) -> Any:
    dtype, _, data = _shaped(dtype, (), data)
    return np.frombuffer(data, dtype)[0]


def _reconstruct(kind: Any, shape: Any, dtype: Any) -> np.ndarray:
    """An empty array; its shape and elements come with its state."""
    if kind is not _ARRAY:
        raise Refused("an array of another class than numpy's")
    return np.zeros(0, np.int8)


def fill_array(array: np.ndarray, state: Any) -> None:
    """Give an array the shape and elements of its state: (version, shape, dtype, order, bytes)."""
    if not isinstance(state, tuple) or len(state) != 5:
        raise Refused("an array with an unknown state")
    version, shape, dtype, fortran, data = state
    dtype, shape, data = _shaped(dtype, shape, data)
    array.__setstate__((int(version), shape, dtype, bool(fortran), data))  # type: ignore[arg-type]


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    dtype, shape, data = _shaped(dtype, shape, data)
    if order not in ("C", "F"):
        raise Refused(f"an array in the order {order!r:.20}")
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """A view of a storage; every element lies within it, and there are no more of them than it holds."""
    if not isinstance(storage, Storage):
        raise Refused("a tensor without a storage")
    numbers = (offset, *size, *stride) if isinstance(size, tuple) and isinstance(stride, tuple) else (None,)
    if not all(type(n) is int and 0 <= n < 2**62 for n in numbers) or len(size) != len(stride):
        raise Refused(f"a tensor of size {size!r:.60}, stride {stride!r:.60} and offset {offset!r:.20}")
    count, held = math.prod(size), len(storage.flat)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride)) if count else 0
    if count > held or (count and last >= held):
        raise Refused(f"a tensor of size {size}, stride {stride} and offset {offset} in a storage of {held} elements")
    return storage.flat.as_strided(size, stride, offset) if count else storage.flat.new_empty(size)


def _tensor_v3(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Tensor:
    if len(rest) < 3 or not isinstance(storage, Storage) or not isinstance(rest[2], torch.dtype):
        raise Refused("a tensor without a storage or dtype")
    return _tensor(Storage(storage.flat.view(rest[2])), offset, size, stride)


def _parameter(data: Any, *_: Any) -> torch.nn.Parameter:
    if not isinstance(data, Tensor):
        raise Refused(f"a parameter of {type(data).__name__}")
    return torch.nn.Parameter(data, requires_grad=False)


def _of_type(function: Any, kind: Any, arguments: Any, *_: Any) -> Tensor:
    """A tensor that carried attributes; they are forgotten."""
    if function not in (_tensor, _tensor_v3, _parameter) or not isinstance(arguments, tuple):
        raise Refused("a tensor of a class of its own")
    return function(*arguments)


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
_PLAIN = {
    **{kind.__name__: _collection(kind) for kind in (set, frozenset, list, tuple)},
    **{kind.__name__: _number(kind) for kind in (int, float, bool, complex, slice)},
    **{kind.__name__: _bytes(kind) for kind in (bytes, bytearray)},
    "str": _text,
    "dict": _dictionary(dict),
}
ALLOWED: dict[tuple[str, str], Any] = {
    **{(module, name): make for module in ("builtins", "__builtin__") for name, make in _PLAIN.items()},
    **dict.fromkeys(_STAND_INS, StandIn),
    **{
        (f"numpy.{core}.{module}", name): value
        for core in ("core", "_core")
        for module, name, value in (
            ("multiarray", "scalar", _scalar),
            ("multiarray", "_reconstruct", _reconstruct),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
    ("numpy", "ndarray"): _ARRAY,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): _dictionary(OrderedDict),
    ("collections", "Counter"): _dictionary(dict),
    ("collections", "defaultdict"): _defaults,
    ("argparse", "Namespace"): argparse.Namespace,
    ("pathlib", "PosixPath"): lambda *parts: "/".join(parts),
    ("pathlib", "WindowsPath"): lambda *parts: "\\".join(parts),
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("torch", "Tensor"): _TENSOR,
    ("torch.nn.parameter", "Parameter"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _of_type,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_v3,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    **{("torch", str(t).removeprefix("torch.")): t for t in vars(torch).values() if isinstance(t, torch.dtype)},
}
_STORED = {
    "Double": torch.double,
    "Float": torch.float,
    "Half": torch.half,
    "BFloat16": torch.bfloat16,
    "Long": torch.long,
    "Int": torch.int,
    "Short": torch.short,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexDouble": torch.complex128,
    "ComplexFloat": torch.complex64,
    "Untyped": torch.uint8,
}
STORAGES = {f"{name}Storage": dtype for name, dtype in _STORED.items()}
