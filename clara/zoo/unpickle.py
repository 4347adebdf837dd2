"""Weights from files, without running what a file says: safetensors, torch's own format, and old pickles.

torch's zip files and its older ones are read here: its own `torch.load` hands an archive that looks like a TorchScript
program on to a loader which runs it, and it and Python's zipfile do not look at the same list of contents. Both lists
must agree, and then each record is taken from the bytes that both point at. Pickles are read by `clara.zoo.restricted`.
"""

from __future__ import annotations

import hashlib
import mmap
import pickle
import struct
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from clara.errors import ClaraError
from clara.parsing import parse_json
from clara.saving import sha256_of
from clara.zoo.rebuild import Refused
from clara.zoo.restricted import Unpickler

ZIP, TAR, TAR_AT = b"PK\x03\x04", b"ustar", 257
LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip's record: the lengths of its name and of what is added
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of torch's files without zip
KEYS = ("state_dict", "model_state_dict", "model", "module", "network", "net", "weights")  # where tensors are kept
WRAPPERS = ("module.", "model.", "_orig_mod.")  # of DataParallel, of Lightning and trainers, of torch.compile
# what reading raises at a file that is none of these
_UNREADABLE = (
    *(pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError),
    *(OSError, OverflowError, struct.error, zipfile.BadZipFile, AssertionError, NotImplementedError),
)


def read_pickled(path: str | Path) -> Any:
    """The contents of a torch file (zip or older), on the CPU. Of a zip, tensors are mapped: what is not used, such as
    an optimiser's state, is never read.

    Raises:
        ClaraError: not a torch file, or one that names anything beyond tensors, numbers and containers (it is named).
    """
    path = Path(path)
    if not path.is_file():
        raise ClaraError(f"No such file: {path}.")
    with path.open("rb") as file:
        try:
            # private pages: writing to a tensor never changes the file
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            if data[TAR_AT : TAR_AT + len(TAR)] == TAR:
                raise _Program("a tar archive")
            return _read_zip(file, data) if data[: len(ZIP)] == ZIP else _read_old(data)
        except _Program as e:
            raise ClaraError(f"{path} is {e}, not a file of weights: refused.") from e
        except Refused as e:
            raise ClaraError(
                f"{path} holds {e}: refused, since only tensors, numbers and plain containers are read. Ask its "
                "authors for a safetensors file."
            ) from e
        except _UNREADABLE as e:
            raise ClaraError(
                f"{path} is not a pickle of weights, or damaged ({str(e).splitlines()[0] if str(e) else type(e)}): "
                "expected a file that torch.save wrote; if it is, copy or download it again."
            ) from e


class _Program(Exception):
    """Not a file of weights."""


def _read_zip(file: BinaryIO, data: mmap.mmap) -> Any:
    records = _records(file, data)
    if "data.pkl" not in records:
        raise ValueError("it has no data.pkl")
    order = _record(data, records["byteorder"]).decode("ascii") if "byteorder" in records else sys.byteorder
    found: dict[str, Tensor] = {}

    def storage(key: str, dtype: torch.dtype, numel: int) -> Tensor:
        if (name := f"data/{key}") not in records:
            raise Refused(f"a tensor without data ({name:.40})")
        offset, size = records[name]
        if numel * dtype.itemsize > size:
            raise Refused(f"a storage of {numel} elements in {size} bytes")
        if name not in found:
            found[name] = _elements(data, offset, size)
            if order != sys.byteorder:
                found[name].untyped_storage().byteswap(dtype)
        return found[name][: numel * dtype.itemsize].view(dtype)

    start, size = records["data.pkl"]
    return Unpickler(_Span(data, start, start + size), storage).load()


def _records(file: BinaryIO, data: mmap.mmap) -> dict[str, tuple[int, int]]:
    """Where each record lies and its size, as both torch's reader and Python's zipfile have it."""
    reader: Any = torch._C.PyTorchFileReader(file)
    names = reader.get_all_records()
    infos = zipfile.ZipFile(file).infolist()
    top = infos[0].filename.partition("/")[0] + "/" if infos else ""
    inner = [info.filename.removeprefix(top) for info in infos]
    if any(name == "constants.pkl" or name.startswith("code/") for name in (*names, *inner)):
        raise _Program("a TorchScript program")
    if len({*names}) != len(names) or sorted(names) != sorted(inner):
        raise Refused("two lists of contents that differ")
    out = {}
    for name, info in zip(inner, infos):
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise Refused(f"a compressed record {name:.40}")
        offset = info.header_offset + 30 + sum(LOCAL_HEADER.unpack_from(data, info.header_offset))
        if offset != reader.get_record_offset(name) or offset + info.file_size > len(data):
            raise Refused(f"a record {name:.40} whose place is not certain")
        out[name] = (offset, info.file_size)
    return out


def _record(data: mmap.mmap, place: tuple[int, int]) -> bytes:
    return data[place[0] : sum(place)]


def _elements(data: mmap.mmap, offset: int, size: int) -> Tensor:
    """Bytes of the file (size,) as a tensor that maps them."""
    if not size:
        return torch.empty(0, dtype=torch.uint8)
    mapped = torch.frombuffer(data, dtype=torch.uint8, offset=offset, count=size)
    return mapped.clone() if mapped.data_ptr() % 16 else mapped  # types are read from even addresses


