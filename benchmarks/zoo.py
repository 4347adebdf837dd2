"""A checkpoint of the peers' own, read by CLARA and by transformers: the same random weights, clips and texts, one run.

    python benchmarks/zoo.py --threads 1 --clock cpu

Saves a ClapModel of the published size with its processor, loads the folder with both, and prints one JSON line a
measurement: median and spread over rounds, the ratio to transformers, and for bf16 the cosine to float32. Rounds of all
alternate, so that a busy machine slows them alike; `--clock cpu` counts the process's own CPU seconds, which a busy
machine stretches less. Memory and cold start are measured in processes of their own.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soundfile as sf
import torch
import typer
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

import clara
from clara.text.prompts import load_language

RATE, SECONDS, LABELS, PADDED = 48000, 10, 50, 77
SIZES = {
    "tiny": {},
    "base": {"patch_embeds_hidden_size": 128, "depths": [2, 2, 12, 2], "hidden_size": 1024},
}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def save_peer(folder: Path, size: str, texts: list[str]) -> None:
    """ClapModel and ClapProcessor of the published size, random; the tokenizer's pieces are learned from `texts`, so
    that a text has about as many tokens as RoBERTa's would."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor, RobertaTokenizer

    torch.manual_seed(0)
    bpe = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe.train_from_iterator(texts, vocab_size=5000, min_frequency=1, special_tokens=special, show_progress=False)
    bpe.save_model(str(folder))
    files = {"vocab": str(folder / "vocab.json"), "merges": str(folder / "merges.txt")}
    extractor = ClapFeatureExtractor(truncation="rand_trunc", padding="repeatpad")
    ClapModel(ClapConfig(audio_config=SIZES[size])).save_pretrained(folder)
    ClapProcessor(extractor, RobertaTokenizer(**files, model_max_length=512)).save_pretrained(folder)


class Peer:
    """transformers' ClapModel, used as its documentation does, one batch a call."""

    def __init__(self, folder: Path) -> None:
        from transformers import ClapModel, ClapProcessor

        self.model, self.processor = ClapModel.from_pretrained(folder).eval(), ClapProcessor.from_pretrained(folder)

    @torch.inference_mode()
    def audio(self, waves: list[np.ndarray]) -> Tensor:
        """48 kHz waves -> unit vectors."""
        features = self.processor.feature_extractor(waves, sampling_rate=RATE, return_tensors="pt")
        return self._unit(self.model.get_audio_features(**features))

    def files(self, paths: list[Path]) -> Tensor:
        """Files, which are at its rate and mono."""
        return self.audio([sf.read(p, dtype="float32")[0] for p in paths])

    @torch.inference_mode()
    def text(self, texts: list[str], **padding: Any) -> Tensor:
        """Texts -> unit vectors."""
        return self._unit(
            self.model.get_text_features(**self.processor.tokenizer(texts, return_tensors="pt", **padding))
        )

    def _unit(self, found: Any) -> Tensor:
        return normalize((found if isinstance(found, Tensor) else found.pooler_output).float(), dim=-1)


