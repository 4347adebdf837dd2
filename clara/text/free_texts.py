"""Free texts of facts: phrasings that no template says, one YAML file per language.

A folder holds `<code>.yaml` files, each {task: {key: [text, …]}} with the tasks and keys of languages/en.yaml. Not
every language, task or key needs texts; whoever draws them falls back to the templates. `recipes/train/texts` is such
a folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from clara.config import load_yaml
from clara.errors import ClaraError, unknown
from clara.text.prompts import TASKS, languages, task_labels

FreeTexts = Mapping[str, Mapping[tuple[str, str], tuple[str, ...]]]  # language code -> fact -> texts


@cache
def load_free_texts(folder: str) -> FreeTexts:
    """Read the free texts of a folder: language code -> (task, key) -> texts.

    Raises:
        ClaraError: no such folder, none of the files is named after a language, an unknown task or key, a value that is
            not a list of texts, or one text under two keys, which would be true of one fact and false of the other.
    """
    paths = sorted(Path(folder).glob("*.yaml"))
    if not paths:
        raise ClaraError(
            f"texts={folder!r}: expected a folder of <language code>.yaml files, such as recipes/train/texts."
        )
    for path in paths:
        if path.stem not in languages():
            raise unknown(f"language of the file name {path}", path.stem, languages())
    return {path.stem: _read(path) for path in paths}


def _read(path: Path) -> Mapping[tuple[str, str], tuple[str, ...]]:
    facts: dict[tuple[str, str], tuple[str, ...]] = {}
    owner: dict[str, tuple[str, str]] = {}
    for task, keys in load_yaml(path).items():
        if task not in TASKS:
            raise unknown(f"task in {path}", task, TASKS)
        for key, texts in keys.items() if isinstance(keys, dict) else [(keys, None)]:
            if key not in task_labels(task):
                raise unknown(f"{task} key in {path}", key, task_labels(task))
            if not isinstance(texts, list) or not texts or any(not isinstance(t, str) or not t.strip() for t in texts):
                raise ClaraError(f"{path}: {task}: {key}: {texts!r}: expected a list of at least one text; quote 'no'.")
            for text in texts:
                if owner.setdefault(text.casefold(), (task, key)) != (task, key):
                    raise ClaraError(
                        f"{path}: {text!r} stands under {owner[text.casefold()]} and {(task, key)}. Keep one."
                    )
            facts[task, key] = tuple(texts)
    return facts
