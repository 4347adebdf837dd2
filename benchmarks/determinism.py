"""The same clip embedded twice: cosine between the two calls, by each peer's own code and by CLARA.

    python benchmarks/determinism.py --peers transformers,laion_clap,msclap

Small models with random weights, built by the peers' own classes as the tests build them, and saved in their own
formats: what is random lies in front of the model, in how a clip is brought to the window. `another clip` is the cosine
of the peer's vectors of two different clips: random weights tell clips apart less than trained ones do, so that every
deviation from 1 is small here, and is to be read against it. Peers that are not installed are left out by name.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soundfile as sf
import torch
import typer
from torch import Tensor
from torch.nn.functional import normalize

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "golden")]

from clips import clip  # noqa: E402

from clara.zoo.embedder import Embedder, load  # noqa: E402
from clara.zoo.factory import load_foreign  # noqa: E402

LONG, SHORT, CALLS = 25.0, 3.0, 10
Embed = Callable[[list[np.ndarray]], Tensor]
Case = tuple[str, int, Embed, Callable[[], Embedder], str]  # what, Hz, theirs, ours, what ours does with long clips


def transformers_cases(folder: Path) -> Iterator[Case]:
    """ClapModel and ClapProcessor, several clips a call."""
    from claps import save_clap
    from transformers import ClapModel, ClapProcessor

    for kind in ("unfused", "fused"):
        place = save_clap(folder / kind, fused=kind == "fused")
        model, processor = ClapModel.from_pretrained(place).eval(), ClapProcessor.from_pretrained(place)

        def embed(waves: list[np.ndarray], model: Any = model, processor: Any = processor) -> Tensor:
            features = processor.feature_extractor(waves, sampling_rate=48000, return_tensors="pt")
            found = model.get_audio_features(**features)
            return found if isinstance(found, Tensor) else found.pooler_output

        way = "fusion" if kind == "fused" else "windows"
        yield f"transformers, {kind}", 48000, embed, lambda place=place: load(f"dir:{place}", "cpu"), way


def laion_cases(folder: Path) -> Iterator[Case]:
    """laion_clap's own wrapper."""
    import make_laion

    make_laion.save_roberta(folder / "roberta")
    for kind in ("unfused", "fused"):
        torch.manual_seed(0)
        clap, file = make_laion.peer(folder, kind == "fused")

        def embed(waves: list[np.ndarray], clap: Any = clap) -> Tensor:
            return torch.from_numpy(clap.get_audio_embedding_from_data(waves))

        def ours(file: Path = file) -> Embedder:
            return Embedder(load_foreign(file, "laion", str(folder / "roberta")), "cpu")

        yield f"laion_clap, {kind}", 48000, embed, ours, "fusion" if kind == "fused" else "windows"


def msclap_cases(folder: Path) -> Iterator[Case]:
    """msclap's own wrapper, which reads files."""
    import make_msclap

    for version in ("2022", "2023"):
        wrapper, file, text = make_msclap.peer(version, folder, small=True)

        def embed(waves: list[np.ndarray], wrapper: Any = wrapper) -> Tensor:
            paths = [str(folder / f"{i}.wav") for i in range(len(waves))]
            for path, wave in zip(paths, waves):
                sf.write(path, wave, 44100)
            return wrapper.get_audio_embeddings(paths)

        def ours(file: Path = file, text: Path = text) -> Embedder:
            return Embedder(load_foreign(file, "msclap", str(text)), "cpu")

        yield f"msclap {version}", 44100, embed, ours, "windows"


PEERS = {"transformers": transformers_cases, "laion_clap": laion_cases, "msclap": msclap_cases}


def again(embed: Embed, waves: list[np.ndarray]) -> float:
    """The lowest cosine of the first clip's vectors between the first call and any of the next."""
    first, *rest = (normalize(embed(waves)[:1].float(), dim=-1) for _ in range(CALLS))
    return min(float((first * other).sum()) for other in rest)


def table(cases: Iterator[Case]) -> Iterator[str]:
    """Rows of Markdown."""
    for name, rate, theirs, make, way in cases:
        zoo = make()

        def ours(waves: list[np.ndarray], zoo: Embedder = zoo, rate: int = rate, way: str = way) -> Tensor:
            return zoo.embed_audio([(wave, rate) for wave in waves], long=way)

        long, short = clip(LONG, rate, 0), [clip(SHORT, rate, i) for i in range(4)]
        rows = {f"{LONG:g} s": [long], f"{SHORT:g} s": short[:1], f"{SHORT:g} s beside three others": short}
        found = normalize(torch.cat([theirs([wave]).float() for wave in (short[0], short[1])]), dim=-1)
        another = float(found[0] @ found[1])
        for what, waves in rows.items():
            values = again(theirs, waves), again(ours, waves), another
            yield f"| {name} | {what} | {way} | " + " | ".join(f"{v:.6f}" for v in values) + " |"


def main(
    peers: Annotated[str, typer.Option(help="Which, with commas.")] = "transformers",
) -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    print("| peer | clip | `long` of CLARA | theirs | CLARA | another clip, theirs |\n|---|---|---|---|---|---|")
    for peer in peers.split(","):
        if importlib.util.find_spec(peer) is None:
            print(f"| {peer} | is not installed | | | | |")
            continue
        with tempfile.TemporaryDirectory(prefix="twice") as folder, torch.no_grad():
            for row in table(PEERS[peer](Path(folder))):
                print(row, flush=True)


if __name__ == "__main__":
    typer.run(main)
