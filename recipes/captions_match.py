"""Find the captions whose every sound event is one of our facts, so that clips of those events can be mixed to them.

    python recipes/captions_match.py captions_train.csv … --without captions_test.csv … --out events.jsonl

Reads CSV files with columns caption, caption_1 … or description; seconds on one core. Each line that is written:
{"text": caption, "events": [["sound", "dog"], ["sound", "laughing", "female"], …], "stages": [0, 1], "order":
"together" | "then", "source": name of the file}. Events of one stage are heard together, stages one after the other.
A third item says who makes a vocal sound ("people": several, of whatever kind). ["speech", "one"] and ["speech",
"many"] are speech of whomever. A caption with any word that captions_match.yaml does not explain is left out.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer

from clara.config import load_yaml
from clara.text.prompts import load_language

Event = tuple[str, ...]
SOUNDLESS = {"sound", "sounds", "noise", "noises"}  # a clause with nothing else names a sound that nobody can look up
HORNS = {("sound", "train"), ("sound", "car horn")}  # the horn beside a train is mostly the train's
MOVING = {("sound", "engine"), ("sound", "train")}  # "idles, then revs": no clip of the fact alone does both
LATER = {"followed by", "then", "and then", "before", "and finally", "finally"}
JOINTS = ("followed by", "and then", "then", "before", "after", "while", "as well as", "along with", "together with",
          "accompanied by", "alongside", "amidst", "amid", "during", "when", "with", "and finally", "and", "as", "over",
          "but", "plus", "&", ",", ";", r"\.")  # fmt: skip
SHARING = {
    "",
    "and",
    ",",
    "then",
    "and then",
    "while",
    "as",
    "before",
    "but",
}  # the subject may go on: "he talks and laughs"
SPLIT = re.compile(rf"\s*(?:(?<![\w-])({'|'.join(j for j in JOINTS if j[0].isalpha())})(?![\w-])|([,;.&]))\s*")
DOUBLED = {"chat", "chug", "clap", "cut", "drip", "drop", "drum", "get", "hit", "hum", "lap", "pop", "rev", "run",
           "sip", "sob", "spin", "step", "stop", "strum", "whip", "whir", "yap", "yip"}  # fmt: skip
IRREGULAR = {"speak": "spoke spoken", "sing": "sang sung", "blow": "blew blown", "fall": "fell fallen",
             "ring": "rang rung", "break": "broke broken", "fly": "flew flown", "run": "ran", "go": "goes went gone",
             "weep": "wept", "come": "came", "shoot": "shot", "crow": "crew"}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """What the lexicon says of one fact, in all its forms. `who_makes` = its subjects are people, who are named."""

    event: Event
    who: frozenset[str]
    does: frozenset[str]
    also: frozenset[str]
    alone: frozenset[str]
    who_makes: bool = False

    def covers(self, words: list[str]) -> bool:
        """Whether all words belong to this entry and are enough to name its event."""
        if any(w not in self.who | self.does | self.also | self.alone for w in words):
            return False
        subjects = [i for i, w in enumerate(words) if w in self.who]
        verbs = [i for i, w in enumerate(words) if w in self.does]
        return any(w in self.alone for w in words) or any(i != j for i in subjects for j in verbs)


def verb_forms(verb: str) -> set[str]:
    """bark -> bark, barks, barking, barked; forms that are listed as irregular too."""
    last = verb + verb[-1] if verb in DOUBLED else verb.removesuffix("e")
    third = verb + "es" if verb.endswith(("s", "sh", "ch", "x", "z")) else verb + "s"
    past = verb[:-1] + "ied" if verb.endswith("y") and verb[-2] not in "aeou" else last + "ed"
    third = verb[:-1] + "ies" if past.endswith("ied") else third
    return {verb, third, last + "ing", past, *IRREGULAR.get(verb, "").split()}


def noun_forms(noun: str) -> set[str]:
    """dog -> dog, dogs, dog's."""
    plural = noun[:-1] + "ies" if noun.endswith("y") and noun[-2] not in "aeou" else noun + "s"
    plural = noun + "es" if noun.endswith(("s", "sh", "ch", "x", "z")) else plural
    return {noun, plural, f"{noun}'s", f"{noun}s'"}


