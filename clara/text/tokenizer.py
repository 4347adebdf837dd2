"""Tokenizers: texts -> ids_BL, mask_BL, padded to the longest of the batch (not to a fixed length)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import sentencepiece
import torch
from torch import Tensor

from clara.config import Registry, Spec, build
from clara.errors import ClaraError, unknown

ASSETS = Path(__file__).parent.parent / "assets"


class Tokenizer:
    """Attributes: `context_length` (longest L), `vocab_size`, `pad_id`, `files` (what a checkpoint must carry)."""

    context_length: int
    vocab_size: int
    pad_id: int
    files: list[Path]

    def encode(self, text: str) -> list[int]:
        """Ids of one text with its special tokens, untruncated."""
        raise NotImplementedError

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Texts -> ids_BL (long), mask_BL (bool, True = token). A text beyond the context keeps its first tokens and
        its last (the end token). ClaraError for no texts, an empty one, or something that is no text."""
        if isinstance(texts, str):
            raise ClaraError(f"Got one string {texts[:40]!r}: expected a list of texts.")
        rows = []
        for text in texts:
            if not isinstance(text, str) or not text.strip():
                raise ClaraError(f"Got {text!r}: expected a text that is not empty.")
            ids = self.encode(text)
            rows.append(ids if len(ids) <= self.context_length else ids[: self.context_length - 1] + ids[-1:])
        if not rows:
            raise ClaraError("Got no texts: expected at least one.")
        length = max(map(len, rows))
        ids_BL = torch.full((len(rows), length), self.pad_id, dtype=torch.long)
        for i, ids in enumerate(rows):
            ids_BL[i, : len(ids)] = torch.tensor(ids)
        mask_BL = torch.arange(length)[None] < torch.tensor([len(ids) for ids in rows])[:, None]
        return ids_BL, mask_BL


TOKENIZERS: Registry[Tokenizer] = Registry("tokenizer")


@dataclass(frozen=True)
class SentencePieceConfig:
    """`file`: a .model beside the checkpoint, or the name of one in the package's assets."""

    file: str = "clara.model"
    context_length: int = 64


@TOKENIZERS.register("sentencepiece", SentencePieceConfig)
class SentencePiece(Tokenizer):
    """A sentencepiece model; every text is begun by <s> and ended by </s>. Ours folds case and width itself."""

    def __init__(self, config: SentencePieceConfig, folder: Path) -> None:
        path = folder / config.file
        if not path.is_file():
            path = ASSETS / config.file
        if not path.is_file():
            raise ClaraError(f"No tokenizer file {config.file!r} in {folder} nor in the package.")
        self.processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        self.context_length, self.files = config.context_length, [path]
        self.vocab_size, self.pad_id = self.processor.vocab_size(), self.processor.pad_id()

    def encode(self, text: str) -> list[int]:
        # 32 characters a token is far beyond any script's ratio: a bound on the work for absurdly long texts
        text = " ".join(text[: 32 * self.context_length].split())
        return self.processor.encode(text, add_bos=True, add_eos=True)


@dataclass(frozen=True)
class HFTokenizerConfig:
    """`name`: a hub id, or a folder beside the checkpoint written by `save_pretrained`."""

    name: str
    context_length: int = 64


@TOKENIZERS.register("hf", HFTokenizerConfig)
class HFTokenizer(Tokenizer):
    """Any transformers tokenizer."""

    def __init__(self, config: HFTokenizerConfig, folder: Path) -> None:
        from transformers import AutoTokenizer

        local = folder / config.name
        where = local if local.is_dir() else config.name
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(where)
        except (OSError, ValueError) as e:
            raise ClaraError(f"Tokenizer {config.name!r} cannot be loaded from {folder} or the hub: {e}") from e
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.context_length = config.context_length
        self.vocab_size, self.pad_id = len(self.tokenizer), self.tokenizer.pad_token_id
        self.files = [local] if local.is_dir() else []

    def encode(self, text: str) -> list[int]:
        return self.tokenizer(text[: 32 * self.context_length])["input_ids"]


FACTS = "facts.txt"


@dataclass(frozen=True)
class FactsConfig:
    """`file`: the facts beside the checkpoint, 'task/key' a line; the line's number is the id."""

    file: str = FACTS
    context_length: int = 64


@TOKENIZERS.register("facts", FactsConfig)
class FactsTokenizer(Tokenizer):
    """Facts by name, for the 'anchors' text tower: 'emotion/anger', or 'sound/dog + sound/rain' for two."""

    pad_id = 0

    def __init__(self, config: FactsConfig, folder: Path) -> None:
        path = folder / config.file
        if not path.is_file():
            raise ClaraError(f"No file of facts {config.file!r} in {folder}.")
        self.facts = path.read_text(encoding="utf-8").splitlines()
        self.context_length, self.vocab_size, self.files = config.context_length, len(self.facts), [path]
        self.ids = {fact: i for i, fact in enumerate(self.facts)}

    def encode(self, text: str) -> list[int]:
        names = text.split(" + ")
        for name in names:
            if name not in self.ids:
                raise unknown("fact (this checkpoint has anchors, and no words yet)", name, self.ids)
        return [self.ids[name] for name in names]


def build_tokenizer(spec: Spec, folder: str | Path = ASSETS) -> Tokenizer:
    """The tokenizer that `spec` names, its files looked up in `folder` (the checkpoint) first."""
    if spec.kind not in TOKENIZERS.names():
        raise unknown("tokenizer", spec.kind, TOKENIZERS.names())
    cls, config = TOKENIZERS.get(spec.kind)
    return cls(build(config, spec.options, where=f"tokenizer {spec.kind!r}"), Path(folder))
