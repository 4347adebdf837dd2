"""Add to what is known of clips: manifest -> manifest, or shards -> shards with the same audio; resumable.

Work is done chunk by chunk and kept in a file beside the output, so that the same call goes on after an interruption.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from clara.data.manifest import TEXTS, Row, read_manifest, write_manifest
from clara.data.parallel import run_jobs, sole_writer
from clara.data.samples import read_index, read_shard
from clara.data.tars import groups, tars_below, writer
from clara.errors import ClaraError
from clara.parsing import parse_json
from clara.saving import sha256_of, write_json

Addition = Mapping[str, Any]


def read_rows(source: Path, out: Path) -> list[Row]:
    """All rows of a manifest, or of the shards below a folder. ClaraError where there is none, or `out` is `source`."""
    if source.resolve() == out.resolve():
        raise ClaraError(f"{out} would be written over while it is read: choose another place.")
    out.parent.mkdir(parents=True, exist_ok=True)
    if not source.is_dir():
        return list(read_manifest(source))
    shards = _shards(source)
    return [s.row for p in tqdm(shards, unit="shard", desc="labels", disable=None) for s in read_shard(p)]


def work_through(
    keys: Sequence[str], cache: Path, work: Callable[[list[str]], list[tuple[str, Any]]], chunk: int, workers: int = 1
) -> dict[str, Any]:
    """`work(chunk of keys)` -> (key, plain value) of each, for every key that `cache` does not hold yet. ClaraError:
    another process is writing to it."""
    with sole_writer(cache):
        return _work_through(keys, cache, work, chunk, workers)


def _work_through(
    keys: Sequence[str], cache: Path, work: Callable[[list[str]], list[tuple[str, Any]]], chunk: int, workers: int
) -> dict[str, Any]:
    done: dict[str, Any] = {}
    if cache.is_file():
        *whole, rest = cache.read_bytes().split(b"\n")  # Unicode has other ends of lines, which a text may hold
        try:
            done = dict(parse_json(line) for line in whole)
        except (ValueError, TypeError) as e:
            raise ClaraError(f"{cache} is damaged ({e}): delete it, and what it held is computed again.") from e
        if rest:  # cut off, maybe within a letter
            cache.write_bytes(b"".join(line + b"\n" for line in whole))
    left = [k for k in keys if k not in done]
    chunks = iter([left[i : i + chunk] for i in range(0, len(left), chunk)])
    bar = tqdm(total=len(keys), initial=len(keys) - len(left), unit="clip", disable=None)
    with bar, cache.open("a", encoding="utf-8", errors="backslashreplace") as file:
        for part in run_jobs(work, chunks, workers):
            file.writelines(json.dumps(item, ensure_ascii=False) + "\n" for item in part)
            file.flush()
            done.update(part)
            bar.update(len(part))
    return {k: done[k] for k in keys}


def write_rows(source: Path, out: Path, additions: Mapping[str, Addition]) -> None:
    """Write `source` to `out` with what is added to each row, by its `audio`: texts are appended to those there are,
    `original` is merged. Shards keep their audio byte for byte. ClaraError: another process is writing shards there."""
    if not source.is_dir():
        write_manifest(out, (_added(row, additions.get(row.audio, {})) for row in read_manifest(source)))
        return
    out.mkdir(parents=True, exist_ok=True)
    with sole_writer(out):
        _write_annotated(source, out, additions)


def _write_annotated(source: Path, out: Path, additions: Mapping[str, Addition]) -> None:
    for path in _shards(source):
        own = {a.rpartition(".")[0]: value for a, value in additions.items() if a.startswith(f"{path}::")}
        _copy_shard(path, out / path.relative_to(source), own)
    if (source / "index.json").is_file():
        index = read_index(source)
        for entry in index["shards"]:
            entry["sha256"] = sha256_of(out / entry["name"])
        write_json(out / "index.json", index)


def _shards(folder: Path) -> list[Path]:
    found = tars_below(folder)
    if not found:
        raise ClaraError(f"No shards (*.tar) below {folder}.")
    return found


def _added(row: Row, addition: Addition) -> Row:
    texts: dict[str, Any] = {name: (*getattr(row, name), *addition[name]) for name in TEXTS if name in addition}
    return dataclasses.replace(row, **texts, original={**row.original, **addition.get("original", {})})


def _copy_shard(path: Path, out: Path, additions: Mapping[str, Addition]) -> None:
    with writer(out) as new:
        for group in groups(path):
            if addition := additions.get(f"{path}::{group['__key__']}"):
                meta = _added_meta(json.loads(group["json"]), addition)
                group["json"] = json.dumps(meta, ensure_ascii=False).encode(errors="backslashreplace")
            new.write(group)


def _added_meta(meta: dict[str, Any], addition: Addition) -> dict[str, Any]:
    """As `_added`, for the JSON of a sample in any of the layouts that `row_from_meta` reads."""
    for name in TEXTS:
        if name in addition:
            there = meta.get(name) or []
            meta[name] = [*([there] if isinstance(there, str) else there), *addition[name]]
    if "original" in addition:
        there = meta.get("original_data")
        there = there if isinstance(there, dict) else {} if there is None else {"value": there}
        meta["original_data"] = there | addition["original"]
    return meta
