"""How labels are worded as prompts: filled templates, bare labels, or paraphrases as a stranger would type them.

Paraphrases come from a folder with one YAML a language, {task: {key: [text, …]}}; an evaluation recipe names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from clara import metrics
from clara.config import load_yaml
from clara.errors import ClaraError, unknown
from clara.eval.tables import NAMES, judged_by
from clara.text.prompts import load_language, prompts, task_labels

KINDS = ("templates", "labels", "paraphrases")
DRAWS = 20  # of one text for each class


def load_phrases(folder: Path, language: str) -> dict[str, dict[str, tuple[str, ...]]]:
    """Read the paraphrases of one language: {task: {key: texts}}.

    Raises:
        ClaraError: no file for the language; or a task, key or text that is not one.
    """
    path = folder / f"{language}.yaml"
    if not path.is_file():
        have = ", ".join(sorted(p.stem for p in folder.glob("*.yaml"))) or "none"
        raise ClaraError(f"No paraphrases in {language!r}: {path} does not exist. Languages in that folder: {have}.")
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for task, keys in load_yaml(path).items():
        known = task_labels(task)
        if not isinstance(keys, dict):
            raise ClaraError(f"{path}: {task} is {type(keys).__name__}, expected a mapping of keys to lists of texts.")
        for key, texts in keys.items():
            if key not in known:
                raise unknown(f"{task} label in {path}", key, known)
            if not isinstance(texts, list) or not texts or not all(isinstance(t, str) and t.strip() for t in texts):
                raise ClaraError(f"{path}: {task}.{key} is {texts!r}, expected a list of at least one text.")
            found.setdefault(task, {})[key] = tuple(texts)
    return found


def worded(kind: str, task: str, labels: Sequence[str], language: str, folder: Path) -> list[list[str]]:
    """The texts of each label, in the order of `labels`.

    Args:
        kind: "templates" of the language file, filled; "labels", their canonical name alone (emotions: the noun); or
            "paraphrases".
        folder: where the paraphrases are.

    Raises:
        ClaraError: an unknown kind, language or label, or one without paraphrases.
    """
    if kind not in KINDS:
        raise unknown("kind of prompts", kind, KINDS)
    if kind != "paraphrases":
        return prompts(task, labels, language, None if kind == "templates" else ("{}",))
    phrases = load_phrases(folder, language).get(task, {})
    if missing := [label for label in labels if label not in phrases]:
        raise ClaraError(f"{folder / language}.yaml has no paraphrases of {task} for {missing[:5]}: add them.")
    return [list(phrases[label]) for label in labels]


def one_text(
    texts: Sequence[Sequence[str]], score: Callable[[list[str]], Tensor], truth_B: np.ndarray, seed: int
) -> dict[str, Any]:
    """Figures when each class has a single text as its prompt, as when a user types it: mean and standard deviation
    over draws of one text for each class.

    Args:
        texts: the texts of each class.
        score: texts (N) -> their similarity to every clip (B, N).
        truth_B: class of each clip.
    """
    flat = [text for each in texts for text in each]
    start_K = np.cumsum([0, *(len(each) for each in texts)])[:-1]
    score_BN = score(flat).numpy()
    rng = np.random.default_rng(seed)
    rates: dict[str, list[float]] = {"accuracy": [], "uar": []}
    for _ in range(DRAWS):
        drawn_K = start_K + rng.integers([len(each) for each in texts])
        predicted_B = score_BN[:, drawn_K].argmax(1)
        for name, values in rates.items():
            values.append(getattr(metrics, name)(truth_B, predicted_B))
    out: dict[str, Any] = {"draws": DRAWS}
    for name, values in rates.items():
        out[name], out[f"{name}_std"] = float(np.mean(values)), float(np.std(values, ddof=1))
    return out


def against_first(by_kind: Mapping[str, Mapping[str, dict[str, Any]]]) -> dict[str, Any]:
    """Kinds of prompts beside the first of them.

    Args:
        by_kind: kind -> language -> {"plain": figures, "one_text": figures, …}, the same languages in each.

    Returns:
        kind -> {"languages": …, "mean": {"accuracy", "uar", "one_text"}} over the languages; each language and the mean
        of a later kind has "share", of accuracy and UAR in those of the first ("one_text": of all its texts together).
        The first kind has no "languages": these stand in the result itself.
    """
    first = next(iter(by_kind))
    out: dict[str, Any] = {}
    for kind, languages in by_kind.items():
        nodes = {code: {**found["plain"], "one_text": found["one_text"]} for code, found in languages.items()}
        mean: dict[str, Any] = _mean(nodes.values())
        mean["one_text"] = _mean([node["one_text"] for node in nodes.values()])
        out[kind] = {"mean": mean}
        if kind != first:
            for code, found in languages.items():
                found["share"] = _share(nodes[code], by_kind[first][code]["plain"])
            out[kind]["languages"] = dict(languages)
        mean["share"] = _share(mean, out[first]["mean"])
    return out


def _mean(nodes: Any) -> dict[str, Any]:
    nodes = list(nodes)
    return {name: float(np.mean([node[name] for node in nodes])) for name in ("accuracy", "uar")}


def _share(node: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Accuracy and UAR as shares of another's; a figure that is 0 there has none."""
    out: dict[str, Any] = {}
    for name in ("accuracy", "uar"):
        if base[name]:
            out[name] = node[name] / base[name]
            out.setdefault("one_text", {})[name] = node["one_text"][name] / base[name]
    return out


def lines(result: Mapping[str, Any]) -> list[str]:
    """A line for each language and for their mean: every kind of prompts, with its share of the first kind's figure."""
    if not (by_kind := result.get("wordings")):
        return []
    first = next(iter(by_kind))
    rows = [(code, {k: by_kind[k].get("languages", result["languages"])[code] for k in by_kind})
            for code in result["languages"]]  # fmt: skip
    rows = [(load_language(c).english_name, {k: {**n, **n["plain"]} for k, n in kinds.items()}) for c, kinds in rows]
    if len(rows) > 1:
        rows.append((f"mean of {len(rows)} languages", {k: by_kind[k]["mean"] for k in by_kind}))
    out = []
    for who, kinds in rows:
        metric = judged_by(result, kinds[first]) or "accuracy"
        cells = [_cell(kind, node, metric, kind == first) for kind, node in kinds.items()]
        out.append(f"{result['name']} {who}, {NAMES.get(metric, metric)}: {'; '.join(cells)}")
    return out


def _cell(kind: str, node: Mapping[str, Any], metric: str, first: bool) -> str:
    share, cell = node.get("share", {}), f"{kind} {node[metric]:.3f}"
    if metric in share and not first:
        cell += f" ({100 * share[metric]:.0f} %)"
    if kind == "labels":
        return cell  # one text anyway
    cell += f", one alone {node['one_text'][metric]:.3f}"
    single = share.get("one_text", {})
    return cell + (f" ({100 * single[metric]:.0f} %)" if metric in single and not first else "")
