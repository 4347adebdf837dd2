"""The same clip embedded twice: cosine between the two calls, by each peer's own code and by CLARA.

    python benchmarks/determinism.py [--full]

transformers' ClapModel; LAION's features and model (`get_audio_features` by `data_truncating` and `data_filling`, as
laion_clap's wrapper calls it); msclap's wrapper. Models with random weights, small or of the published sizes, built by
the peers' own classes as the tests build them, saved in their own formats and read from there by CLARA: what is random
lies in front of the model, in how a clip is brought to the window. `CLARA to theirs` is the cosine of the two sides'
vectors of the first call. `another clip` is the cosine of the peer's vectors of two different clips: random weights
tell clips apart less than trained ones do, so that every deviation from 1 is small here, and is to be read against it.
Peers that are not installed are left out, and their rows named.
"""

from __future__ import annotations

import importlib.util
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any
from unittest.mock import patch

import numpy as np
import soundfile as sf
import torch
import typer
from torch import Tensor
from torch.nn.functional import normalize

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "golden")]

from clips import clip  # noqa: E402

from clara.errors import unknown  # noqa: E402
from clara.zoo.embedder import Embedder  # noqa: E402
from clara.zoo.factory import load_foreign  # noqa: E402
from clara.zoo.loading import load  # noqa: E402

LONG, SHORT, CALLS = 25.0, 3.0, 10
CLIPS = (f"{LONG:g} s", f"{SHORT:g} s", f"{SHORT:g} s beside three others")
Embed = Callable[[list[np.ndarray]], Tensor]


@dataclass(frozen=True)
class Case:
    """A peer's way to embed, and ours with the same weights; `way` is what ours does with long clips."""

    name: str
    rate: int
    theirs: Embed
    ours: Callable[[], Embedder]
    way: str
    clips: tuple[str, ...] = CLIPS


def transformers_cases(folder: Path, full: bool) -> Iterator[Case]:
    """ClapModel and ClapProcessor, several clips a call."""
    from claps import save_clap
    from transformers import ClapModel, ClapProcessor

    for kind in ("unfused", "fused"):
        place = save_clap(folder / kind, fused=kind == "fused", full="tiny" if full else None)
        model, processor = ClapModel.from_pretrained(place).eval(), ClapProcessor.from_pretrained(place)

        def embed(waves: list[np.ndarray], model: Any = model, processor: Any = processor) -> Tensor:
            features = processor.feature_extractor(waves, sampling_rate=48000, return_tensors="pt")
            found = model.get_audio_features(**features)
            return found if isinstance(found, Tensor) else found.pooler_output

        way = "fusion" if kind == "fused" else "windows"
        yield Case(f"transformers, {kind}", 48000, embed, lambda place=place: load(f"dir:{place}", "cpu"), way)


@contextmanager
def names_kept() -> Iterator[None]:
    """What stands in for laion_clap's downloads is taken away at the end: CLARA and the next peer use those names."""
    from transformers import BartTokenizer, BertTokenizer, RobertaModel, RobertaTokenizer

    with ExitStack() as stack:
        for kind in {BartTokenizer, BertTokenizer, RobertaModel, RobertaTokenizer}:
            stack.enter_context(patch.object(kind, "from_pretrained", kind.from_pretrained))
        yield


def laion_cases(folder: Path, full: bool) -> Iterator[Case]:
    """laion_clap's own features and model. Its wrapper fills short clips by 'repeatpad', its trainer as it is told."""
    import make_laion

    make_laion.save_roberta(folder / "roberta")
    for truncating, way in (("rand_trunc", "windows"), ("fusion", "fusion")):
        with names_kept(), redirect_stdout(sys.stderr):
            clap, file = make_laion.peer(folder, truncating == "fusion", "HTSAT-tiny" if full else None)
        clap.model.eval()  # as its wrapper does at every call
        from laion_clap.training.data import float32_to_int16, get_audio_features, int16_to_float32

        for filling in ("repeatpad", "pad", "repeat"):

            def features(wave: np.ndarray, kind: tuple = (truncating, filling), clap: Any = clap) -> dict[str, Tensor]:
                rounded = torch.from_numpy(int16_to_float32(float32_to_int16(wave)))
                return get_audio_features({}, rounded, 480000, *kind, clap.model_cfg["audio_cfg"])

            def embed(waves: list[np.ndarray], features: Any = features, clap: Any = clap) -> Tensor:
                return clap.model.get_audio_embedding([features(wave) for wave in waves])

            def ours(file: Path = file, filling: str = filling) -> Embedder:
                zoo = Embedder(load_foreign(file, "laion", str(folder / "roberta")), "cpu")
                zoo.model.front_end.config = replace(zoo.model.front_end.config, fill=filling)
                return zoo

            clips = CLIPS if filling == "repeatpad" else CLIPS[2:]
            yield Case(f"laion_clap, {truncating}, {filling}", 48000, embed, ours, way, clips)


