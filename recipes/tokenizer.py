"""Train CLARA's sentencepiece model, reproducibly.

    python recipes/tokenizer.py --captions FOLDER_OF_CSV --names FOLDER_OF_CLDR_JSON --out clara/assets/clara.model

Text: English captions (csv files with caption columns), CLDR names and keywords of every locale (json files), and every
term and template of `clara/text/languages`. Each language is repeated or cut to about the same number of lines, so that
small languages get pieces of their own. About two minutes on two cores.
"""

from __future__ import annotations

import io
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import sentencepiece
import typer

from clara.data.manifest import read_table
from clara.text.prompts import fill, languages, load_language

VOCABULARY = 20000
LINES_A_LANGUAGE = 5000


def captions(folder: Path) -> Iterator[str]:
    """Training captions of every csv in the folder; test and validation files are left alone."""
    for path in sorted(folder.glob("*.csv")):
        if "train" not in path.stem and "5k" not in path.stem:
            continue
        for row in read_table(path, ()):
            yield from (v for k, v in row.items() if k.startswith(("caption", "description", "title")) and v)


def names(path: Path) -> Iterator[str]:
    """Names and keywords of one CLDR locale file."""
    data = json.loads(path.read_text(encoding="utf-8"))
    for name, keywords in data.get("annotations", {}).values():
        yield from [name or "", *keywords]
    yield from data.get("languages", {}).values()


def our_words(code: str) -> Iterator[str]:
    """Every term of one language in every template of its task, and the words that join two things."""
    language = load_language(code)
    yield from (re.sub(r"{\w*}", "", line) for line in (*language.compose, *language.said, *language.over))
    for task, terms in language.terms.items():
        for term in terms.values():
            for choice in range(2):
                yield from (fill(line, term, choice) for line in language.templates[task])


def corpus(captions_folder: Path, names_folder: Path, seed: int = 0) -> Iterator[str]:
    """All lines, balanced over languages."""
    rng = random.Random(seed)
    english = sorted(set(captions(captions_folder)))
    yield from rng.sample(english, min(len(english), 6 * LINES_A_LANGUAGE))
    locales = {p.stem for p in names_folder.glob("*.json")}
    for code in sorted(locales | set(languages())):
        lines = list(our_words(code)) if code in languages() else []
        if code in locales:
            lines += list(names(names_folder / f"{code}.json"))
        lines = [line for line in lines if line.strip()]
        if lines:
            wanted = LINES_A_LANGUAGE if code in languages() else LINES_A_LANGUAGE // 6
            yield from rng.sample(lines, wanted) if len(lines) > wanted else lines


def main(
    captions_folder: Annotated[Path, typer.Option("--captions")],
    names_folder: Annotated[Path, typer.Option("--names")],
    out: Annotated[Path, typer.Option()] = Path("clara/assets/clara.model"),
) -> None:
    """Train and write the model."""
    lines = list(corpus(captions_folder, names_folder))
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="unigram",
        vocab_size=VOCABULARY,
        character_coverage=0.9999,
        byte_fallback=True,
        normalization_rule_name="nmt_nfkc_cf",
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
        num_threads=2,
        minloglevel=1,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(model.getvalue())
    print(f"{out}: {VOCABULARY} pieces from {len(lines)} lines, {len(model.getvalue()) / 1e6:.2f} MB")


if __name__ == "__main__":
    typer.run(main)