class _Span:
    """A part of the file as a file of its own: reading past its end gives what there is."""

    def __init__(self, data: mmap.mmap, at: int, end: int) -> None:
        self.data, self.at, self.end = data, at, end

    def read(self, count: int) -> bytes:
        """The next `count` bytes, fewer at the end."""
        start, self.at = self.at, min(self.at + max(0, count), self.end)
        return self.data[start : self.at]

    def readline(self) -> bytes:
        """The rest of a line."""
        found = self.data.find(b"\n", self.at, self.end)
        return self.read((found + 1 if found >= 0 else self.end) - self.at)


def _read_old(data: mmap.mmap) -> Any:
    """torch's format before zip: magic, protocol, system, the object, the keys of its storages, and these in order."""
    span = _Span(data, 0, len(data))
    storages: dict[str, Tensor] = {}

    def nothing(key: str, dtype: torch.dtype, numel: int) -> Tensor:
        raise Refused("a storage where none belongs")

    def storage(key: str, dtype: torch.dtype, numel: int) -> Tensor:
        if numel * dtype.itemsize > len(data):
            raise Refused(f"a storage of {numel} elements in a file of {len(data)} bytes")
        made = storages.setdefault(key, torch.empty(numel, dtype=dtype))
        if made.dtype != dtype or len(made) != numel:
            raise Refused("one storage of two types or sizes")
        return made

    magic, protocol, system = (Unpickler(span, nothing).load() for _ in range(3))
    if magic != MAGIC or protocol != PROTOCOL:
        raise ValueError("its first bytes are not those of such a file")
    little = system.get("little_endian", True) if isinstance(system, dict) else True
    if little != (sys.byteorder == "little"):
        raise Refused("numbers in another byte order")
    contents, keys = Unpickler(span, storage).load(), Unpickler(span, nothing).load()
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages):
        raise ValueError("its storages are not those of its tensors")
    for key in keys:
        made = storages[str(key)]
        size = made.numel() * made.element_size()
        if int.from_bytes(span.read(8), "little") != made.numel() or span.at + size > len(data):
            raise ValueError("it breaks off")
        made.view(torch.uint8).copy_(_elements(data, span.at, size))
        span.at += size
    return contents


def load_tensors(path: str | Path, inside: str | None = None) -> dict[str, Tensor]:
    """The tensors of a safetensors or torch file by name, or of the shards that a `….index.json` lists.

    A training state may stand around them: they are looked for under `inside`, then under the names that trainers use
    (`KEYS`), then at the top. What a model was wrapped in is taken off the names (`unwrapped`).

    Raises:
        ClaraError: no such file, an unreadable or refused one, no named tensors, or something else among them.
    """
    path = Path(path)
    if path.name.endswith(".index.json"):
        return unwrapped(_sharded(path))
    if path.suffix == ".safetensors":
        return unwrapped(_safetensors(path))
    data = read_pickled(path)
    if not isinstance(data, Mapping) or not data:
        raise ClaraError(f"{path} holds {type(data).__name__}, expected named tensors.")
    return unwrapped(_named_tensors(data, (*([inside] if inside else []), *KEYS), path))


def _named_tensors(data: Mapping[Any, Any], keys: tuple[str, ...], path: Path) -> dict[str, Tensor]:
    inner = (data[key] for key in keys if isinstance(data.get(key), Mapping))
    found = next((d for d in inner if any(isinstance(v, Tensor) for v in d.values())), data)
    others = [k for k, v in found.items() if not isinstance(v, Tensor)]
    if others and found is data and not any(isinstance(v, Tensor) for v in data.values()):
        raise ClaraError(f"{path} has no {keys[0]!r}: it holds {sorted(map(str, data))[:10]}.")
    if others or not found:
        raise ClaraError(f"{path} holds other things than tensors: {sorted(map(str, others))[:10]}.")
    return {str(k): v.detach() for k, v in found.items()}


def unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors without the prefixes that DataParallel, trainers and torch.compile put before every name."""
    out = dict(tensors)
    while prefix := next((p for p in WRAPPERS if out and all(name.startswith(p) for name in out)), None):
        out = {name.removeprefix(prefix): tensor for name, tensor in out.items()}
    return {name.replace("._orig_mod.", "."): tensor for name, tensor in out.items()}  # parts may be compiled alone


def weights_sha256(path: Path) -> str:
    """sha256 of a file of weights; of an index of several, of their digests and its own."""
    if not path.name.endswith(".index.json"):
        return sha256_of(path)
    files = sorted(set(parse_json(path.read_text(encoding="utf-8"))["weight_map"].values()))
    every = [sha256_of(path), *(sha256_of(path.parent / name) for name in files)]
    return hashlib.sha256("\n".join(every).encode()).hexdigest()


def _sharded(index: Path) -> dict[str, Tensor]:
    """The tensors of the files that transformers' index names, each from the file it says."""
    try:
        places = parse_json(index.read_text(encoding="utf-8"))["weight_map"]
        files = sorted({str(name) for name in places.values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise ClaraError(f"{index} is not an index of sharded weights ({e}): copy or download it again.") from e
    out: dict[str, Tensor] = {}
    for name in files:
        if Path(name).name != name:
            raise ClaraError(f"{index} names {name!r}: expected files beside it.")
        file = index.parent / name
        found = _safetensors(file) if file.suffix == ".safetensors" else _named_tensors(read_pickled(file), KEYS, file)
        if missing := [t for t, place in places.items() if place == name and t not in found]:
            raise ClaraError(f"{file} lacks {missing[:10]}, which {index} says it holds.")
        out |= {t: found[t] for t, place in places.items() if place == name}
    return out


def _safetensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ClaraError(f"No such file: {path}.")
    try:
        return load_file(path)
    except SafetensorError as e:
        raise ClaraError(f"{path} is not a readable safetensors file ({e}): copy or download it again.") from e
