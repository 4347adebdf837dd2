"""Pieces a word, by language: how finely a tokenizer cuts the names of our 75 sounds.

    python benchmarks/pieces.py                       # ours
    python benchmarks/pieces.py --beside xlm-r        # and XLM-R's, offline: the package blingfire carries its model
    python benchmarks/pieces.py --beside FOLDER       # or a transformers tokenizer's, a folder or hub id

A word is what stands between spaces; Japanese, Chinese and Thai write none, so theirs are phrases.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
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


def peer(name: str) -> Callable[[str], int]:
    """How many pieces another tokenizer makes of a text."""
    if name != "xlm-r":
        from transformers import AutoTokenizer

        other = AutoTokenizer.from_pretrained(name)
        return lambda text: len(other(text, add_special_tokens=False)["input_ids"])
    import blingfire

    model = blingfire.load_model(str(Path(blingfire.__file__).with_name("xlm_roberta_base.bin")))
    if (known := blingfire.text_to_ids(model, "Hello world!", 8, no_padding=True).tolist()) != [35378, 8999, 38]:
        raise SystemExit(f"This is not XLM-R's vocabulary: it gave {known} for 'Hello world!'.")
    return lambda text: len(blingfire.text_to_ids(model, text, 512, no_padding=True))


def main(beside: Annotated[str | None, typer.Option(help="'xlm-r' or a transformers tokenizer.")] = None) -> None:
    """Print the table."""
    ours = build_tokenizer(Spec("sentencepiece", {"file": SentencePieceConfig().file}))
    columns = {"ours": rates(lambda text: len(ours.encode(text)) - 2)}
    if beside is not None:
        columns[beside] = rates(peer(beside))
    print("| language | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for code in languages():
        print(f"| {code} | " + " | ".join(f"{c[code]:.2f}" for c in columns.values()) + " |")
    print("| mean | " + " | ".join(f"{sum(c.values()) / len(c):.2f}" for c in columns.values()) + " |")


if __name__ == "__main__":
    typer.run(main)