def bf16(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """`call` under autocast."""

    def run() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return call()

    return run


def compare(calls: dict[str, Callable[[], Tensor]], exact: dict[str, str], rounds: int, clock: str, unit: int) -> None:
    """Time `calls` in alternation and print a row each; the first is what ratios are to. `exact`: row -> the row in
    float32 its vectors are held against. `unit`: how many clips or texts a call embeds."""
    found = {name: call() for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = CLOCKS[clock]()
            call()
            times[name].append(CLOCKS[clock]() - start)
    first = next(iter(calls))
    for name, values in times.items():
        ratios = sorted(a / b for a, b in zip(times[first], values))
        row = {"what": name, "ms_each": round(1000 * statistics.median(values) / unit, 2)}
        row |= {"ratio": round(statistics.median(ratios), 2), "spread": [round(ratios[0], 2), round(ratios[-1], 2)]}
        if name in exact:
            row["cosine"] = round(cosine_similarity(found[name], found[exact[name]]).min().item(), 6)
        print(json.dumps(row), flush=True)


def embedding(folder: Path, clips: int, rounds: int, clock: str) -> None:
    """Arrays and files to vectors, float32 and bf16."""
    zoo, peer = clara.load(f"dir:{folder}", device="cpu"), Peer(folder)
    rng = np.random.default_rng(0)
    waves = [np.round(rng.uniform(-3000, 3000, RATE * SECONDS)).astype(np.float32) / 32768 for _ in range(clips)]
    paths = [folder / f"{i}.flac" for i in range(clips)]
    for path, wave in zip(paths, waves):
        sf.write(path, wave, RATE)
    own: list[Any] = [(wave, RATE) for wave in waves]
    calls = {
        "array, transformers": lambda: peer.audio(waves),
        "array, clara": lambda: zoo.embed_audio(own),
        "array, clara bf16": bf16(lambda: zoo.embed_audio(own)),
        "array, transformers bf16": bf16(lambda: peer.audio(waves)),
        "FLAC file, transformers": lambda: peer.files(paths),
        "FLAC file, clara": lambda: zoo.embed_audio(paths),
    }
    base = {name: "array, transformers" for name in calls if name != "array, transformers"}
    compare(calls, base, rounds, clock, clips)


def labels(folder: Path, texts: list[str], rounds: int, clock: str) -> None:
    """Fifty labels to vectors. laion_clap pads every text to 77 tokens; transformers does what it is told."""
    zoo, peer = clara.load(f"dir:{folder}", device="cpu"), Peer(folder)
    calls = {
        "50 labels, transformers padded to 77": lambda: peer.text(texts, padding="max_length", max_length=PADDED),
        "50 labels, transformers padded to the longest": lambda: peer.text(texts, padding=True),
        "50 labels, clara": lambda: zoo.embed_text(texts),
        "50 labels, clara bf16": bf16(lambda: zoo.embed_text(texts)),
    }
    exact = {name: next(iter(calls)) for name in list(calls)[1:]}
    compare(calls, exact, rounds, clock, len(texts))


def save_laion(folder: Path) -> tuple[Any, Path]:
    """laion_clap's own module with random weights of the published size, and the .pt it would load. What it fetches
    from the hub when it is imported and built (tokenizers, roberta-base) is made here."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for kind in (transformers.BertTokenizer, transformers.RobertaTokenizer, transformers.BartTokenizer):
        kind.from_pretrained = lambda *_, **__: tokenizer
    text = transformers.RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1)
    transformers.RobertaModel.from_pretrained = lambda *_, **__: transformers.RobertaModel(text)
    sys.argv = sys.argv[:1]  # it reads the command line
    from laion_clap import CLAP_Module

    torch.manual_seed(0)
    peer, file = CLAP_Module(enable_fusion=False, device="cpu").eval(), folder / "laion.pt"
    torch.save({"state_dict": {f"module.{k}": v for k, v in peer.model.state_dict().items()}}, file)
    return peer, file


def laion(folder: Path, clips: int, rounds: int, clock: str, texts: list[str]) -> None:
    """laion_clap's own file: arrays, files and labels."""
    from clara.zoo.embedder import Embedder
    from clara.zoo.factory import load_foreign

    peer, file = save_laion(folder)
    zoo = Embedder(load_foreign(file, "laion", tokenizer=str(folder)), "cpu")
    rng = np.random.default_rng(0)
    waves = np.round(rng.uniform(-3000, 3000, (clips, RATE * SECONDS))).astype(np.float32) / 32768
    paths = [str(folder / f"laion{i}.flac") for i in range(clips)]
    for path, wave in zip(paths, waves):
        sf.write(path, wave, RATE)
    own: list[Any] = [(wave, RATE) for wave in waves]
    calls = {
        "array, laion_clap": lambda: normalize(
            peer.get_audio_embedding_from_data(torch.tensor(waves), use_tensor=True)
        ),
        "array, clara": lambda: zoo.embed_audio(own),
        "FLAC file, laion_clap": lambda: normalize(peer.get_audio_embedding_from_filelist(paths, use_tensor=True)),
        "FLAC file, clara": lambda: zoo.embed_audio(paths),
    }
    with torch.no_grad():
        compare(
            calls,
            {"array, clara": "array, laion_clap", "FLAC file, clara": "FLAC file, laion_clap"},
            rounds,
            clock,
            clips,
        )
        few = texts[:10]
        both = {
            "10 labels, laion_clap": lambda: normalize(peer.get_text_embedding(few, use_tensor=True)),
            "10 labels, clara": lambda: zoo.embed_text(few),
        }
        compare(both, {"10 labels, clara": "10 labels, laion_clap"}, rounds, clock, len(few))


CLARA = "import clara; zoo = clara.load('dir:{folder}', device='cpu')"
THEIRS = (
    "from transformers import ClapModel, ClapProcessor; model = ClapModel.from_pretrained('{folder}').eval(); "
    "processor = ClapProcessor.from_pretrained('{folder}')"
)
HOUR = {
    "clara": CLARA + "; zoo.embed_audio('{file}', batch_size=4)",
    "transformers, whole file read, ten random seconds of it": THEIRS + "; import soundfile, torch; "
    "wave, _ = soundfile.read('{file}', dtype='float32'); "
    "features = processor.feature_extractor([wave], sampling_rate=48000, return_tensors='pt'); "
    "torch.inference_mode().__enter__(); model.get_audio_features(**features)",
}
PEAK = (
    "import resource, torch; torch.set_num_threads({threads}); {code}; "
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
)


def child(code: str, clock: str) -> tuple[str, float]:
    """What a fresh Python prints last, and the seconds it took: wall, or its own CPU's."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return run.stdout.strip().rsplit("\n", 1)[-1], wall if clock == "wall" else cpu


def memory(folder: Path, minutes: int, threads: int, clock: str) -> None:
    """Peak resident memory of embedding one long file; that of loading alone beside it."""
    file, rng = folder / "long.flac", np.random.default_rng(0)
    minute = rng.uniform(-0.01, 0.01, 60 * RATE).astype(np.float32)
    with sf.SoundFile(file, "w", RATE, 1) as out:
        for _ in range(minutes):
            out.write(minute)
    cases = {"load, clara": CLARA, "load, transformers": THEIRS, **{f"{minutes} min, {k}": v for k, v in HOUR.items()}}
    for name, code in cases.items():
        peak, seconds = child(PEAK.format(threads=threads, code=code.format(folder=folder, file=file)), clock)
        row = {"what": f"peak memory, {name}", "GiB": round(int(peak) / 2**20, 2), "s": round(seconds, 1)}
        print(json.dumps(row), flush=True)


def cold(folder: Path, rounds: int, clock: str) -> None:
    """Seconds from the start of Python: the list of checkpoints, and import and load."""
    cases = {
        "list of checkpoints, clara": "import clara; clara.list_pretrained()",
        "import and load, transformers": THEIRS.format(folder=folder),
        "import and load, clara": CLARA.format(folder=folder),
    }
    for code in cases.values():
        child(code, clock)  # the first fills the disk's cache
    times = {name: [child(code, clock)[1] for _ in range(rounds)] for name, code in cases.items()}
    for name, values in times.items():
        spread = [round(min(values), 2), round(max(values), 2)]
        print(json.dumps({"what": name, "s": round(statistics.median(values), 2), "spread": spread}), flush=True)


def profile(folder: Path, rounds: int, clock: str) -> None:
    """What bounds the audio tower: its multiplications, the rate it does them at, and the rate of one large matrix
    product, about the pace that this core can keep; then where its time goes."""
    from torch.profiler import ProfilerActivity, profile
    from torch.utils.flop_counter import FlopCounterMode

    zoo = clara.load(f"dir:{folder}", device="cpu")
    x_BNF, mask_BN = zoo.model.front_end(torch.rand(2, RATE * SECONDS) - 0.5, torch.tensor([RATE * SECONDS] * 2))
    for name, kind in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        a, flops = torch.rand(1024, 1024).to(kind), FlopCounterMode(display=False)

        def tower(kind: torch.dtype = kind) -> Tensor:
            with torch.inference_mode(), torch.autocast("cpu", kind, enabled=kind is torch.bfloat16):
                return zoo.model.audio(x_BNF, mask_BN)

        with flops:
            tower()
        rates = {}
        for what, call, work in (
            ("tower", tower, flops.get_total_flops()),
            ("product", lambda a=a: a @ a, 2 * 1024**3),
        ):
            seconds = []
            for _ in range(3 * rounds):
                start = CLOCKS[clock]()
                call()
                seconds.append(CLOCKS[clock]() - start)
            rates[what] = round(work / min(seconds) / 1e9, 1)
        row = {"what": f"audio tower, {name}", "gflop_a_clip": round(flops.get_total_flops() / 2e9, 1)}
        row |= {"gflop_s": rates["tower"], "gflop_s_of_one_product": rates["product"]}
        print(json.dumps(row | {"of_what_is_possible": round(rates["tower"] / rates["product"], 2)}), flush=True)
        with profile(activities=[ProfilerActivity.CPU]) as found:
            tower()
        events = sorted(found.key_averages(), key=lambda e: -e.self_cpu_time_total)[:8]
        total = sum(e.self_cpu_time_total for e in found.key_averages())
        shares = {e.key.removeprefix("aten::"): round(e.self_cpu_time_total / total, 3) for e in events}
        print(json.dumps({"what": f"audio tower, {name}, share of time", **shares}), flush=True)


def main(
    size: Annotated[str, typer.Option(help="tiny or base: the audio encoder.")] = "tiny",
    threads: Annotated[int, typer.Option()] = 1,
    clips: Annotated[int, typer.Option(help="Ten-second clips a call.")] = 4,
    rounds: Annotated[int, typer.Option()] = 5,
    clock: Annotated[str, typer.Option(help="wall or cpu.")] = "wall",
    minutes: Annotated[int, typer.Option(help="Length of the long file.")] = 60,
    parts: Annotated[
        str, typer.Option(help="Which measurements; also laion, where laion_clap is installed.")
    ] = "embed,profile,labels,cold,memory",
) -> None:
    """Measure and print."""
    torch.set_num_threads(threads)
    names = load_language("en").terms["sound"]
    texts = [f"This is a sound of {term.names[0]}." for term in list(names.values())[:LABELS]]
    print(
        json.dumps({"size": size, "threads": threads, "clock": clock, "torch": torch.__version__, "labels": len(texts)})
    )
    with tempfile.TemporaryDirectory(prefix="zoo") as temporary:
        folder = Path(temporary)
        save_peer(folder, size, texts)
        measure: dict[str, Callable[[], None]] = {
            "embed": lambda: embedding(folder, clips, rounds, clock),
            "profile": lambda: profile(folder, rounds, clock),
            "labels": lambda: labels(folder, texts, rounds, clock),
            "laion": lambda: laion(folder, clips, rounds, clock, texts),
            "cold": lambda: cold(folder, rounds, clock),
            "memory": lambda: memory(folder, minutes, threads, clock),
        }
        for part in parts.split(","):
            measure[part]()


if __name__ == "__main__":
    typer.run(main)