@cache
def lexicon() -> dict[str, Any]:
    """The words of captions_match.yaml: fillers, phrases, people (word -> (who, how many)) and entries."""
    data = load_yaml(Path(__file__).with_suffix(".yaml"))
    people = {
        form: (who, number)
        for who, numbers in data["people"].items()
        for number, words in numbers.items()
        for word in words.split()
        for form in (word, f"{word}'s", f"{word}s'" if number == "one" else f"{word}'")
    }
    entries = [_entry(("speech",) if key == "speech" else ("sound", key), spec, set(people), True)
               for key, spec in data["vocal"].items()]  # fmt: skip
    entries += [_entry(("sound", key), spec, set(people), False) for key, spec in data["sound"].items()]
    phrases = [(re.compile(rf"\b(?:{k})\b"), v) for k, v in data["phrases"].items()]
    rule = data["instrument"]
    for key, term in load_language("en").terms["instrument"].items():
        if key in rule["without"]:
            continue
        tokens = [name.lower().replace(" ", "_") for name in term.names]
        phrases += [
            (re.compile(rf"\b{name.lower()}\b"), t) for name, t in zip(term.names, tokens, strict=True) if " " in name
        ]
        spec = {**rule, "who": " ".join(tokens)}
        entries.append(_entry(("instrument", key), spec, set(people), False))
    by_word: dict[str, set[int]] = {}
    for i, entry in enumerate(entries):
        for word in entry.who | entry.does | entry.also | entry.alone:
            by_word.setdefault(word, set()).add(i)
    subjects = frozenset().union(*(entry.who for entry in entries))
    verbs = frozenset().union(*(entry.does for entry in entries))
    filler = {form for word in data["filler"].split() for form in (word, *verb_forms(word))}
    return {
        "filler": filler,
        "phrases": phrases,
        "people": people,
        "entries": entries,
        "by_word": by_word,
        "subjects": subjects,
        "verbs": verbs,
    }


def _entry(event: Event, spec: dict[str, Any], people: set[str], vocal: bool) -> Entry:
    def words(field: str) -> list[str]:
        return spec.get(field, "").split()

    who = people if vocal else {f for w in words("who") for f in noun_forms(w)}
    if "people_" in who:
        who |= people
    also = {f for w in words("also") for f in noun_forms(w)} | (people if spec.get("agent") else set())
    does = {f for w in words("does") for f in verb_forms(w)}
    return Entry(event, frozenset(who), frozenset(does), frozenset(also), frozenset(words("alone")), vocal)


def clauses(caption: str) -> Iterator[tuple[str, list[str]]]:
    """(joint before it, words) of each clause; the first has the joint ''."""
    text = re.sub(r"[\"“”()!?:]", " , ", caption.casefold().replace("’", "'").strip().rstrip(". "))
    for pattern, words in lexicon()["phrases"]:
        text = pattern.sub(words, text)
    parts = [p for p in SPLIT.split(text) if p is not None]
    joint = ""
    for part in parts:
        if SPLIT.fullmatch(part):
            joint = part if joint in ("", ",", "and", ".", ";") else f"{joint} {part}" if part in LATER else joint
        elif part.strip():
            yield joint, part.split()
            joint = ""


def events_of(caption: str) -> tuple[list[Event], list[int]] | None:
    """The events of a caption in the order they are said and the stage of each; None where any word is unexplained."""
    events: list[Event] = []
    stages: list[int] = []
    waiting: list[list[str]] = []  # subjects whose verb comes with the next clause: "a man (and a woman talk)"
    subjects: list[list[str]] = []
    stage, late = 0, False
    for joint, words in clauses(caption):
        if joint == "after" or (joint == "over" and waiting):
            return None
        late = late or any(j in LATER for j in (joint, *joint.split(" , "))) or joint.startswith("followed")
        core = [w for w in words if w not in lexicon()["filler"]]
        if not core:
            if SOUNDLESS & set(words):
                return None
            continue
        if waiting and joint not in ("and", ","):
            return None
        stage, late = stage + (late and not (waiting or not events)), False
        found, core_subjects = _read(core, subjects if joint in SHARING and "more" not in words else [])
        if found is None:
            if not all(_is_subject(w) for w in core):
                return None
            waiting.append(core)
            continue
        verbs = [w for w in core if w not in {s for subject in core_subjects for s in subject}]
        for subject in waiting:
            more, _ = _read([*subject, *verbs], [])
            if more is None:
                return None
            found = [*(e for e in more if e[0] == "speaker" or e not in found), *found]
        subjects, waiting = [*waiting, *core_subjects], []
        fresh = [e for e in found if (e, stage) not in set(zip(events, stages, strict=True))]
        events, stages = events + fresh, stages + [stage] * len(fresh)
    if set(events) >= HORNS:
        return None
    changing = any(events.count(e) > 1 for e in MOVING)
    return (events, stages) if events and not waiting and not changing else None


