"""Leave-one-corpus-out: a training recipe is judged by the mean over corpora, each of them once unseen.

One corpus alone misleads: it chooses the design and then no longer measures it. For each corpus and seed the training
recipe runs without the corpus, and the exported checkpoint is scored on it, plain and calibrated.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clara.config import build, load_yaml, override, recipe_path, to_dict
from clara.errors import ClaraError, unknown
from clara.eval.contamination import judge, training_of
from clara.eval.runner import load_recipe
from clara.eval.runner import run as evaluate
from clara.parsing import read_json
from clara.report.tables import markdown
from clara.results import Result, read_results, write_json
from clara.train import trainer
from clara.train.checkpoint import FREE, differences, steps_in
from clara.train.recipe import TrainConfig, check

RESULT = "leave-one-out"
KINDS = ("plain", "calibrated")
RATES = ("uar", "accuracy")
# a run's place, speed and length of log; `init` and `steps` make it another recipe here
FREE_HERE = {name for name in FREE if name not in ("steps", "init")}


@dataclass(frozen=True)
class LeaveOneOutConfig:
    """A training recipe run without each corpus in turn and scored on the one left out."""

    train: str
    """Training recipe, by path (from this file's folder or the working directory) or name."""
    corpora: tuple[str, ...]
    """Names of evaluations of `eval`, which must be corpora of the shards."""
    data: str
    """Folder of the corpora, as for `clara eval`."""
    out: str
    """Folder of the runs, OUT/CORPUS-SEED each, and of the result."""
    eval: str = "emotion-zero-shot"
    """Evaluation recipe, by path or name."""
    seeds: tuple[int, ...] = (0,)
    """Seeds to train with; one run per corpus and seed."""
    mean_over: tuple[str, ...] = ()
    """Corpora that count in the mean; empty = all."""
    language: str = "en"
    """Language of the prompts of the reported figures."""
    train_settings: tuple[str, ...] = ()
    """`a.b=value` settings for the training recipe."""
    eval_settings: tuple[str, ...] = ()
    """`a.b=value` settings for the evaluation recipe."""
    keep_states: bool = False
    """Keep the training states of finished runs, not the exported checkpoint alone."""


@dataclass(frozen=True)
class _Plan:
    """A checked recipe: the raw training recipe, its file, the evaluation's file and the raw ones by corpus."""

    config: LeaveOneOutConfig
    train: dict[str, Any]
    train_path: Path
    eval_path: Path
    evaluations: dict[str, Any]

    def training(self, corpus: str, seed: int) -> TrainConfig:
        """The training recipe without a corpus."""
        whole = build(TrainConfig, self.train, where=self.train_path.name)
        weights = {k: v for k, v in whole.data.sampling.corpora.items() if k != corpus}
        left_out = tuple(dict.fromkeys((*whole.data.exclude_corpora, corpus)))
        sampling = dataclasses.replace(whole.data.sampling, corpora=weights)
        data = dataclasses.replace(whole.data, exclude_corpora=left_out, sampling=sampling)
        return dataclasses.replace(whole, data=data, seed=seed, out=str(Path(self.config.out) / f"{corpus}-{seed}"))

    def identity(self) -> dict[str, Any]:
        """What may not change between two parts of one comparison."""
        train = to_dict(build(TrainConfig, self.train, where=self.train_path.name))
        return {"train": train, "eval": self.evaluations, "language": self.config.language}


def leave_one_out(
    recipe: Path | str, settings: Sequence[str] = (), log: Callable[[str], None] = print
) -> dict[str, Any]:
    """Train without each corpus, with each seed, and score the checkpoint on it.

    What is finished is kept in `out`/leave-one-out.json after each run, with a table in leave-one-out.md; the same call
    goes on from there. Corpora and seeds may be added.

    Args:
        recipe: path of a YAML of `LeaveOneOutConfig`.
        settings: `a.b=value` for it.
        log: gets the figures, line by line.

    Returns:
        {"config", "identity", "runs": [{"corpus", "seed", "clips", "labels", "plain", "calibrated", …}], "corpora":
        {corpus: {"plain": {"uar": {"mean", "std"}, "accuracy", "per_class_recall"}, "calibrated"}}, "mean": {"plain",
        "calibrated"}}: the mean is over `mean_over` by seed, its std over seeds (null for one seed).

    Raises:
        ClaraError: a mistake in one of the three recipes, an `init` whose card says that it was trained on a corpus
            left out, a corpus that is not below `data`, or a result in `out` that is of another recipe.
        SystemExit: SIGINT or SIGTERM came while training; the same call goes on from there.
    """
    plan = _plan(Path(recipe), settings)
    config, out = plan.config, Path(plan.config.out)
    made = _resumed(out / f"{RESULT}.json", plan)
    done = {(run["corpus"], run["seed"]) for run in made["runs"]}
    for seed in config.seeds:
        for corpus in config.corpora:
            if (corpus, seed) in done:
                continue
            _tell_of_init(plan, corpus, log)
            made["runs"].append(_one(plan, corpus, seed))
            made |= _summary(made["runs"], config)
            _write(out, made, config)
            if not config.keep_states and _writes():  # only now: without its result a run goes on from its states
                for state in steps_in(out / f"{corpus}-{seed}"):
                    shutil.rmtree(state)
            run = made["runs"][-1]
            rates = ", ".join(f"{kind} {run[kind]['uar']:.3f}" for kind in KINDS)
            log(f"{corpus} unseen, seed {seed}: UAR {rates}")
    made |= _summary(made["runs"], config)  # another `mean_over` alone is a new summary, not a new run
    _write(out, made, config)
    log(_markdown(made, config))
    log(f"results: {out / RESULT}.json")
    return made


def _plan(path: Path, settings: Sequence[str]) -> _Plan:
    """Everything that can be wrong is found here, before hours of training."""
    fields = dataclasses.fields(LeaveOneOutConfig)
    defaults = {f.name: to_dict(f.default) for f in fields if f.default is not dataclasses.MISSING}
    config = build(LeaveOneOutConfig, override(defaults | load_yaml(path), settings), where=path.name)
    for name in ("corpora", "seeds"):
        values = getattr(config, name)
        if not values or len(set(values)) < len(values):
            raise ClaraError(f"{path.name}.{name} is {list(values)}: expected at least one, none twice.")
    for corpus in config.mean_over:
        if corpus not in config.corpora:
            raise unknown(f"corpus in {path.name}.mean_over", corpus, config.corpora)
    train_path, eval_path = (recipe_path(kind, getattr(config, kind), path.parent) for kind in ("train", "eval"))
    load_recipe(eval_path, config.eval_settings)
    raw = override({"seed": 0, "pictures": True} | load_yaml(eval_path), config.eval_settings)["evaluations"]
    for corpus in config.corpora:
        if corpus not in raw:
            raise unknown(f"evaluation in {eval_path.name}, for {path.name}.corpora", corpus, raw)
        if raw[corpus].get("kind") != "zero_shot" or config.language not in raw[corpus].get("languages", ["en"]):
            raise ClaraError(
                f"{eval_path.name}.evaluations.{corpus}: expected kind zero_shot with {config.language!r} among its "
                "languages."
            )
    train = override(load_yaml(train_path), config.train_settings)
    plan = _Plan(config, train, train_path, eval_path, {c: raw[c] for c in config.corpora})
    for corpus in config.corpora:
        trained = plan.training(corpus, config.seeds[0])
        check(trained)
        heard = trained.init and judge(corpus, training_of(trained.init))
        if heard and heard.status == "seen":
            raise ClaraError(
                f"init {trained.init!r} of {train_path.name} was trained on {corpus} ({heard.because}), "
                "which would not be unseen. Set init to null, or to a checkpoint trained on none of the corpora."
            )
    return plan


def _resumed(file: Path, plan: _Plan) -> dict[str, Any]:
    """What an earlier call finished. ClaraError where it was of another recipe."""
    identity = json.loads(json.dumps(plan.identity()))  # as it is read back: tuples are lists
    if not file.is_file():
        return {"identity": identity, "runs": []}
    made = read_json(file, "what an earlier call wrote")
    before = made["identity"]
    found = list(differences(before["train"], identity["train"]))
    changed = [(f"train.{k}", old, new) for k, old, new in found if k not in FREE_HERE]
    shared = before["eval"].keys() & identity["eval"].keys()
    for key in sorted(shared):
        changed += differences(before["eval"][key], identity["eval"][key], f"eval.{key}")
    changed += differences({"language": before["language"]}, {"language": identity["language"]})
    if changed:
        shown = "; ".join(f"{k} was {old}, is {new}" for k, old, new in changed)
        raise ClaraError(f"{file} is of another recipe ({shown}): choose another `out`, or set these back to go on.")
    return made | {"identity": identity | {"eval": before["eval"] | identity["eval"]}}


def _one(plan: _Plan, corpus: str, seed: int) -> dict[str, Any]:
    """Train without a corpus and score it."""
    config, training = plan.config, plan.training(corpus, seed)
    folder = Path(training.out)
    checkpoint = trainer.run(training, plan.train_path.parent)
    gc.collect()  # the trainer's model and optimizer go before another model is loaded
    chosen = f"evaluations={json.dumps({corpus: plan.evaluations[corpus]})}"
    general = [s for s in config.eval_settings if not s.startswith("evaluations.")]
    settings = ["pictures=false", *general, chosen]
    (result,) = evaluate(plan.eval_path, f"dir:{checkpoint}", config.data, folder / "eval", settings, _silent)
    figures = {kind: _figures(result, f"{config.language}/{kind}") for kind in KINDS}
    weights = read_results(next((folder / "eval").glob("*.json"))).checkpoint["sha256"]
    out = {"corpus": corpus, "seed": seed, "clips": result.clips, "labels": result.labels, **figures}
    return out | {"clips_sha256": result.clips_sha256, "sha256": weights, "init": training.init}


def _figures(result: Result, where: str) -> dict[str, Any]:
    counts = result.confusion(where)
    recall = {k: float(n[i] / n.sum()) if n.any() else None for i, (k, n) in enumerate(zip(result.labels, counts))}
    return {rate: result.value(where, rate) for rate in RATES} | {"per_class_recall": recall}


def _tell_of_init(plan: _Plan, corpus: str, log: Callable[[str], None]) -> None:
    init = plan.train.get("init")
    if init and training_of(init) is None:
        log(f"init {init}: its card does not say what it was trained on; if {corpus} is part of that, it is not unseen")


def _silent(line: str) -> None:
    """The figures of a run are told by `leave_one_out`."""


def _writes() -> bool:
    return os.environ.get("RANK", "0") == "0"  # torchrun's


def _summary(runs: Sequence[Mapping[str, Any]], config: LeaveOneOutConfig) -> dict[str, Any]:
    """Each corpus over its seeds, and the mean over corpora of the seeds that have them all."""
    runs = [run for run in runs if run["corpus"] in config.corpora and run["seed"] in config.seeds]
    corpora: dict[str, Any] = {}
    for corpus in config.corpora:
        if mine := [run for run in runs if run["corpus"] == corpus]:
            corpora[corpus] = {"seeds": [run["seed"] for run in mine], "clips": mine[0]["clips"]}
            corpora[corpus] |= {kind: _over([run[kind] for run in mine]) for kind in KINDS}
    counted = config.mean_over or config.corpora
    by_seed = {seed: {run["corpus"]: run for run in runs if run["seed"] == seed} for seed in config.seeds}
    whole = [seed for seed, found in by_seed.items() if set(counted) <= set(found)]
    mean: dict[str, Any] = {"corpora": list(counted), "seeds": whole}
    for kind in KINDS if whole else ():
        means = {r: [np.mean([by_seed[s][c][kind][r] for c in counted]) for s in whole] for r in RATES}
        mean[kind] = {rate: _spread(values) for rate, values in means.items()}
    return {"corpora": corpora, "mean": mean}


def _over(figures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    classes = [k for k, recall in figures[0]["per_class_recall"].items() if recall is not None]  # that have clips
    recall = {k: float(np.mean([f["per_class_recall"][k] for f in figures])) for k in classes}
    return {rate: _spread([f[rate] for f in figures]) for rate in RATES} | {"per_class_recall": recall}


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    return {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)) if len(values) > 1 else None}


