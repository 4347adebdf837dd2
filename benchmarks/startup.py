"""CPU seconds until CLARA's first answer, beside other libraries' imports and first classification.

    python benchmarks/startup.py [--rounds 5]

Every measurement is a fresh process on one thread; user and system time of the process and its children are added, and
the minimum over the rounds is printed: what other programs do makes a process slower, never faster. Round zero warms
the disk. Libraries that are not installed are named. Weights are never downloaded: transformers' pipeline classifies
with a tiny random CLAP that this script writes, so its row holds imports and next to no computing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import soundfile as sf

CLARA = [sys.executable, "-m", "clara"]
OTHERS = {"transformers": "transformers", "sentence_transformers": "sentence_transformers", "laion_clap": "laion_clap"}
PIPELINE = """
import sys
import soundfile
from transformers import pipeline
classify = pipeline("zero-shot-audio-classification", model=sys.argv[1])
classify(soundfile.read(sys.argv[2], dtype="float32")[0], candidate_labels=["dog", "cat"])  # of a file it needs ffmpeg
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="processes per row, after one that warms the disk")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="startup") as folder:
        clip = Path(folder) / "a.wav"
        sf.write(clip, 0.1 * np.random.default_rng(0).standard_normal(10 * 48000), 48000)
        rows, missing = commands(Path(folder), clip)
        print("| what | CPU s | modules |\n|---|---|---|")
        for what, command in rows.items():
            spent = min([cpu_seconds(command) for _ in range(rounds + 1)][1:])
            print(f"| {what} | {spent:.2f} | {modules(command)} |", flush=True)
    for name in missing:
        print(f"{name} is not installed: not measured.")


def commands(folder: Path, clip: Path) -> tuple[dict[str, list[str]], list[str]]:
    """What is measured, by name, and the libraries that are not installed."""
    rows = {
        "python, nothing imported": python("pass"),
        "`import torch`": python("import torch"),
        "`import clara`": python("import clara"),
        "`clara --help`": [*CLARA, "--help"],
        "`clara list`": [*CLARA, "list"],
        "`clara classify --task emotions`, refused": [*CLARA, "classify", str(clip), "--task", "emotions"],
        "`clara finetune none.csv`, refused": [*CLARA, "finetune", "none.csv"],
        "`clara.load('clara-small.base')`": python("import clara; clara.load('clara-small.base', 'cpu')"),
        "`clara.load('clara-base.v1')`": python("import clara; clara.load('clara-base.v1', 'cpu')"),
        "`clara classify FILE --labels dog,cat`, clara-base.v1": [*CLARA, "classify", str(clip), "--labels", "dog,cat"],
        "the same, clara-small.base": [*CLARA, "classify", str(clip), "--labels", "dog,cat", "-m", "clara-small.base"],
    }
    missing = [name for name in OTHERS if find_spec(name) is None]
    for name in OTHERS:
        if name not in missing:
            rows[f"`import {name}`"] = python(f"import {name}")
    if "transformers" not in missing:
        rows["`from transformers import ClapModel, ClapProcessor`"] = python(
            "from transformers import ClapModel, ClapProcessor"
        )
        if save_clap(folder / "clap"):
            rows["transformers' pipeline, a tiny random CLAP"] = [*python(PIPELINE), str(folder / "clap"), str(clip)]
    return rows, missing


def save_clap(folder: Path) -> bool:
    """A tiny ClapModel and its processor, written by another process; False, and why, where that fails."""
    here = Path(__file__).parent
    code = f"import sys; sys.path.insert(0, {str(here)!r}); from startup import write_clap; write_clap(sys.argv[1])"
    done = subprocess.run([*python(code), str(folder)], capture_output=True, text=True, env=environment())
    if done.returncode:
        print(f"No tiny CLAP could be written, so the pipeline is not measured: {done.stderr.splitlines()[-1]}")
    return done.returncode == 0


def write_clap(folder: str) -> None:
    """Random weights, a word-level tokenizer, the published feature extractor's settings."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor, RobertaTokenizerFast

    words = {w: i for i, w in enumerate(["<s>", "<pad>", "</s>", "<unk>", "<mask>", "dog", "cat"])}
    base = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    base.pre_tokenizer = pre_tokenizers.Whitespace()
    text = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"intermediate_size": 64, "max_position_embeddings": 80}
    audio = {"depths": [1, 1], "num_attention_heads": [1, 2], "patch_embeds_hidden_size": 16, "hidden_size": 32}
    ClapModel(ClapConfig(text_config=text, audio_config=audio)).save_pretrained(folder)
    features = ClapFeatureExtractor(truncation="rand_trunc")  # the default makes four channels, for a fused model
    ClapProcessor(features, RobertaTokenizerFast(tokenizer_object=base)).save_pretrained(folder)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def environment() -> dict[str, str]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {**os.environ, **threads, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}


def cpu_seconds(command: list[str]) -> float:
    """User and system seconds of one process. A refusal (status 2) is an outcome; anything else ends the benchmark."""
    before = os.times()
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    after = os.times()
    if done.returncode not in (0, 2):
        raise SystemExit(f"{command}: {done.stderr[-2000:]}")
    return after.children_user + after.children_system - before.children_user - before.children_system


def modules(command: list[str]) -> int:
    """How many modules the process imports, as `-X importtime` lists them."""
    traced = [command[0], "-X", "importtime", *command[1:]]
    done = subprocess.run(traced, capture_output=True, text=True, env=environment())
    return sum(line.startswith("import time:") for line in done.stderr.splitlines()) - 1


if __name__ == "__main__":
    main()
