"""An unpickler for weights from strangers: it knows tensors, numpy arrays and numbers, plain containers, and stand-ins
for the named classes of a training framework. Everything else is refused by name.

Nothing that a file names is called beyond the functions of `clara.zoo.rebuild`.
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from clara.zoo.rebuild import (
    ALLOWED,
    NUMPY_CLASS,
    STORAGES,
    Dtype,
    Refused,
    StandIn,
    Storage,
    checked_key,
    fill_array,
    set_byte_order,
)

_CALLED = {id(value) for value in ALLOWED.values() if callable(value)}
_MADE = (StandIn, argparse.Namespace)  # what NEWOBJ may make


class Readable(Protocol):
    """What a pickle is read from."""

    def read(self, count: int, /) -> bytes:
        """The next `count` bytes, fewer at the end."""

    def readline(self) -> bytes:
        """The rest of a line."""


class Unpickler(pickle._Unpickler):  # the one written in Python: its steps can be refused one by one
    """Reads one pickle. `storage(key, dtype, numel)` gives the elements that a tensor of it is a view of."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]  # what type checkers do not know of the base class
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]

    def __init__(self, file: Readable, storage: Callable[[str, torch.dtype, int], Tensor]) -> None:
        super().__init__(file)
        self.storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a global of the file. Refused where there is nothing."""
        if module in ("torch", "torch.storage", "torch.cuda") and name in STORAGES:
            return STORAGES[name]
        if module == "numpy.dtypes" and (found := NUMPY_CLASS.fullmatch(name)):
            return Dtype(np.dtype(found[1].lower()))
        if (module, name) not in ALLOWED:
            raise Refused(f"the global {module}.{name}")
        return ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Storage:
        """The storage that ('storage', type, key, device, numel[, view]) names."""
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise Refused(f"a reference to something outside ({type(pid).__name__})")
        _, dtype, key, _, numel, *view = pid
        if not isinstance(dtype, torch.dtype) or type(numel) is not int or numel < 0:
            raise Refused("a storage of unknown type or size")
        flat = self.storage(str(key) if isinstance(key, str | int) else "", dtype, numel)
        if not view or view[0] is None:
            return Storage(flat)
        _, first, count = view[0]
        if not (type(first) is type(count) is int and 0 <= first <= first + count <= numel):
            raise Refused("a view beyond its storage")
        return Storage(flat[first : first + count])

    def load_build(self) -> None:
        """State, for the objects that a file holds; not for the classes and functions that it may name."""
        state = self.stack.pop()
        made = self.stack[-1]
        if isinstance(made, StandIn):
            made.__setstate__(state)
        elif isinstance(made, Dtype):
            set_byte_order(made, state)
        elif isinstance(made, np.ndarray):
            fill_array(made, state)
        elif isinstance(made, argparse.Namespace):
            if not isinstance(state, dict) or not all(isinstance(k, str) for k in state):
                raise Refused("a Namespace with an unknown state")
            vars(made).update(state)
        elif not isinstance(made, dict | Tensor):  # attributes of these are forgotten
            raise Refused(f"state for {made if isinstance(made, type) else type(made)!r}")

    def load_reduce(self) -> None:
        """A call, of a function of this module."""
        arguments = self.stack.pop()
        function = self.stack[-1]
        if id(function) not in _CALLED or not isinstance(arguments, tuple):
            raise Refused(f"a call of {type(function).__name__}")
        self.stack[-1] = function(*arguments)

    def load_newobj(self) -> None:
        """An empty object of a class; its state follows."""
        self.stack.pop()
        kind = self.stack[-1]
        if not any(kind is made for made in _MADE):
            raise Refused(f"an object of {type(kind).__name__}")
        self.stack[-1] = kind()

    def load_setitem(self) -> None:
        """One item of a dictionary."""
        value, key = self.stack.pop(), self.stack.pop()
        self._into([(key, value)])

    def load_setitems(self) -> None:
        """Items of a dictionary."""
        items = self.pop_mark()
        self._into(zip(items[::2], items[1::2], strict=True))

    def _into(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        place = self.stack[-1]
        if not isinstance(place, dict):
            raise Refused(f"items of {type(place).__name__}")
        for key, value in pairs:
            place[checked_key(key)] = value

    def load_additems(self) -> None:
        """Members of a set."""
        items = self.pop_mark()
        if not isinstance(self.stack[-1], set):
            raise Refused(f"members of {type(self.stack[-1]).__name__}")
        self.stack[-1].update(map(checked_key, items))

    def load_frozenset(self) -> None:
        """A frozen set."""
        items = self.pop_mark()
        self.append(frozenset(map(checked_key, items)))

    def load_bytearray8(self) -> None:
        """Bytes, as many as there are: Python's own makes room for as many as are stated."""
        size = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(size)))

    def refuse(self) -> None:
        """Extension codes name what is registered in this process; buffers come from outside of the file."""
        raise Refused("an extension code, or a buffer from elsewhere")


_OWN = ("build", "reduce", "newobj", "setitem", "setitems", "additems", "frozenset", "bytearray8")
_NEVER = ("ext1", "ext2", "ext4", "inst", "obj", "newobj_ex", "next_buffer", "readonly_buffer")
for _name in _OWN:
    Unpickler.dispatch[getattr(pickle, _name.upper())[0]] = getattr(Unpickler, f"load_{_name}")
for _name in _NEVER:
    Unpickler.dispatch[getattr(pickle, _name.upper())[0]] = Unpickler.refuse
