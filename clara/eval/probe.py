"""What little labelled audio adds: class prototypes from a few clips, and a linear probe on frozen embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from clara.data.manifest import Row
from clara.errors import ClaraError, unknown
from clara.eval.clips import Context, DataSpec, labelled
from clara.eval.scores import Place, draw_figures, primary_metric
from clara.losses import minimise
from clara.results import Result

METHODS = ("prototype", "probe")
FOLDS = 3
MAX_ITERATIONS = 500


@dataclass(frozen=True)
class ProbeConfig:
    """Linear probe and prototypes on audio embeddings."""

    train: DataSpec
    """Clips to learn from."""
    test: DataSpec
    """Clips that are scored."""
    task: str
    """Task whose labels are predicted."""
    shots: int | None = None
    """Labelled clips per class; null = all of them, once."""
    seeds: int = 10
    """Number of draws of those clips."""
    methods: tuple[str, ...] = METHODS
    """'prototype', 'probe'."""
    l2: tuple[float, ...] = (0.001, 0.01, 0.1)
    """Weight decays of the probe; of several, the best in cross-validation over training speakers is taken."""


def probe(config: ProbeConfig, context: Context) -> Result:
    """Score prototypes and linear probes on the test clips: figures at "prototype" and "probe", mean and standard
    deviation over draws of training clips; the intervals are over test clips.

    Raises:
        ClaraError: a clip in both sets, a class of the test set without training clips, too few clips for `shots`.
    """
    for method in config.methods:
        if method not in METHODS:
            raise unknown("method", method, METHODS)
    taught, judged = context.taught(config.train, config.test, config.shots or 1)
    train_rows, train_names = labelled(taught, config.task)
    test_rows, test_names = labelled(judged, config.task)
    labels = sorted(set(train_names))
    _check_sets(train_rows, test_rows, test_names, labels)
    y_N = np.array([labels.index(name) for name in train_names])
    truth_B = np.array([labels.index(name) for name in test_names])
    train_ND, test_BD = context.audio(train_rows), context.audio(test_rows)
    groups = np.array([row.speaker or "" for row in train_rows])
    runs: dict[str, list[np.ndarray]] = {method: [] for method in config.methods}
    for i in range(1 if config.shots is None else config.seeds):
        pick = draw_shots(y_N, config.shots, labels, context.seed + i)
        x_ND, y = train_ND[pick], torch.from_numpy(y_N[pick])
        for method in config.methods:
            if method == "prototype":
                scores = (test_BD - x_ND.mean(0)) @ prototypes(x_ND, y, len(labels)).T
            else:
                l2 = choose_l2(x_ND, y, groups[pick], config.l2, context.seed)
                scores = fit_probe(x_ND, y, len(labels), l2)(test_BD)
            runs[method].append(scores.argmax(1).numpy())
    figures, outcomes = [], {}
    for method, found in runs.items():
        place = Place(method, primary_metric(config.task))
        more, outcomes[method] = draw_figures(place, found, truth_B, len(labels), context.seed)
        figures += more
    counts = dict(zip(labels, np.bincount(truth_B, minlength=len(labels)).tolist()))
    notes = {"train_clips": len(pick), "shots": config.shots}
    return Result(len(test_rows), tuple(figures), counts, outcomes=outcomes, notes=notes)


def _check_sets(train: Sequence[Row], test: Sequence[Row], test_names: Sequence[str], labels: Sequence[str]) -> None:
    both = {row.audio for row in train} & {row.audio for row in test}
    if both:
        raise ClaraError(f"{len(both)} clips are in the training and the test set, first {min(both)}: choose splits.")
    unseen = sorted(set(test_names) - set(labels))
    if unseen:
        raise ClaraError(f"The test set has labels that no training clip has: {unseen[:5]}.")


def draw_shots(y_N: np.ndarray, shots: int | None, labels: Sequence[str], seed: int) -> np.ndarray:
    """Indices of `shots` clips of every class, drawn without replacement; all clips for None."""
    if shots is None:
        return np.arange(len(y_N))
    rng, out = np.random.default_rng(seed), []
    for k, label in enumerate(labels):
        mine = np.flatnonzero(y_N == k)
        if not 0 < shots <= len(mine):
            raise ClaraError(f"shots={shots}: {label!r} has {len(mine)} training clips.")
        out.append(rng.choice(mine, shots, replace=False))
    return np.concatenate(out)


def prototypes(x_ND: Tensor, y_N: Tensor, classes: int) -> Tensor:
    """Unit mean vector of each class (K, D), of embeddings less the mean of all (SimpleShot, arXiv:1911.04623)."""
    x_ND = normalize(x_ND - x_ND.mean(0), dim=-1)
    return normalize(torch.stack([x_ND[y_N == k].mean(0) for k in range(classes)]), dim=-1)


@dataclass(frozen=True)
class LinearProbe:
    """A fitted probe: embeddings (B, D) -> logits (B, K), float64."""

    mean_D: Tensor
    std_D: Tensor
    weight_KD: Tensor
    bias_K: Tensor

    def __call__(self, x_BD: Tensor) -> Tensor:
        return (x_BD.double() - self.mean_D) / self.std_D @ self.weight_KD.T + self.bias_K


def fit_probe(x_ND: Tensor, y_N: Tensor, classes: int, l2: float, prior_KD: Tensor | None = None) -> LinearProbe:
    """Logistic regression on standardised embeddings by LBFGS: mean cross-entropy + l2 / 2 · ‖weight - prior‖², the
    bias free. `prior_KD`: weights on the embeddings as they are, such as those of the labels' texts; default: zero.

    Raises:
        ClaraError: `l2` is not above 0.
    """
    if l2 <= 0:
        raise ClaraError(f"l2={l2}: expected above 0; without it separable classes have no solution.")
    x_ND = x_ND.double()
    mean_D, std_D = x_ND.mean(0), x_ND.std(0, correction=0).clamp_min(1e-8)
    x_ND = (x_ND - mean_D) / std_D
    start_KD = torch.zeros(classes, x_ND.shape[1], dtype=torch.float64)
    if prior_KD is not None:
        start_KD = prior_KD.double() * std_D  # the same function of embeddings that are divided by their deviation
    start_NK = x_ND @ start_KD.T
    # what is learned lies in the span of the clips: with few of them, a fraction of the numbers, and the same solution
    left_NR, size_R, right_RD = torch.linalg.svd(x_ND, full_matrices=False)
    x_NR = left_NR * size_R
    learned_KR = torch.zeros(classes, len(size_R), dtype=torch.float64, requires_grad=True)
    bias_K = torch.zeros(classes, dtype=torch.float64, requires_grad=True)

    def loss() -> Tensor:
        return cross_entropy(start_NK + x_NR @ learned_KR.T + bias_K, y_N) + l2 / 2 * learned_KR.square().sum()

    tolerances = {"history_size": 20, "tolerance_grad": 1e-5, "tolerance_change": 1e-9}
    minimise([learned_KR, bias_K], loss, MAX_ITERATIONS, **tolerances)
    weight_KD = start_KD + learned_KR.detach() @ right_RD
    return LinearProbe(mean_D, std_D, weight_KD, bias_K.detach())


def draw_folds(groups_N: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The fold (N,) of each clip, of `count`: clips of one group, such as a speaker, share theirs. With fewer groups
    than folds each clip stands for itself."""
    names = np.unique(groups_N)
    ids_N = np.searchsorted(names, groups_N) if len(names) >= count else np.arange(len(groups_N))
    return np.random.default_rng(seed).permutation(ids_N.max() + 1)[ids_N] % count


def choose_l2(x_ND: Tensor, y_N: Tensor, groups_N: np.ndarray, choices: Sequence[float], seed: int) -> float:
    """The weight decay with the best accuracy on held-out training speakers (fewer than three: held-out clips)."""
    if not choices:
        raise ClaraError("l2 is empty: expected at least one weight decay.")
    if len(choices) == 1:
        return choices[0]
    fold_N = draw_folds(groups_N, FOLDS, seed)
    classes, correct = int(y_N.max()) + 1, dict.fromkeys(choices, 0)
    for fold in range(FOLDS):
        held = torch.from_numpy(fold_N == fold)
        if held.all() or not held.any():
            continue
        for l2 in choices:
            logits = fit_probe(x_ND[~held], y_N[~held], classes, l2)(x_ND[held])
            correct[l2] += int((logits.argmax(1) == y_N[held]).sum())
    return max(choices, key=lambda l2: (correct[l2], l2))
