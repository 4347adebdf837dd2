"""Kill what writes, at random points, run it again, and compare the end with an undisturbed run, bit by bit.

    python benchmarks/kill.py                       # train, finetune, shards, embed, index and eval, 20 kills each
    python benchmarks/kill.py --only train index --kills 1

Each verb runs once undisturbed, which gives its time and what it writes; then, for each kill, in a new folder: it is
killed (SIGKILL) after a random part of that time, what lies there is read (a half artefact must not be readable), and
the same command runs to its end. Everything is made here: tones, and a tiny model with random weights. Linux, CPU.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402
import soundfile as sf  # noqa: E402
import yaml  # noqa: E402
from tiny import save_tiny  # noqa: E402
from tones import tone, write_tones  # noqa: E402

from clara.apps.search import Index  # noqa: E402
from clara.data.shards import verify_shards  # noqa: E402
from clara.errors import ClaraError  # noqa: E402
from clara.zoo.factory import load_checkpoint  # noqa: E402

# of these, speed and dates are part: two undisturbed runs differ in them too
TIMES = ("speed", "date", "command", "clips_per_second", "audio_seconds_per_second")
UNCOMPARED = ("tensorboard", "embeddings", ".sqlite")
PLUGIN = """
from clara.data.manifest import Corpus, Row
INFO = Corpus("tones", "CC0", "none", "sound")
def rows(folder):
    for p in sorted(folder.glob("*.wav")):
        yield Row(str(p), "tones", "test", label=("dog", "rain")[int(p.stem) % 2], task="sound")
"""


@dataclass(frozen=True)
class Case:
    """A verb: its command for an output folder, and what must hold of that folder at any moment."""

    name: str
    command: Callable[[Path], list[str]]
    readable: Callable[[Path], object]


def make_inputs(folder: Path) -> dict[str, Path]:
    """Clips, a table, a manifest, a shard, recipes and a model."""
    clips = folder / "data" / "tones"
    clips.mkdir(parents=True)
    for i in range(48):
        sf.write(clips / f"{i:02d}.wav", tone(200.0 + 30 * i, 0.5), 16000)
    (folder / "tones.py").write_text(PLUGIN)
    names = [f"data/tones/{i:02d}.wav" for i in range(48)]
    lines = [f"{name},{('low', 'high')[i // 24]} tone {i % 4}" for i, name in enumerate(names)]
    (folder / "t.csv").write_text("\n".join(["audio,text", *lines]) + "\n")
    rows = [{"audio": name, "corpus": "tones", "split": "train", "text": ["a tone"]} for name in names]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train = {
        "model": "test-conv", "steps": 30, "out": "OUT", "save_every": 3, "log_every": 5, "precision": "fp32",
        "threads": 1, "device": "cpu",
        "data": {"shards": [write_tones(folder / "tones-0.tar")], "batch_size": 8, "workers": 1},
    }  # fmt: skip
    (folder / "train.yaml").write_text(yaml.safe_dump(train))
    spec = {"corpus": "tones.py", "folder": "tones"}
    evaluation = {"kind": "zero_shot", "data": spec, "task": "sound", "languages": ["en", "de"]}
    (folder / "eval.yaml").write_text(yaml.safe_dump({"evaluations": {"a": evaluation, "b": evaluation}}))
    return {"folder": folder, "clips": clips, "model": save_tiny(folder / "model")}


def cases(made: dict[str, Path]) -> list[Case]:
    """The verbs."""
    folder, clips, model = made["folder"], str(made["clips"]), f"dir:{made['model']}"
    quick = ["steps=30", "save_every=3", "data.workers=1", "threads=1", "device=cpu", "precision=fp32"]
    quick += ["data.batch_size=8"]
    settings = [word for setting in quick for word in ("--set", setting)]
    return [
        Case("train", lambda out: ["train", f"{folder}/train.yaml", "--set", f"out={out}"], _checkpoint),
        Case("finetune", lambda o: ["finetune", f"{folder}/t.csv", "-o", f"{o}", "-m", model, *settings], _checkpoint),
        Case("shards", lambda out: _shards(out, f"{folder}/rows.jsonl"), _tars),
        Case("embed", lambda out: ["embed", clips, "-o", f"{out}/x.npz", "-m", model, "--device", "cpu"], _embeddings),
        Case("index", lambda out: _embed_index(out, clips, model), _index),
        Case("eval", lambda out: _eval(out, folder, model), _results),
    ]


def _shards(out: Path, manifest: str) -> list[str]:
    return ["shards", str(out), "--manifest", manifest, "--samples", "4", "--workers", "2"]


def _embed_index(out: Path, clips: str, model: str) -> list[str]:
    return ["index", clips, "--out", f"{out}/i", "-m", model, "--device", "cpu"]


def _eval(out: Path, folder: Path, model: str) -> list[str]:
    return ["eval", f"{folder}/eval.yaml", "--data", f"{folder}/data", "-m", model, "-o", str(out)]


def _checkpoint(out: Path) -> None:
    if (out / "checkpoint" / "clara.yaml").is_file() or (out / "checkpoint" / ".saved").is_dir():
        load_checkpoint(out / "checkpoint")


def _tars(out: Path) -> None:
    """What is there under a shard's own name is whole; only the index may not know of it yet."""
    if (out / "index.json").is_file():
        problems = [str(p) for p in verify_shards(out) if "not listed" not in str(p)]
        if problems:
            raise ClaraError("; ".join(problems))


