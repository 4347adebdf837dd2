"""Pieces a word, by language: how finely a tokenizer cuts the names of our 75 sounds.

    python benchmarks/pieces.py                       # ours
    python benchmarks/pieces.py --beside FOLDER       # and a transformers tokenizer's (XLM-R, …), a folder or hub id

A word is what stands between spaces; Japanese, Chinese and Thai write none, so theirs are phrases.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from clara.config import Spec
from clara.text.prompts import languages, load_language
from clara.text.tokenizer import SentencePieceConfig, build_tokenizer


def rates(count: Callable[[str], int]) -> dict[str, float]:
    """Pieces a word of every language; `count` gives a text's pieces."""
    found = {}
    for code in languages():
        names = [name for term in load_language(code).terms["sound"].values() for name in term.names]
        found[code] = sum(map(count, names)) / sum(len(name.split()) for name in names)
    return found


def main(beside: Annotated[str | None, typer.Option(help="A transformers tokenizer.")] = None) -> None:
    """Print the table."""
    ours = build_tokenizer(Spec("sentencepiece", {"file": SentencePieceConfig().file}))
    columns = {"ours": rates(lambda text: len(ours.encode(text)) - 2)}
    if beside is not None:
        from transformers import AutoTokenizer

        other = AutoTokenizer.from_pretrained(beside)
        columns[beside] = rates(lambda text: len(other(text, add_special_tokens=False)["input_ids"]))
    print("| language | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for code in languages():
        print(f"| {code} | " + " | ".join(f"{c[code]:.2f}" for c in columns.values()) + " |")
    print("| mean | " + " | ".join(f"{sum(c.values()) / len(c):.2f}" for c in columns.values()) + " |")


if __name__ == "__main__":
    typer.run(main)
