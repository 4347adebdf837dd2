"""How labels are worded as prompts: filled templates, bare labels, or paraphrases as a stranger would type them.

Paraphrases come from a folder with one YAML per language, {task: {key: [text, …]}}; an evaluation recipe names it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from clara.config import load_yaml
from clara.errors import ClaraError, unknown
from clara.eval.scores import RATES, Place
from clara.results import Figure
from clara.text.prompts import prompts, task_labels

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
    place: Place,
    texts: Sequence[Sequence[str]],
    score: Callable[[list[str]], Tensor],
    truth_B: np.ndarray,
    seed: int,
) -> list[Figure]:
    """Figures when each class has a single text as its prompt, as when a user types it: mean and standard deviation
    over DRAWS of one text for each class.

    Args:
        texts: the texts of each class.
        score: texts (N) -> their similarity to every clip (B, N).
        truth_B: class of each clip.
    """
    flat = [text for each in texts for text in each]
    start_K = np.cumsum([0, *(len(each) for each in texts)])[:-1]
    score_BN = score(flat).numpy()
    rng = np.random.default_rng(seed)
    values: dict[str, list[float]] = {name: [] for name in RATES}
    for _ in range(DRAWS):
        drawn_K = start_K + rng.integers([len(each) for each in texts])
        predicted_B = score_BN[:, drawn_K].argmax(1)
        for name, rate in RATES.items():
            values[name].append(rate(truth_B, predicted_B))
    return [place.figure(name, np.mean(v), std=float(np.std(v, ddof=1))) for name, v in values.items()]


def over_kinds(figures: Sequence[Figure], kinds: Sequence[str], codes: Sequence[str], metric: str) -> list[Figure]:
    """Kinds of prompts beside the first of them, from their figures in each language.

    Returns:
        For each kind the mean over languages at "KIND/mean" and, of single texts, "KIND/mean/one_text"; and for those
        after the first their share of the first kind's figure, as "uar of templates", there and in each language.
    """
    value = {(f.where, f.metric): f for f in figures}
    first, out = kinds[0], []
    for kind in kinds:
        base = "" if kind == first else f"{kind}/"
        for end in ("plain", "one_text"):
            single = end == "one_text"
            what = f"{kind}, mean of languages" + (", one text" if single else "")
            mean = Place(f"{kind}/mean" + ("/one_text" if single else ""), metric, what)
            for rate in RATES:
                own = [value[f"{base}{code}/{end}", rate] for code in codes]
                whole = [value[f"{code}/plain", rate].value for code in codes]
                out.append(mean.figure(rate, np.mean([f.value for f in own])))
                if kind == first:
                    continue
                pairs = [*zip(own, whole), (out[-1], float(np.mean(whole)))]
                out += [Place(f.where, what=f.what).figure(f"{rate} of {first}", f.value / w) for f, w in pairs if w]
    return out
