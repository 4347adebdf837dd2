"""Figures of a card from result files: what `clara eval` wrote is what the card says.

The results, without what is long, are kept beside the cards as `results/NAME/RECIPE.json`. Every figure of the card
names its place there, `result: RECIPE/EVALUATION/key/…/metric`: a number without a result file cannot stand in it.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from clara.errors import ClaraError, unknown
from clara.eval.tables import FIRST, MANY_LANGUAGES, NAMES, card_sections, judged_by, write_sections
from clara.saving import whole_file
from clara.zoo import catalog
from clara.zoo.factory import CARD, load_checkpoint

NO_FIGURES = (
    "config", "runs", "folds", "per", "groups", "per_class_recall", "duplicates", "ties", "speed", "data",
    "contamination", "average_precision", "of_english", "share", "embeddings",
)  # fmt: skip
NOT_KEPT = (
    "prompts", "confusion", "outcomes", "ranks", "hits", "captions_of_clips", "examples", "manifest", "templates",
    "average_precision", "embeddings",
)  # fmt: skip
HOW = ("workers", "cache", "batch_size", "pictures")  # settings that change no figure
STATUS = r"^(?:unseen|same-source|unknown|seen)(?:: |$)"  # of clara.eval.contamination, before a card's own words
IN_TABLES = ("probe", "keywords")  # kinds whose figures stand in a table of their own, a line each where chosen
LONG_LIST, LONG_TEXT, MANY_CLASSES = 64, 300, 12
HEADING = "## Figures"
TABLE_HEAD = "| what | metric | value | interval | chance | in training? | command |"


def fill_card(
    name: str, results: Sequence[Path | str], every: bool = False, log: Callable[[str], None] = print
) -> list[dict[str, Any]]:
    """State the results in the card of a checkpoint of this package, and in the copy beside its weights.

    What an older figure of the same place is called, and what it says of the training data, is kept. An evaluation
    that the card knows keeps the choice of its figures; of a new one the main figures are taken, unless it is on data
    seen in training, or stands in a table of its own: prompt languages and few labelled clips have one each, after the
    figures (`card_sections`). Results of other weights are removed, with what was said of them.

    Args:
        results: JSON files of `clara eval`; none to state anew what is kept beside the cards already.
        every: take the main figures of all evaluations, whatever the card chose and training saw.

    Returns:
        The figures, as they stand in the front matter.

    Raises:
        ClaraError: no such card, a file that is no result, or a result of other weights.
    """
    path = catalog.CARDS.resolve() / f"{name}.md"
    if name not in catalog.CHECKPOINTS:
        raise unknown("checkpoint", name, catalog.CHECKPOINTS)
    if catalog.checkpoint(name).source != "package":
        raise ClaraError(f"{name} is another project's checkpoint: its card states published scores, not results.")
    copy = catalog.CHECKPOINT_FOLDER / name
    loaded = load_checkpoint(copy)
    kept, made = path.parent / "results" / name, {}
    for file in map(Path, results):
        data = read_result(file)
        if data["checkpoint"]["sha256"] != loaded.sha256:
            raise ClaraError(
                f"{file} is of weights {data['checkpoint']['sha256'][:12]}…, {name} has {loaded.sha256[:12]}…: "
                "evaluate these."
            )
        if limits := [r["name"] for r in data["results"] if r.get("limit")]:
            raise ClaraError(f"{file} is a trial on some of the clips ({', '.join(limits)}): run it without --limit.")
        stem = Path(data["recipe"]).stem
        if stem in made:
            raise ClaraError(f"Two of the files are results of the recipe {stem}: give one, {file} or the other.")
        made[stem] = slim(data, name)
    for stem, data in made.items():
        _replace(kept / f"{stem}.json", json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n")
    for file in sorted(kept.glob("*.json")):
        if read_result(file)["checkpoint"]["sha256"] != loaded.sha256:
            file.unlink()
            log(f"removed {file.name}: other weights")
    text = path.read_text(encoding="utf-8")
    old = yaml.safe_load(text.split("---\n", 2)[1]).get("figures") or []
    figures, files = card_figures(kept, old, every), sorted(kept.glob("*.json"))
    for result in {f.get("result", f["what"]) for f in old} - {f["result"] for f in figures}:
        log(f"no longer stated: {result}")
    facts = {"sha256": loaded.sha256, "parameters": sum(p.numel() for p in loaded.model.parameters())}
    text = write_sections(write_figures(text, figures, facts), card_sections([read_result(f) for f in files]))
    _replace(path, text)
    _replace(copy / CARD, text)
    catalog.card.cache_clear()
    return figures


def read_result(file: Path) -> dict[str, Any]:
    """A file written by clara eval. ClaraError for any other."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise ClaraError(f"{file} cannot be read as a result ({e}): expected JSON written by clara eval.") from e
    wanted = ("recipe", "checkpoint", "results")
    if not isinstance(data, dict) or any(not data.get(k) for k in wanted):
        raise ClaraError(f"{file} is no result: it lacks one of {', '.join(wanted)}. Expected JSON of clara eval.")
    return data


