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
import io
import json
import multiprocessing
import os
import queue
import tarfile
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

RATE = 16000
AUDIO = {"wav": ("WAV", "PCM_16"), "flac": ("FLAC", "PCM_16"), "ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"),
         "mp3": ("MP3", None), "m4a": ("ipod", "aac")}  # fmt: skip
EXTREMES = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE, 1 << 30]
Case = tuple[bytes, Callable[[bytes], Any]]  # a good file, and what reads a mutated one


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


def tiny(folder: Path) -> Path:
    """A checkpoint folder of a small model with random weights: what is tried is the reading."""
    from clara.config import arch_config
    from clara.text.tokenizer import build_tokenizer
    from clara.zoo.factory import create_model, save_checkpoint

    card = "---\nlicense: cc0-1.0\n---\n# tiny\nRandom weights.\n"
    return save_checkpoint(folder, create_model("test-conv"), build_tokenizer(arch_config("test-conv").tokenizer), card)


def audio(kind: str, folder: Path) -> Case:
    """Two seconds of a siren; it is measured, read in part and embedded."""
    import soundfile as sf

    import clara
    from clara.apps.synth import siren
    from clara.audio import waveform

    wave = siren(np.random.default_rng(0), 2.0).astype(np.float32)
    wave *= 0.5 / np.abs(wave).max()
    buffer, (container, codec) = io.BytesIO(), AUDIO[kind]
    if kind == "m4a":
        import av

        with av.open(buffer, "w", format=container) as film:
            track = film.add_stream(codec, rate=RATE, layout="mono")
            frame = av.AudioFrame.from_ndarray(wave[None], "fltp", "mono")
            frame.sample_rate = RATE
            film.mux([*track.encode(frame), *track.encode(None)])
    else:
        sf.write(buffer, wave, RATE, format=container, subtype=codec)
    zoo, path = clara.load(f"dir:{tiny(folder / 'model')}", device="cpu"), folder / f"clip.{kind}"

    def read(data: bytes) -> Any:
        path.write_bytes(data)
        waveform.info(path)
        waveform.read(data, RATE, start=0.5, seconds=1.0)
        return zoo.embed_audio(path)

    return buffer.getvalue(), read


def tar(folder: Path) -> Case:
    """A shard of two samples."""
    import soundfile as sf

    from clara.data.entries import scan
    from clara.data.loader import DataConfig
    from clara.data.samples import read_shard, verify_shards

    clip, buffer = io.BytesIO(), io.BytesIO()
    sf.write(clip, np.zeros(800), RATE, format="FLAC")
    with tarfile.open(fileobj=buffer, mode="w") as out:
        for key in "ab":
            for suffix, data in (("flac", clip.getvalue()), ("json", b'{"text": ["rain"], "seconds": 0.05}')):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(data)
                out.addfile(member, io.BytesIO(data))
    path = folder / "0.tar"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        verify_shards(folder)
        scan(DataConfig((str(path),), 1))
        list(read_shard(path))

    return buffer.getvalue(), read