def msclap_cases(folder: Path, full: bool) -> Iterator[Case]:
    """msclap's own wrapper, which reads files."""
    import make_msclap

    for version in ("2022", "2023"):
        wrapper, file, text = make_msclap.peer(version, folder, small=not full)

        def embed(waves: list[np.ndarray], wrapper: Any = wrapper) -> Tensor:
            paths = [str(folder / f"{i}.wav") for i in range(len(waves))]
            for path, wave in zip(paths, waves):
                sf.write(path, wave, 44100)
            return wrapper.get_audio_embeddings(paths)

        def ours(file: Path = file, text: Path = text) -> Embedder:
            return Embedder(load_foreign(file, "msclap", str(text)), "cpu")

        yield Case(f"msclap {version}", 44100, embed, ours, "windows")


PEERS = {  # how its cases are made, and what they are called
    "transformers": (transformers_cases, "unfused and fused"),
    "laion_clap": (laion_cases, "rand_trunc and fusion, each by three fillings"),
    "msclap": (msclap_cases, "2022 and 2023"),
}


def calls(embed: Embed, waves: list[np.ndarray]) -> Tensor:
    """The first clip's vectors of all calls, (CALLS, D), unit length."""
    return normalize(torch.cat([embed(waves)[:1].float() for _ in range(CALLS)]), dim=-1)


def rows(case: Case) -> Iterator[str]:
    """Rows of Markdown."""
    zoo = case.ours()

    def ours(waves: list[np.ndarray]) -> Tensor:
        return zoo.embed_audio([(wave, case.rate) for wave in waves], long=case.way)

    short = [clip(SHORT, case.rate, i) for i in range(4)]
    waves = dict(zip(CLIPS, ([clip(LONG, case.rate, 0)], short[:1], short)))
    found = normalize(torch.cat([case.theirs([wave]).float() for wave in short[:2]]), dim=-1)
    for what in case.clips:
        their_CD, our_CD = calls(case.theirs, waves[what]), calls(ours, waves[what])
        twice = [float((vectors[1:] @ vectors[0]).min()) for vectors in (their_CD, our_CD)]
        values = *twice, float(our_CD[0] @ their_CD[0]), float(found[0] @ found[1])
        yield f"| {case.name} | {what} | {case.way} | " + " | ".join(f"{v:.6f}" for v in values) + " |"


def main(
    peers: Annotated[str, typer.Option(help="Which, with commas.")] = ",".join(PEERS),
    full: Annotated[bool, typer.Option("--full", help="Models of the published sizes, tiny HTSAT.")] = False,
) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    names = peers.split(",")
    for peer in names:
        if peer not in PEERS:
            raise unknown("peer", peer, PEERS)
    head = ["peer", "clip", "`long` of CLARA", "theirs", "CLARA", "CLARA to theirs", "another clip, theirs"]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    missing = [peer for peer in names if importlib.util.find_spec(peer) is None]
    for peer in [name for name in names if name not in missing]:
        for seed in (random.seed, np.random.seed, torch.manual_seed):  # whichever a peer draws with
            seed(0)
        with tempfile.TemporaryDirectory(prefix="twice") as folder, torch.no_grad():
            for case in PEERS[peer][0](Path(folder), full):
                for row in rows(case):
                    print(row, flush=True)
    for peer in missing:
        print(f"Left out, for {peer} is not installed: {peer}, {PEERS[peer][1]}.")


if __name__ == "__main__":
    typer.run(main)
