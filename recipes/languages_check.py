"""Compare our words with CLDR's names and keywords of emoji, language by language.

    python recipes/languages_check.py --names FOLDER_OF_CLDR_JSON [--show lt]

For every concept below that a locale annotates, ours agrees when a word of ours and a word of CLDR's share their stem
(the word less its last two letters, at least three; in scripts without spaces one contains the other). CLDR names
pictures and we name sounds, so a miss is a line to read (`--show`), not an error; seconds on one core.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from clara.text.prompts import languages, load_language

CONCEPTS = {
    "word": "dog 🐕, cat 🐈, bird 🐦, bed 🛏, tree 🌳, house 🏠",
    "sound": "dog 🐕, cat 🐈, rooster 🐓, pig 🐖, cow 🐄, frog 🐸, hen 🐔, sheep 🐑, crickets 🦗, chirping birds 🐦, "
    "rain 🌧, sea waves 🌊, crackling fire 🔥, wind 🌬, thunderstorm ⛈, water drops 💧, toilet flush 🚽, "
    "door wood knock 🚪, crying baby 👶, sneezing 🤧, clapping 👏, footsteps 🚶, laughing 😂, yawning 🥱, "
    "helicopter 🚁, train 🚂, airplane ✈, fireworks 🎆, hand saw 🪚, siren 🚨, car horn 🚗, church bells ⛪",
    "instrument": "violin 🎻, trumpet 🎺, saxophone 🎷, guitar 🎸, accordion 🪗, banjo 🪕, piano 🎹, flute 🪈",
    "emotion": "anger 😠, sadness 😢, fear 😨, neutral 😐",
    "speaker": "female 👩, male 👨, child 🧒, elderly 🧓",
}
UNSPACED = {"ja", "th", "zh"}


def words(text: str) -> list[str]:
    """The words of a text, casefolded; marks stay on their letters."""
    text = unicodedata.normalize("NFC", text).casefold()
    return [w for w in re.split(r"[\s\d!-/:-@\[-`{-~’ʼ،؛、。・：（）「」]+", text) if w]


def alike(ours: str, theirs: str, unspaced: bool) -> bool:
    """Whether two words share their stem."""
    if unspaced:
        return ours in theirs or theirs in ours
    short, long = sorted((ours, theirs), key=len)
    return ours == theirs or (len(short) > 2 and long.startswith(short[: max(3, len(short) - 2)]))


def compare(code: str, folder: Path) -> tuple[int, int, list[str]]:
    """Concepts that agree, concepts that the locale annotates, and a line for each that does not agree."""
    # Norwegian is annotated once, as 'no'
    path = next((p for p in (folder / f"{c}.json" for c in (code, {"nb": "no"}.get(code))) if p.is_file()), None)
    notes = json.loads(path.read_text(encoding="utf-8")).get("annotations", {}) if path else {}
    pairs = [(task, *item.rsplit(" ", 1)) for task, line in CONCEPTS.items() for item in line.split(", ")]
    theirs = {}
    for emoji in {e for _, _, e in pairs if e in notes}:
        name, keywords = notes[emoji]
        theirs[emoji] = {w for text in (name or "", *keywords) for w in words(text)}
    common = Counter(w for found in theirs.values() for w in found)  # 'animal', 'face', 'music' tell nothing
    same, misses = 0, []
    for task, key, emoji in pairs:
        found = {w for w in theirs.get(emoji, ()) if common[w] < 4}
        if not found:
            continue
        term = load_language(code).terms[task][key]
        ours = {w for names in (term.names, *term.forms.values()) for name in names for w in words(name)}
        if any(alike(a, b, code in UNSPACED) for a in ours for b in found):
            same += 1
        else:
            misses.append(f"{task} {key}: ours {', '.join(term.names)}; CLDR {', '.join(sorted(found))}")
    return same, same + len(misses), misses


def main(
    names: Annotated[Path, typer.Option(help="Folder of <locale>.json files with annotations.")],
    show: Annotated[list[str], typer.Option(help="Languages whose disagreements to print.")] = [],  # noqa: B006
) -> None:
    """Print the table of clara/text/languages/README.md: agreement by language and how each file was checked."""
    print("| code | language | agree | checked |\n|---|---|---|---|")
    for code in languages():
        (same, all_, misses), language = compare(code, names), load_language(code)
        figure = f"{same} of {all_}" if all_ else "none annotated"
        print(f"| {code} | {language.english_name} | {figure} | {' '.join(language.checked.split())} |")
        if code in show:
            print("\n".join(f"    {line}" for line in misses))


if __name__ == "__main__":
    typer.run(main)