def json_rows(folder: Path) -> Case:
    """A manifest, a sample's description, and an index of shards."""
    from clara.data.manifest import Row, read_manifest, row_to_dict
    from clara.data.samples import read_index, row_from_meta

    row = Row("a.wav", "toy", seconds=1.5, text=("rain", "wind"), emotion="anger", original={"labels": ["dog"]})
    foreign = {
        "text": ["rain"],
        "tag": ["a", "b"],
        "original_data": {"class_names": ["Dog"], "age": 3},
        "split": "Train",
    }
    index = {"count": 1, "hours": 0.1, "shards": [{"name": "0.tar", "sha256": "0" * 64, "count": 1}]}

    def read(data: bytes) -> None:
        lines = data.split(b"\n")
        (folder / "m.jsonl").write_bytes(lines[0] + b"\n")
        (folder / "index.json").write_bytes(lines[-1])
        refused = []
        for attempt in (
            lambda: list(read_manifest(folder / "m.jsonl")),
            lambda: read_index(folder),
            lambda: row_from_meta(json.loads(lines[len(lines) // 2]), "a.tar::0.flac"),
        ):
            try:
                attempt()
            except ValueError as e:  # json.loads is the fuzzer's own
                if type(e).__name__ not in ("ClaraError", "JSONDecodeError", "UnicodeDecodeError"):
                    raise
                refused.append(e)
        if refused:
            raise refused[0]

    return b"\n".join(json.dumps(x).encode() for x in (row_to_dict(row), foreign, index)), read


def csv(folder: Path) -> Case:
    """A table of clips, as fine-tuning and as the corpus `csv` read it."""
    from clara.data.manifest import rows_from_corpus
    from clara.errors import ClaraError
    from clara.train.finetune import read_rows

    for name in "abc":
        (folder / f"{name}.wav").touch()
    table = 'audio,text,label,task,split,language\na.wav,"rain, and ""wind""",dog,sound,train,de\n'
    table += 'b.wav,"two\nlines",,,test,\na.wav,wind,rain,sound,train,de\nc.wav,,cat,sound,,\n'
    path = folder / "t.csv"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        try:
            read_rows(path)
        except ClaraError:
            list(rows_from_corpus("csv", path))
            raise
        list(rows_from_corpus("csv", path))

    return table.encode(), read


def safetensors(folder: Path) -> Case:
    """The weights of a checkpoint."""
    import clara

    weights = tiny(folder / "model") / "model.safetensors"

    def read(data: bytes) -> Any:
        weights.write_bytes(data)
        return clara.load(f"dir:{folder / 'model'}", device="cpu").embed_text(["rain"])

    return weights.read_bytes(), read


def pickle(folder: Path) -> Case:
    """A checkpoint as torch saves it."""
    import torch

    from clara.zoo.unpickle import read_pickled

    path = folder / "weights.pt"
    torch.save(
        {"state_dict": {"a": torch.randn(4, 5), "b": torch.arange(3)}, "epoch": 3, "array": np.arange(4.0)}, path
    )
    good = path.read_bytes()

    def read(data: bytes) -> None:
        path.write_bytes(data)
        read_pickled(path)

    return good, read


def yaml(folder: Path) -> Case:
    """The config of a checkpoint, and the front matter of its card."""
    import clara
    from clara.zoo.lineage import statement

    model = tiny(folder / "model")
    front = "license: cc0-1.0\ntrained_on: [{corpus: toy, clips: 3, folds: [1, 2]}]\nheld_out: {esc50: fold 5}\n"

    def read(data: bytes) -> Any:
        config, _, head = data.partition(b"\0")
        (model / "clara.yaml").write_bytes(config)
        (model / "README.md").write_bytes(b"---\n" + head + b"---\n# tiny\n")
        statement(f"dir:{model}")
        return clara.load(f"dir:{model}", device="cpu").embed_text(["rain"])

    return (model / "clara.yaml").read_bytes() + b"\0" + front.encode(), read


def index(folder: Path) -> Case:
    """A saved index of embeddings; it is searched."""
    import torch

    from clara.apps.search import Index

    rows = torch.nn.functional.normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(0)))
    file = Index(rows, [f"{name}.wav" for name in "abcde"], "model", "0" * 64).save(folder / "i")

    def read(data: bytes) -> Any:
        file.write_bytes(data)
        found = Index.load(file)
        found.nearest(torch.ones(1, found.audio_ND.shape[1]), 3)
        return found.audio_ND

    return file.read_bytes(), read


def npz(folder: Path) -> Case:
    """What is kept between runs: a result's sample of embeddings, and the texts of a frozen tower."""
    import torch

    from clara.report.maps import read_sample, write_sample
    from clara.train.memo import TextMemo

    class Tower(torch.nn.Module):
        width = 2

        def forward(self, ids_UL: Any, mask_UL: Any) -> Any:
            return torch.stack([ids_UL.sum(1), mask_UL.sum(1)], 1).float()

    write_sample(folder / "s.npz", np.eye(4, 6), ["dog", "rain", "dog", "siren"])
    memo = TextMemo(Tower(), folder)
    memo(torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.ones(2, 3, dtype=torch.bool))
    memo.save()
    sample, texts = (folder / "s.npz").read_bytes(), memo.path.read_bytes()

    def read(data: bytes) -> Any:
        (folder / "s.npz").write_bytes(data[: len(sample)])
        memo.path.write_bytes(data[len(sample) :])
        vectors, _ = read_sample(folder / "s.npz")
        TextMemo(Tower(), folder)
        return torch.from_numpy(vectors)

    return sample + texts, read


def tokenizer(folder: Path) -> Case:
    """The sentencepiece model of a checkpoint, whose digest is right: its writer means harm."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    import clara
    from clara.saving import digests

    model = tiny(folder / "model")
    (file,) = model.glob("*.model")
    with safe_open(model / "model.safetensors", "pt") as weights:
        tensors = {name: weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118

    def read(data: bytes) -> Any:
        file.write_bytes(data)
        stated = {k: v for k, v in digests(model).items() if k in ("clara.yaml", file.name)}
        save_file(tensors, model / "model.safetensors", metadata={"saved_with": json.dumps(stated)})
        return clara.load(f"dir:{model}", device="cpu").embed_text(["rain", "вітер і дощ"])

    return file.read_bytes(), read


CASES: dict[str, Callable[[Path], Case]] = {
    **{kind: (lambda folder, kind=kind: audio(kind, folder)) for kind in AUDIO},
    "tar": tar, "json": json_rows, "csv": csv, "safetensors": safetensors, "pickle": pickle,
    "yaml": yaml, "index": index, "npz": npz, "tokenizer": tokenizer,
}  # fmt: skip


def outcome(read: Callable[[bytes], Any], data: bytes) -> str:
    """'read', 'refused', or what is wrong."""
    from clara.errors import ClaraError

    try:
        found = read(data)
    except ClaraError:
        return "refused"
    except Exception as e:
        if type(e).__name__ in ("JSONDecodeError", "UnicodeDecodeError") and read.__qualname__.startswith("json_rows"):
            return "refused"
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
    count: Annotated[int, typer.Option(help="Inputs a kind.")] = 100,
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
