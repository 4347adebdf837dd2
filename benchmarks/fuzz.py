"""Mutated files of every kind that is read, and what becomes of them.

    python benchmarks/fuzz.py --count 5000 --out fuzz.json

Each input follows from its kind and its seed alone: a good file of this kind with some bytes flipped, cut, doubled,
moved or set to extreme numbers. It may be read, or refused with a ClaraError. Anything else is a fault: another
exception, a vector that is not finite, more than `--seconds`, more memory than `--memory-gib`, the end of the process.
Every kind runs in a process of its own; one that hangs or dies is started again behind the input that did it. Prints a
table, writes faults with their seeds as JSON; `--seed N --count 1 --kind wav` repeats one.
"""

from __future__ import annotations

import collections
import json
import multiprocessing
import os
import queue
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from fuzz_cases import CASES

EXTREMES = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE, 1 << 30]


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """One to four changes; half of them among the first 512 bytes, where headers lie."""
    out = bytearray(data)
    for _ in range(1 + int(rng.integers(4))):
        if not out:
            break
        near = rng.random() < 0.5
        at = int(rng.integers(min(512, len(out)) if near else len(out)))
        size = int(rng.integers(1, 1 + max(1, min(64 if rng.random() < 0.8 else 4096, len(out) - at))))
        kind = int(rng.integers(8))
        if kind <= 1:
            out[at] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            number = int(EXTREMES[rng.integers(len(EXTREMES))]).to_bytes(8, "little" if rng.random() < 0.5 else "big")
            width = int(rng.choice([1, 2, 4, 8]))
            out[at : at + width] = number[:width] if rng.random() < 0.5 else number[-width:]
        elif kind == 3:
            out[at : at + size] = rng.integers(0, 256, size, dtype=np.uint8).tobytes()
        elif kind == 4:
            del out[at : at + size]
        elif kind == 5:
            out[at:at] = out[at : at + size]
        elif kind == 6:
            to = int(rng.integers(len(out)))
            out[to : to + size] = out[at : at + size]
        elif rng.random() < 0.5:  # rarer: it hides the others
            del out[at:]
    return bytes(out)


def outcome(read: Callable[[bytes], Any], data: bytes) -> str:
    """'read', 'refused', or what is wrong."""
    from clara.errors import ClaraError

    try:
        found = read(data)
    except ClaraError:
        return "refused"
    except Exception as e:
        where = traceback.extract_tb(e.__traceback__)[-1]
        return f"{type(e).__name__}: {str(e)[:120]} ({Path(where.filename).name}:{where.lineno})"
    return "read" if found is None or bool(found.isfinite().all()) else "not finite"


def work(kind: str, first: int, last: int, memory: int, out: Any) -> None:
    """Inputs `first` to `last` in this process; each is announced before it is read."""
    import resource

    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # codecs write there
    with tempfile.TemporaryDirectory() as folder:
        good, read = CASES[kind](Path(folder))
        read(good)
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + memory, held + memory))
        out.put(("ready", first, ""))
        for seed in range(first, last):
            out.put(("begun", seed, ""))
            data = mutate(good, np.random.default_rng([seed, *kind.encode()]))
            out.put(("done", seed, outcome(read, data)))


def fuzz(kind: str, first: int, count: int, seconds: float, memory: int) -> dict[int, str]:
    """seed -> outcome."""
    found: dict[int, str] = {}
    context = multiprocessing.get_context("spawn")
    while len(found) < count:
        out = context.Queue()
        process = context.Process(target=work, args=(kind, first + len(found), first + count, memory, out), daemon=True)
        process.start()
        patience, at = 1800.0, None
        while len(found) < count:
            start = time.monotonic()
            message = None
            while message is None and time.monotonic() - start < patience:
                try:
                    message = out.get(timeout=0.5)
                except queue.Empty:
                    if not process.is_alive() and out.empty():
                        break
            if message is None:
                if at is None:
                    raise SystemExit(f"{kind}: the process did not begin.")
                found[at] = f"hung for {seconds} s" if process.is_alive() else f"died ({process.exitcode})"
                break
            what, seed, said = message
            patience = seconds if what == "begun" else 60.0
            if what == "begun":
                at = seed
            elif what == "done":
                found[seed] = said
        process.kill()
        process.join()
    return found


def main(
    count: Annotated[int, typer.Option(help="Inputs per kind.")] = 100,
    kind: Annotated[list[str] | None, typer.Option(help="Only these kinds; may be repeated.")] = None,
    seed: Annotated[int, typer.Option(help="Of the first input.")] = 0,
    seconds: Annotated[float, typer.Option(help="An input may take so long.")] = 10.0,
    memory_gib: Annotated[float, typer.Option(help="Above what the process holds before.")] = 1.0,
    out: Annotated[Path | None, typer.Option(help="JSON of counts and faults.")] = None,
) -> None:
    """Run, print a table of counts, and exit with 1 where there are faults."""
    result = {}
    print("| kind | inputs | read | refused | faults |\n|---|---:|---:|---:|---:|", flush=True)
    for name in kind or CASES:
        found = fuzz(name, seed, count, seconds, int(memory_gib * 2**30))
        counts = collections.Counter(found.values())
        faults = {s: said for s, said in sorted(found.items()) if said not in ("read", "refused")}
        result[name] = {"inputs": len(found), "read": counts["read"], "refused": counts["refused"], "faults": faults}
        print(f"| {name} | {len(found)} | {counts['read']} | {counts['refused']} | {len(faults)} |", flush=True)
        for said, times in collections.Counter(faults.values()).most_common(5):
            print(f"<!-- {times} × {said}, seed {next(s for s, x in faults.items() if x == said)} -->", flush=True)
    if out is not None:
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    raise SystemExit(any(r["faults"] for r in result.values()))


if __name__ == "__main__":
    typer.run(main)