def _write(out: Path, made: dict[str, Any], config: LeaveOneOutConfig) -> None:
    if not _writes():
        return
    write_json(out / f"{RESULT}.json", {"config": to_dict(config)} | made)
    (out / f"{RESULT}.md").write_text(_markdown(made, config) + "\n", encoding="utf-8")


def _markdown(made: Mapping[str, Any], config: LeaveOneOutConfig) -> str:
    """The figures as two tables: UAR and accuracy by corpus with their mean, and recall by class."""
    rates = [["left out", "clips", "seeds", "UAR plain", "UAR calibrated", "accuracy plain", "accuracy calibrated"]]
    recalls = [["left out", "recall by class, plain → calibrated"]]
    for corpus, found in made["corpora"].items():
        beside = "" if corpus in (config.mean_over or config.corpora) else " (not in the mean)"
        rates.append([f"{corpus}{beside}", str(found["clips"]), str(len(found["seeds"])), *_cells(found)])
        plain, calibrated = (found[kind]["per_class_recall"] for kind in KINDS)
        recalls.append([corpus, ", ".join(f"{k} {plain[k]:.2f} → {calibrated[k]:.2f}" for k in plain)])
    mean = made["mean"]
    if mean["seeds"]:
        rates.append([f"**mean of {len(mean['corpora'])}**", "all", str(len(mean["seeds"])), *_cells(mean)])
    return "\n".join([*markdown(rates), "", *markdown(recalls)])


def _cells(found: Mapping[str, Any]) -> list[str]:
    def cell(kind: str, rate: str) -> str:
        value = found[kind][rate]
        return f"{value['mean']:.3f}" + ("" if value["std"] is None else f" ± {value['std']:.3f}")

    return [cell(kind, rate) for rate in RATES for kind in KINDS]