def _replace(path: Path, text: str) -> None:
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def slim(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A result file without what is long and what belongs to one machine, for the folder beside the cards."""
    out = _slim({k: v for k, v in data.items() if k not in ("overrides", "command", "faults")})
    known = (catalog.PACKAGE / "_recipes" / "eval" / data["recipe"]).is_file()
    command = ["clara", "eval", Path(data["recipe"]).stem if known else data["recipe"], "--model", name]
    settings = [o for o in data["overrides"] if o.split("=")[0] not in HOW]
    out["command"] = shlex.join([*command, "--data", "DATA", *(x for o in settings for x in ("--set", o))])
    out["checkpoint"]["name"] = name
    if "not_at_hand" in data:  # why not names a folder of one machine
        out["not_at_hand"] = [missing["name"] for missing in data["not_at_hand"]]
    return out


def _slim(x: Any) -> Any:
    if isinstance(x, dict):
        kept = {k: _slim(v) for k, v in x.items() if k not in NOT_KEPT}
        return {k: v for k, v in kept.items() if v is not None and not _long(k, v)}
    if isinstance(x, list):
        return [_slim(v) for v in x]
    if isinstance(x, str) and x.startswith("/"):
        return Path(x).name
    return round(x, 6) if isinstance(x, float) else x


def _long(key: str, x: Any) -> bool:
    if isinstance(x, dict):
        return key == "per_class_recall" and len(x) > MANY_CLASSES
    return len(x) > (LONG_TEXT if isinstance(x, str) else LONG_LIST) if isinstance(x, str | list) else False


def value_at(folder: Path, result: str) -> tuple[float, dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The number at `RECIPE/EVALUATION/…/metric`, with the figures beside it, its evaluation and its file's data."""
    stem, name, *keys = result.split("/")
    data = read_result(folder / f"{stem}.json")
    found: Any = {r["name"]: r for r in data["results"]}
    for key in (name, *keys):
        beside, found = found, found.get(key) if isinstance(found, dict) else None
        if key == name:
            evaluation = found
        elif isinstance(found, dict) and isinstance(found.get("words"), int):  # of one language's keywords
            evaluation = {**evaluation, "labels": range(found["words"])}
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise ClaraError(f"{folder.name}/{stem}.json has no figure at {'/'.join((name, *keys))}.")
    return float(found), beside, evaluation, data


def card_figures(folder: Path, old: Sequence[Mapping[str, Any]], every: bool = False) -> list[dict[str, Any]]:
    """The figures of a card from the result files in `folder`, in the order of the old ones, then the new."""
    places = {place: None for file in sorted(folder.glob("*.json")) for place in _main_figures(file, every)}
    chosen = {}
    for figure in old:
        try:
            value_at(folder, figure.get("result", "/"))
            chosen[figure["result"]] = figure
        except ClaraError:
            continue
    known = set() if every else {_evaluation(place) for place in chosen}
    order = list(chosen) + [p for p in places if p not in chosen and _evaluation(p) not in known]
    rank = {_evaluation(p): i for i, p in reversed(list(enumerate(order)))}
    order.sort(key=lambda p: rank[_evaluation(p)])
    trained = {_evaluation(p): f["training"] for p, f in chosen.items() if "training" in f}
    return [_figure(folder, p, chosen.get(p, {}), trained.get(_evaluation(p))) for p in order]


def _evaluation(place: str) -> tuple[str, ...]:
    return tuple(place.split("/")[:2])


def _main_figures(file: Path, every: bool) -> Iterator[str]:
    for result in read_result(file)["results"]:
        seen = result.get("contamination", {}).get("status") == "seen"
        if not every and (seen or result["kind"] in IN_TABLES or file.stem in FIRST):
            continue
        for keys in main_places(result, result):
            yield "/".join((file.stem, result["name"], *keys))


def main_places(
    result: Mapping[str, Any], node: Mapping[str, Any], keys: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Places of a result's main figures: where a table of figures stands, the one metric it is judged by."""
    if metric := judged_by(result, node):
        yield (*keys, metric)
    for key, value in node.items():
        if key in ("languages", "spoken") and isinstance(value, dict) and len(value) > MANY_LANGUAGES:
            value = {code: v for code, v in value.items() if code == "en"}
        published = key == "calibrated" and "prompt_sets" in keys
        if isinstance(value, dict) and key not in NO_FIGURES and not published:
            yield from main_places(result, value, (*keys, key))


def _figure(folder: Path, place: str, old: Mapping[str, Any], training: str | None) -> dict[str, Any]:
    value, beside, evaluation, data = value_at(folder, place)
    *path, metric = place.split("/")[1:]
    spread = beside.get(f"{metric}_95")
    code = beside.get("language")
    status = evaluation.get("contamination", {}).get("status", "")
    words = re.sub(STATUS, "", old.get("training") or training or "")
    return {
        "what": old.get("what") or ", ".join(path),
        "metric": NAMES.get(metric, metric) + (f" ({code})" if isinstance(code, str) else ""),
        "value": round(value, 3),
        "interval": "[{:.3f}, {:.3f}]".format(*spread) if spread else "not computed",
        "chance": _chance(evaluation, metric),
        "training": ": ".join(filter(None, (status, words))) or "not stated",
        "checkpoint": data["checkpoint"]["name"],
        "command": data["command"],
        "result": place,
    }


def _chance(evaluation: Mapping[str, Any], metric: str) -> str:
    """What guessing gives: 1 / classes for the mean recalls, 1 / clips for a rank of 1 either way."""
    classes = len(evaluation.get("labels", ())) if metric in ("accuracy", "uar") else 0
    count = evaluation.get("clips", 0) if metric == "R@1" else classes
    return f"{1 / count:.3f}" if count else "not computed"


def write_figures(text: str, figures: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> str:
    """A card's text with its `figures`, the lines of `facts` in the front matter, and the table under HEADING, new."""
    _, head, body = text.split("---\n", 2)
    for key, value in facts.items():
        head, count = re.subn(rf"^{key}:.*$", f"{key}: {value}", head, flags=re.M)
        if count != 1:
            raise ClaraError(f"The card's front matter has {count} lines {key!r}, expected one.")
    block = yaml.safe_dump({"figures": [dict(f) for f in figures]}, sort_keys=False, allow_unicode=True, width=1000)
    head = re.sub(r"^figures:.*\n(?:[ -].*\n)*", "", head, flags=re.M) + block
    if f"{HEADING}\n" not in body:
        raise ClaraError(f"The card has no heading {HEADING!r} to put its table under.")
    before, _, after = body.partition(f"{HEADING}\n")
    old = re.search(rf"^{re.escape(TABLE_HEAD)}\n(?:\|.*\n)*", after, flags=re.M)
    table = "\n".join([TABLE_HEAD, "|---|---|---|---|---|---|---|", *map(_line, figures)]) + "\n"
    start, end = old.span() if old else (0, 0)
    gap = "" if old else "\n"
    return f"---\n{head}---\n{before}{HEADING}\n{after[:start]}{gap}{table}{after[end:]}"


def _line(figure: Mapping[str, Any]) -> str:
    cells = [figure["what"], figure["metric"], f"{figure['value']:.3f}"]
    cells += [figure[k] for k in ("interval", "chance", "training")]
    return f"| {' | '.join(cells)} | `{figure['command']}` |"