def _is_subject(word: str) -> bool:
    return word in lexicon()["subjects"]


def _read(core: list[str], subjects: list[list[str]]) -> tuple[list[Event] | None, list[list[str]]]:
    """Events of a clause's words and its subjects; the previous clause's `subjects` serve where it has none."""
    own = [w for w in core if _is_subject(w)]
    if subjects and not own:
        each = [_covered([*subject, *core]) for subject in subjects]
        if all(e is not None for e in each):
            return list(dict.fromkeys(e for found in each for e in found or ())), subjects
        if any(w in lexicon()["verbs"] for w in core):  # "a baby screams, then laughs": not any laughter
            return None, []
    if (events := _covered(core)) is None:
        return None, []
    people = [w for w in own if w in lexicon()["people"]]
    return events, [people or own] if own else []


def _covered(words: list[str]) -> list[Event] | None:
    """The events of the one entry that explains all words; None where none or more than one does."""
    people = lexicon()["people"]
    named = [people[w] for w in words if w in people]
    if len(named) > 1:
        return None
    sets = [lexicon()["by_word"].get(w, set()) for w in words]
    entries = [lexicon()["entries"][i] for i in sorted(set.intersection(*sets))]
    found = [entry for entry in entries if entry.covers(words)]
    if len(found) > 1:  # "a crowd talks" is chatter, not speech
        found = [entry for entry in found if not (entry.who_makes and named and named[0][0] == "crowd")]
    if len(found) != 1:
        return None
    (entry,) = found
    if not entry.who_makes:
        return [entry.event]
    who, number = named[0] if named else ("anyone", "one")
    if entry.event == ("speech",):
        many = number == "many" or bool({"voices", "conversation", "dialogue"} & set(words) and not named)
        if who in ("anyone", "crowd"):
            return [("speech", "many" if many else "one")] if who == "anyone" else None
        return [("speaker", who)] * (2 if many else 1)
    if who in ("anyone", "crowd"):
        return [(*entry.event, "people") if who == "crowd" or number == "many" else entry.event]
    return [(*entry.event, who)]


def texts_of(path: Path) -> list[str]:
    """All captions of a CSV file: its columns caption, caption_1 … and description."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = [c for c in (rows[0] if rows else ()) if c == "description" or re.fullmatch(r"caption(_\d+)?", c)]
    return [text for row in rows for c in columns if (text := " ".join((row[c] or "").split()))]


def plain(text: str) -> str:
    """Small letters and spaces only, so that a full stop does not make a caption another one."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def match(paths: Iterable[Path], without: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """The lines to write, each text once."""
    seen = {plain(text) for path in without for text in texts_of(path)}
    for path in paths:
        for text in texts_of(path):
            if (key := plain(text)) in seen:
                continue
            seen.add(key)
            if (found := events_of(text)) is not None:
                events, stages = found
                order = "then" if max(stages) else "together"
                yield {"text": text, "events": [list(e) for e in events], "stages": stages, "order": order,
                       "source": path.stem}  # fmt: skip


def main(
    captions: Annotated[list[Path], typer.Argument(help="CSV files of captions to read.")],
    without: Annotated[list[Path], typer.Option(help="CSV files whose captions are left out: test sets.")],
    out: Annotated[Path, typer.Option(help="The JSON lines to write.")],
) -> None:
    """Write the captions whose events are all known, and print how many have one, two, three or more."""
    lines = list(match(captions, without))
    out.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    print(f"{len(lines)} captions:", dict(sorted(Counter(min(3, len(x["events"])) for x in lines).items())))
    print(Counter(x["order"] for x in lines), Counter(x["source"] for x in lines))
    print(Counter("/".join(e) for x in lines for e in x["events"]).most_common(40))


if __name__ == "__main__":
    typer.run(main)
