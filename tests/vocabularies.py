"""Tiny vocabularies in the published files' form: of BERT (WordPiece) and of GPT-2 (byte pairs)."""

from __future__ import annotations

import json
from pathlib import Path

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ("the", "sound", "of", "a", "dog", "rain", "barks", "is", "this")


def save_bert(folder: Path) -> Path:
    """bert-base-uncased's files with some eighty tokens: [PAD] is 0."""
    marks = list("0123456789.,!?;:'\"()-|*")
    letters = [c for c in LETTERS if c not in WORDS]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *marks, *letters, *(f"##{c}" for c in LETTERS), *WORDS]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def save_gpt2(folder: Path) -> Path:
    """gpt2's files with a few merges: '!' is 0 and '<|endoftext|>' the last, as there."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [chr(256 + i) for i in range(256 - len(printable))]  # how GPT-2 writes the other bytes
    merges = [("!", "!"), ("t", "h"), ("th", "e"), ("Ġ", "d"), ("o", "g"), ("Ġd", "og"), ("i", "s"), ("Ġ", "the")]
    tokens = [*map(chr, printable), *others, *(a + b for a, b in merges), "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    return folder
