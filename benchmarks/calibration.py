"""Which calibration for which folder? Methods on unlabelled sets drawn from emotional corpora, balanced and not.

    python benchmarks/calibration.py clara-small.base DATA --embeddings small.npz

DATA: folder of packed corpora. For every corpus, kind of set and size, sets are drawn at random, methods learn from the
set without its labels, and two figures are taken: UAR over all clips of the corpus, and accuracy on the set itself,
which counts labels as often as they occur there. `balanced`: equally many clips a class; `skewed`: class shares from a
Dirichlet distribution with concentration 0.3; `one`: 80 % of one class. Printed: a Markdown table, means over corpora.

Beside the methods of `clara.calibration`: `saerens`, EM priors on the plain scores; `shares`, the mean in which every
class counts equally, by posteriors and offsets in turn; `mean*0.75`, less than the mean.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor

import clara
from clara import metrics
from clara.calibration import offsets
from clara.eval.clips import Context, DataSpec, labelled
from clara.text.prompts import prompts, task_labels

KINDS = ("balanced", "skewed", "one")
CORPORA = "emodb,emovo,savee,nemo:valid,ased"


def saerens(logits_BK: Tensor) -> Tensor:
    """EM priors as published, on the plain logits."""
    p_BK, labels = logits_BK.softmax(-1), logits_BK.shape[1]
    prior_K = torch.full((labels,), 1 / labels)
    for _ in range(100):
        joint_BK = p_BK * prior_K
        prior_K = (joint_BK / joint_BK.sum(1, keepdim=True)).mean(0).clamp(min=1e-6)
    return -(prior_K * labels).log()


def by_shares(logits_BK: Tensor) -> Tensor:
    """The mean in which every class counts equally: posteriors from offsets and offsets from posteriors in turn."""
    mean_K = offset_K = logits_BK.mean(0)
    for _ in range(50):
        p_BK = (logits_BK - offset_K).softmax(-1)
        offset_K = ((p_BK.T @ logits_BK + 2 * mean_K) / (p_BK.sum(0) + 2)[:, None]).mean(0)
    return offset_K


METHODS: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda x: torch.zeros(x.shape[1]),
    "mean": lambda x: offsets(x, "mean"),
    "mean*0.75": lambda x: 0.75 * x.mean(0),
    "saerens": saerens,
    "shares": by_shares,
    "prior": lambda x: offsets(x, "prior"),
    "auto": lambda x: offsets(x, "auto"),
}


def draw(truth_N: np.ndarray, kind: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of a set of about `size` clips; a class gives no more clips than it has."""
    classes = int(truth_N.max()) + 1
    shares = np.full(classes, 1 / classes)
    if kind == "skewed":
        shares = rng.dirichlet(np.full(classes, 0.3))
    elif kind == "one":
        shares = np.full(classes, 0.2 / (classes - 1))
        shares[rng.integers(classes)] = 0.8
    wanted = np.arange(size) % classes if kind == "balanced" else rng.choice(classes, size, p=shares)
    members = [np.flatnonzero(truth_N == k) for k in range(classes)]
    return np.concatenate([rng.permutation(m)[: (wanted == k).sum()] for k, m in enumerate(members)])


def embedded(context: Context, corpora: list[str], cache: Path | None) -> dict[str, np.ndarray]:
    """CORPUS/audio (N, D) and CORPUS/emotion (N,) of each corpus, from the cache as far as it has them."""
    found = dict(np.load(cache)) if cache and cache.is_file() else {}
    for corpus in corpora:
        name, _, split = corpus.partition(":")
        if f"{name}/audio" not in found:
            rows, names = labelled(context.rows(DataSpec("packed", name, (split,) if split else ())), "emotion")
            found |= {f"{name}/audio": context.audio(rows).numpy(), f"{name}/emotion": np.array(names)}
            if cache:
                np.savez(cache, **found)
    return found


def main(
    model: Annotated[str, typer.Argument(help="Checkpoint.")],
    data: Annotated[Path, typer.Argument(help="Folder of packed corpora.")],
    corpora: Annotated[str, typer.Option(help="Names, with :SPLIT where not all clips count.")] = CORPORA,
    embeddings: Annotated[Path | None, typer.Option(help="Kept here, and read if it exists.")] = None,
    sizes: Annotated[str, typer.Option(help="Clips a set.")] = "20,50,200",
    draws: Annotated[int, typer.Option(help="Sets of each kind.")] = 20,
) -> None:
    """Embed, draw, calibrate and print."""
    torch.set_num_threads(1)
    zoo = clara.load(model, device="cpu")
    context = Context(zoo, data)
    names, counts = corpora.split(","), [int(n) for n in sizes.split(",")]
    found = embedded(context, names, embeddings)
    results: dict[tuple[str, int, str], list[tuple[float, float]]] = {}
    for name in (n.partition(":")[0] for n in names):
        words = found[f"{name}/emotion"]
        labels = [k for k in task_labels("emotion") if k in set(words)]
        truth_N = np.array([labels.index(w) for w in words])
        label_KD = context.labels(prompts("emotion", labels, "en"))
        logits_NK = zoo.scale * torch.from_numpy(found[f"{name}/audio"]) @ label_KD.T
        for kind in KINDS:
            for size in counts:
                rng = np.random.default_rng([size, KINDS.index(kind)])
                for _ in range(draws):
                    chosen = draw(truth_N, kind, size, rng)
                    for method, of in METHODS.items():
                        named_N = (logits_NK - of(logits_NK[chosen])).argmax(1).numpy()
                        rates = metrics.uar(truth_N, named_N), metrics.accuracy(truth_N[chosen], named_N[chosen])
                        results.setdefault((kind, size, method), []).append(rates)
    columns = [(kind, size) for kind in KINDS for size in counts]
    print(f"UAR over all clips / accuracy on the set, {model}, mean of {corpora}, {draws} draws each\n")
    print(
        "| method | "
        + " | ".join(f"{kind} {size}" for kind, size in columns)
        + " |\n|---"
        + "|---" * len(columns)
        + "|"
    )
    for method in METHODS:
        cells = ["{:.3f} / {:.3f}".format(*np.mean(results[kind, size, method], 0)) for kind, size in columns]
        print(f"| {method} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    typer.run(main)
