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
from torch.nn.functional import cosine_similarity, gelu, normalize

import clara
from clara.layers import dense
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
    half = clara.load(f"dir:{folder}", device="cpu", precision="bfloat16")
    rng = np.random.default_rng(0)
    waves = [np.round(rng.uniform(-3000, 3000, RATE * SECONDS)).astype(np.float32) / 32768 for _ in range(clips)]
    paths = [folder / f"{i}.flac" for i in range(clips)]
    for path, wave in zip(paths, waves):
        sf.write(path, wave, RATE)
    own: list[Any] = [(wave, RATE) for wave in waves]
    calls = {
        "array, transformers": lambda: peer.audio(waves),
        "array, clara": lambda: zoo.embed_audio(own),
        "array, clara bfloat16": lambda: half.embed_audio(own),
        "array, transformers bf16 autocast": bf16(lambda: peer.audio(waves)),
        "FLAC file, transformers": lambda: peer.files(paths),
        "FLAC file, clara": lambda: zoo.embed_audio(paths),
    }
    base = {name: "array, transformers" for name in calls if name != "array, transformers"}
    compare(calls, base, rounds, clock, clips)


def labels(folder: Path, texts: list[str], rounds: int, clock: str) -> None:
    """Fifty labels to vectors. laion_clap pads every text to 77 tokens; transformers does what it is told."""
    zoo, peer = clara.load(f"dir:{folder}", device="cpu"), Peer(folder)
    half = clara.load(f"dir:{folder}", device="cpu", precision="bfloat16")
    calls = {
        "50 labels, transformers padded to 77": lambda: peer.text(texts, padding="max_length", max_length=PADDED),
        "50 labels, transformers padded to the longest": lambda: peer.text(texts, padding=True),
        "50 labels, clara": lambda: zoo.embed_text(texts),
        "50 labels, clara bfloat16": lambda: half.embed_text(texts),
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


CLARA = "import clara; zoo = clara.load('{name}', device='cpu')"
THEIRS = (
    "from transformers import ClapModel, ClapProcessor; model = ClapModel.from_pretrained('{folder}').eval(); "
    "processor = ClapProcessor.from_pretrained('{folder}')"
)
WHOLE = (
    "; import soundfile, torch; wave, _ = soundfile.read('{file}', dtype='float32'); "
    "features = processor.feature_extractor([wave], sampling_rate=48000, return_tensors='pt'); "
    "torch.inference_mode().__enter__(); model.get_audio_features(**features)"
)
SMALL = "clara-small.base"


def child(code: str) -> tuple[float, float, float]:
    """A fresh Python that runs `code`: peak resident memory in GiB, wall seconds, its own CPU's seconds."""
    # of this program alone: ru_maxrss would begin with what the parent held when it forked
    code += "; print(next(x.split()[1] for x in open('/proc/self/status') if x.startswith('VmHWM')))"
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return int(run.stdout.strip().rsplit("\n", 1)[-1]) / 2**20, wall, cpu


def long_file(file: Path, minutes: int, rate: int) -> Path:
    """`minutes` of noise; FLAC or WAV by its name."""
    minute = np.random.default_rng(0).uniform(-0.01, 0.01, 60 * rate).astype(np.float32)
    with sf.SoundFile(file, "w", rate, 1) as out:
        for _ in range(minutes):
            out.write(minute)
    return file


def memory(folder: Path, minutes: int, threads: int) -> None:
    """Peak resident memory of loading, and of embedding a FLAC of `minutes` and a WAV three times as long."""
    flac, wave = (long_file(folder / f"long.{kind}", n, RATE) for kind, n in (("flac", minutes), ("wav", 3 * minutes)))
    ours, small = CLARA.format(name=f"dir:{folder}"), CLARA.format(name=SMALL)
    theirs = THEIRS.format(folder=folder)
    cases = {
        "load, transformers": theirs,
        "load, clara": ours,
        f"load, {SMALL}": small,
        f"{minutes} min FLAC, transformers, read whole, ten random seconds of it": theirs + WHOLE.format(file=flac),
        f"{minutes} min FLAC, clara": ours + f"; zoo.embed_audio('{flac}')",
        f"{minutes} min FLAC, {SMALL}": small + f"; zoo.embed_audio('{flac}')",
        f"{3 * minutes} min WAV, {SMALL}": small + f"; zoo.embed_audio('{wave}')",
    }
    for name, code in cases.items():
        peak, _, cpu = child(f"import torch; torch.set_num_threads({threads}); {code}")
        print(json.dumps({"what": f"peak memory, {name}", "GiB": round(peak, 2), "cpu_s": round(cpu, 1)}), flush=True)


def cold(folder: Path, rounds: int) -> None:
    """Seconds from the start of Python, of the wall and of its own CPU: median of rounds, which alternate."""
    cases = {
        "import clara": "import clara",
        "import clara; clara.list_models()": "import clara; clara.list_models()",
        f"import and load, {SMALL}": CLARA.format(name=SMALL),
        "import and load, clara": CLARA.format(name=f"dir:{folder}"),
        "import and load, transformers": THEIRS.format(folder=folder),
    }
    for code in cases.values():
        child(code)  # the first fills the disk's cache
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, code in cases.items():
            found[name].append(child(code))
    for name, runs in found.items():
        _, walls, cpus = zip(*runs)
        row = {"what": name, "wall_s": round(statistics.median(walls), 2), "cpu_s": round(statistics.median(cpus), 2)}
        print(json.dumps(row | {"cpu_spread": [round(min(cpus), 2), round(max(cpus), 2)]}), flush=True)


SHAPES = ((4096, 96, 384, "gelu"), (4096, 384, 96, "none"), (256, 384, 1152, "none"), (256, 384, 1536, "gelu"))
SHAPES += ((64, 768, 3072, "gelu"), (64, 3072, 768, "none"))  # tokens a clip, in, out, activation: of HTSAT-tiny


def products(rounds: int, clock: str) -> None:
    """GFLOP/s of the tower's matrix products for four clips: torch's linear and GELU, and `clara.layers.dense`."""
    for kind in (torch.float32, torch.bfloat16):
        for tokens, wide, out, activation in SHAPES:
            layer, x = torch.nn.Linear(wide, out).to(kind), torch.randn(4 * tokens, wide).to(kind)

            def usual(layer: Any = layer, x: Tensor = x, activation: str = activation) -> Tensor:
                return gelu(layer(x)) if activation == "gelu" else layer(x)

            def ours(layer: Any = layer, x: Tensor = x, activation: str = activation) -> Tensor:
                return dense(layer, x, activation)

            rates = {}
            for name, call in (("usual", usual), ("dense", ours)):
                seconds = []
                with torch.inference_mode():
                    for _ in range(rounds + 1):
                        start = CLOCKS[clock]()
                        call()
                        seconds.append(CLOCKS[clock]() - start)
                rates[name] = round(8 * tokens * wide * out / min(seconds) / 1e9, 1)
            what = f"{str(kind).removeprefix('torch.')}, {4 * tokens} × {wide} × {out}, {activation}"
            print(json.dumps({"what": what, "gflop_s": rates}, ensure_ascii=False), flush=True)


def profile(folder: Path, rounds: int, clock: str) -> None:
    """What bounds the audio tower: its multiplications, the rate it does them at, and the rate of one large matrix
    product, about the pace that this core can keep; then where its time goes."""
    from torch.profiler import ProfilerActivity, profile
    from torch.utils.flop_counter import FlopCounterMode

    wave_BT, len_B = torch.rand(2, RATE * SECONDS) - 0.5, torch.tensor([RATE * SECONDS] * 2)
    for name, kind in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a, flops = torch.rand(1024, 1024).to(kind), FlopCounterMode(display=False)
        model = clara.load(f"dir:{folder}", device="cpu", precision=name).model
        x_BNF, mask_BN = model.front_end(wave_BT, len_B)

        def tower(audio: Any = model.audio, given: Any = (x_BNF, mask_BN), kind: torch.dtype = kind) -> Tensor:
            with torch.autocast("cpu", kind, enabled=kind is torch.bfloat16):
                return audio(*given)

        with flops, torch.enable_grad():  # counted without oneDNN's products, of which the counter knows nothing
            tower()
        rates = {}
        for what, call, work in (
            ("tower", tower, flops.get_total_flops()),
            ("product", lambda a=a: a @ a, 2 * 1024**3),
        ):
            seconds = []
            for _ in range(3 * rounds):
                start = CLOCKS[clock]()
                with torch.inference_mode():
                    call()
                seconds.append(CLOCKS[clock]() - start)
            rates[what] = round(work / min(seconds) / 1e9, 1)
        row = {"what": f"audio tower, {name}", "gflop_a_clip": round(flops.get_total_flops() / 2e9, 1)}
        row |= {"gflop_s": rates["tower"], "gflop_s_of_one_product": rates["product"]}
        print(json.dumps(row | {"of_what_is_possible": round(rates["tower"] / rates["product"], 2)}), flush=True)
        with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU]) as found:
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
    keep: Annotated[Path | None, typer.Option(help="Folder of the checkpoint: made, or taken as it is.")] = None,
    parts: Annotated[
        str, typer.Option(help="Which measurements; also products, and laion where laion_clap is installed.")
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
        folder = keep or Path(temporary)
        if parts != "products" and not (folder / "model.safetensors").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            save_peer(folder, size, texts)
        measure: dict[str, Callable[[], None]] = {
            "embed": lambda: embedding(folder, clips, rounds, clock),
            "products": lambda: products(rounds, clock),
            "profile": lambda: profile(folder, rounds, clock),
            "labels": lambda: labels(folder, texts, rounds, clock),
            "laion": lambda: laion(folder, clips, rounds, clock, texts),
            "cold": lambda: cold(folder, rounds),
            "memory": lambda: memory(folder, minutes, threads),
        }
        for part in parts.split(","):
            measure[part]()


if __name__ == "__main__":
    typer.run(main)