def _embeddings(out: Path) -> None:
    if (out / "x.npz").is_file():
        with np.load(out / "x.npz", allow_pickle=False) as data:
            if len(data["audio"]) != len(data["paths"]):
                raise ClaraError("x.npz is a mixture")


def _index(out: Path) -> None:
    if (out / "i.safetensors").is_file():
        Index.load(out / "i")


def _results(out: Path) -> None:
    for file in out.glob("*.json"):
        json.loads(file.read_text())


def run_verb(command: Sequence[str], after: float | None = None) -> bool:
    """Run a verb, to its end or killed `after` seconds; whether it ended by itself. RuntimeError where it failed."""
    log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the function's end
    process = subprocess.Popen(
        [sys.executable, "-m", "clara.cli", *command],
        cwd=ROOT,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )
    try:
        code = process.wait(timeout=after)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return False
    if code:
        log.seek(0)
        raise RuntimeError(f"{command[0]} ended with {code}: {log.read().decode(errors='replace')[-800:]}")
    return True


def contents(out: Path) -> dict[str, str]:
    """Digest of every file that a run leaves, by its name; times and the folder's own name count as nothing."""
    found = {}
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        name = path.relative_to(out).as_posix()
        if not any(part in name for part in UNCOMPARED):
            found[name] = hashlib.sha256(_plain(path, out)).hexdigest()
    return found


def _plain(path: Path, out: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix in (".json", ".jsonl"):
        lines = data.decode().splitlines() if path.suffix == ".jsonl" else [data.decode()]
        data = json.dumps([_without_times(json.loads(line)) for line in lines]).encode()
    return data.replace(str(out).encode(), b"OUT").replace(out.name.encode(), b"NAME")


def _without_times(value: object) -> object:
    if isinstance(value, dict):
        return {k: _without_times(v) for k, v in value.items() if k not in TIMES}
    return [_without_times(v) for v in value] if isinstance(value, list) else value


def try_case(case: Case, folder: Path, kills: int, rng: random.Random) -> dict[str, object]:
    """Kill a verb `kills` times, running it anew where it ended before; counts of what was found."""
    whole, begun = folder / f"{case.name}-whole", time.monotonic()
    whole.mkdir()
    run_verb(case.command(whole))
    seconds, expected = time.monotonic() - begun, contents(whole)
    counts: dict[str, Any] = {"seconds": round(seconds, 1), "killed": 0, "unreadable": 0, "different": 0}
    faults: list[str] = []
    attempts = iter(range(3 * kills))
    while counts["killed"] < kills and (n := next(attempts, None)) is not None:
        out = folder / f"{case.name}-again"  # of one length for all
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        begun = time.monotonic()
        if run_verb(case.command(out), rng.uniform(0.3, 1.0) * seconds):
            seconds = time.monotonic() - begun  # the machine is less busy by now
            continue
        counts["killed"] += 1
        try:
            case.readable(out)
        except (ClaraError, ValueError, OSError) as e:
            counts["unreadable"] += 1
            faults.append(f"kill {n}: {e}")
        run_verb(case.command(out))
        found = contents(out)
        if different := sorted(k for k in expected.keys() | found.keys() if expected.get(k) != found.get(k)):
            counts["different"] += 1
            faults.append(f"kill {n}: {', '.join(different[:5])}")
    return counts | ({"faults": faults} if faults else {})


def main() -> None:
    """Try the verbs and print a table; status 1 where something was unreadable or different."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20, help="of each verb")
    parser.add_argument("--only", nargs="+", help="some of the verbs")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as place:
        chosen = [c for c in cases(make_inputs(Path(place))) if not options.only or c.name in options.only]
        for case in chosen:
            rng = random.Random(f"{options.seed} {case.name}")
            found = try_case(case, Path(place), options.kills, rng)
            wrong += found["unreadable"] + found["different"]
            print(case.name, json.dumps(found), flush=True)
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
