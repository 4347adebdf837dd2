"""Tokenizers: texts -> ids_BL, mask_BL, padded to the longest of the batch (not to a fixed length)."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from torch import Tensor

from clara import hub
from clara.config import Registry, Spec, build
from clara.errors import ClaraError, unknown
from clara.text.normal import normal

ASSETS = Path(__file__).parent.parent / "assets"
PROBES = ("dog barks", "rain falls", "engine runs")  # as many words each
WHOLE = "its files are not whole. Copy all that its makers publish (tokenizer.json, or vocab and merges)."


class Tokenizer:
    """Attributes: `context_length` (longest L), `vocab_size`, `pad_id`, `files` (what a checkpoint must carry)."""

    context_length: int
    vocab_size: int
    pad_id: int
    files: list[Path]
    warned = False

    def encode(self, text: str) -> list[int]:
        """Ids of one text with its special tokens, untruncated."""
        raise NotImplementedError

    def check(self) -> None:
        """ClaraError where different texts have the same ids, as of a tokenizer whose files are missing, or ids that
        its vocabulary does not have."""
        ids = [self.encode(self.normal(text)) for text in PROBES]
        if len(set(map(tuple, ids))) < len(ids) or not all(ids):
            raise ClaraError(f"The {type(self).__name__} gives different texts the same ids ({ids[0][:8]}): {WHOLE}")
        last = max(self.pad_id, *map(max, ids))
        if last >= self.vocab_size or min(self.pad_id, *map(min, ids)) < 0:
            raise ClaraError(
                f"The {type(self).__name__} gives the id {last} and pads with {self.pad_id}, of {self.vocab_size} "
                f"tokens: {WHOLE}"
            )

    def normal(self, text: str) -> str:
        """The text that `encode` gets for `text`."""
        return normal(text)

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, at most `context_length`; equal ids are one text to the model. A text beyond the context
        keeps its first tokens and its last (the end token), and a warning says so once.

        Raises:
            ClaraError: no texts, one without a visible character, or something other than text.
        """
        if isinstance(texts, str):
            raise ClaraError(f"Got one string {texts[:40]!r}: expected a list of texts.")
        rows = []
        for text in texts:
            if not isinstance(text, str):
                raise ClaraError(f"Got {text!r}: expected a text that is not empty.")
            if not _is_utf8(text):  # what Python makes of a command line's stray bytes
                raise ClaraError(f"Got {text!r}: expected a text that can be written in UTF-8.")
            if not (plain := self.normal(text)):
                raise ClaraError(f"Got {text!r}: expected a text that is not empty; nothing of this one is visible.")
            ids, longest = self.encode(plain), self.context_length
            if len(ids) > longest:
                self._warn_of_truncation(text)
                ids = ids[: longest - 1] + ids[-1:]
            rows.append(ids)
        if not rows:
            raise ClaraError("Got no texts: expected at least one.")
        return rows

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Texts -> ids_BL (long), mask_BL (bool, True = token). ClaraError as of `token_ids`."""
        rows = self.token_ids(texts)
        length = max(map(len, rows))
        ids_BL = torch.full((len(rows), length), self.pad_id, dtype=torch.long)
        for i, ids in enumerate(rows):
            ids_BL[i, : len(ids)] = torch.tensor(ids)
        mask_BL = torch.arange(length)[None] < torch.tensor([len(ids) for ids in rows])[:, None]
        return ids_BL, mask_BL

    def _warn_of_truncation(self, text: str) -> None:
        if not self.warned:
            self.warned = True
            warnings.warn(
                f"The text that begins {text[:60]!r} is longer than this model's {self.context_length} tokens: the "
                "rest of it, and of any other such text, is not read.",
                stacklevel=4,
            )


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


TOKENIZERS: Registry[Tokenizer] = Registry("tokenizer")


def _sentencepiece(path: Path) -> sentencepiece.SentencePieceProcessor:
    try:
        return sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError, UnicodeDecodeError) as e:  # it may be damaged where its messages quote it
        raise ClaraError(f"{path} is not a sentencepiece model ({hub.said(e)}): copy it again.") from e


@dataclass(frozen=True)
class SentencePieceConfig:
    """A sentencepiece model."""

    file: str = "clara.model"
    """A .model beside the checkpoint, or the name of one in the package's assets."""
    context_length: int = 64
    """Most tokens of a text."""


@TOKENIZERS.register("sentencepiece", SentencePieceConfig)
class SentencePiece(Tokenizer):
    """A sentencepiece model; every text is begun by <s> and ended by </s>. Ours folds case and width itself."""

    def __init__(self, config: SentencePieceConfig, folder: Path) -> None:
        path = folder / config.file
        if not path.is_file():
            path = ASSETS / config.file
        if not path.is_file():
            raise ClaraError(f"No tokenizer file {config.file!r} in {folder} nor in the package.")
        self.processor = _sentencepiece(path)
        try:
            self.processor.encode("a", add_bos=True, add_eos=True)
        except (ValueError, RuntimeError) as e:
            raise ClaraError(f"{path} lacks what begins and ends a text ({hub.said(e)}): copy it again.") from e
        self.context_length, self.files = config.context_length, [path]
        self.vocab_size, self.pad_id = self.processor.vocab_size(), self.processor.pad_id()

    def encode(self, text: str) -> list[int]:
        # 32 characters a token is far beyond any script's ratio: a bound on the work for absurdly long texts
        text = " ".join(text[: 32 * self.context_length].split())
        return self.processor.encode(text, add_bos=True, add_eos=True)


@dataclass(frozen=True)
class HFTokenizerConfig:
    """A transformers tokenizer."""

    name: str
    """Hub id, or a folder beside the checkpoint written by `save_pretrained`."""
    context_length: int = 64
    """Most tokens of a text."""
    prefix: str = ""
    """Put before every text (multilingual e5: 'query: ')."""
    suffix: str = ""
    """Put after every text (Microsoft's CLAP of 2023: ' <|endoftext|>')."""
    blanks: str = ""
    """Characters read as spaces (WavCaps' texts have no punctuation)."""


@TOKENIZERS.register("hf", HFTokenizerConfig)
class HFTokenizer(Tokenizer):
    """Any transformers tokenizer."""

    def __init__(self, config: HFTokenizerConfig, folder: Path) -> None:
        from transformers import AutoTokenizer

        local, what = folder / config.name, f"Tokenizer {config.name!r}"
        where = hub.folder_of(config.name, hub.TOKENIZER, what, folder)
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(where)
        except Exception as e:  # tokenizers raises nothing narrower
            raise ClaraError(f"{what} cannot be loaded from {where}: {hub.said(e)}") from e
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        if self.tokenizer.pad_token_id is None:
            raise ClaraError(f"{what} in {where} has neither a padding token nor an end token: {WHOLE}")
        self.context_length, self.prefix, self.suffix = config.context_length, config.prefix, config.suffix
        self.blanks = str.maketrans(config.blanks, " " * len(config.blanks))
        self.vocab_size, self.pad_id = len(self.tokenizer), self.tokenizer.pad_token_id
        self.files = [local] if local.is_dir() else []

    def encode(self, text: str) -> list[int]:
        text = text[: 32 * self.context_length].translate(self.blanks)
        return self.tokenizer(self.prefix + text + self.suffix)["input_ids"]


FACTS = "facts.txt"


@dataclass(frozen=True)
class FactsConfig:
    """Facts looked up by name."""

    file: str = FACTS
    """Facts beside the checkpoint, one 'task/key' per line; the line's number is the id."""
    context_length: int = 64
    """Most facts of a text."""


@TOKENIZERS.register("facts", FactsConfig)
class FactsTokenizer(Tokenizer):
    """Facts by name, for the 'anchors' text tower: 'emotion/anger', or 'sound/dog + sound/rain' for two."""

    pad_id = 0

    def __init__(self, config: FactsConfig, folder: Path) -> None:
        path = folder / config.file
        if not path.is_file():
            raise ClaraError(f"No file of facts {config.file!r} in {folder}.")
        try:
            self.facts = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as e:
            raise ClaraError(f"{path} is not a list of facts in UTF-8 ({e.reason}): copy it again.") from e
        self.context_length, self.vocab_size, self.files = config.context_length, len(self.facts), [path]
        self.ids = {fact: i for i, fact in enumerate(self.facts)}

    def normal(self, text: str) -> str:
        """Facts are names, which are looked up as they are."""
        return text.strip()

    def check(self) -> None:
        """ClaraError for no facts, or one twice."""
        if not self.ids or len(self.ids) != len(self.facts):
            raise ClaraError(f"{self.files[0]} holds {len(self.facts)} facts, {len(self.ids)} of them different.")

    def encode(self, text: str) -> list[int]:
        names = text.split(" + ")
        for name in names:
            if name not in self.ids:
                raise unknown("fact (this checkpoint has anchors, and no words yet)", name, self.ids)
        return [self.ids[name] for name in names]


# Whisper's multilingual vocabulary and merges, as `_fingerprint` reads them, without the first merge
WHISPER_BPE = "e486bd677d1b9d3b3ea33f8eeb5a5189d198122ef0f03af04a70a154afa715d3"
# Whisper's languages in its order, and those the first CLARA put in between and behind: the order makes the ids
# fmt: off
CLARA_LANGUAGES = (
    "en", "zh", "zh-CN", "de", "es", "ru", "ko", "fr", "ja", "pt", "tr", "pl", "ca", "nl", "ar", "sv", "it", "id", "hi",
    "fi", "vi", "iw", "uk", "el", "ms", "cs", "ro", "da", "hu", "ta", "no", "th", "ur", "hr", "bg", "lt", "la", "mi",
    "ml", "cy", "sk", "te", "fa", "lv", "bn", "sr", "az", "sl", "kn", "et", "mk", "br", "eu", "is", "hy", "ne", "mn",
    "bs", "kk", "sq", "sw", "gl", "mr", "pa", "si", "km", "sn", "yo", "so", "af", "oc", "ka", "be", "tg", "sd", "gu",
    "am", "yi", "lo", "uz", "fo", "ht", "ps", "tk", "nn", "mt", "sa", "lb", "my", "bo", "tl", "mg", "as", "tt", "haw",
    "ln", "ha", "ba", "jw", "su", "gn", "fy", "fy-NL", "eo", "cnh", "cv", "dv", "ky", "or", "rw",
)
# fmt: on


@dataclass(frozen=True)
class ClaraBPEConfig:
    """The tokenizer of the first CLARA."""

    name: str = "openai/whisper-tiny"
    """Whisper's multilingual tokenizer: a hub id or a folder (vocab.json and merges.txt alone will do)."""
    language: str = "en"
    """Language tag of texts without one."""
    speech: bool = True
    """Whether the tag of texts without one says speech."""
    context_length: int = 4096
    """Most tokens of a text."""


@TOKENIZERS.register("clara_bpe", ClaraBPEConfig)
class ClaraBPE(HFTokenizer):
    """The first CLARA's: Whisper's byte-pair encoding with tags of its own, whose ids are not Whisper's.

    Its file of merges has no heading, and the transformers of its time took the first merge, of a space and a 't', for
    one: it was trained without. ' talking' is three tokens, then and here; transformers 5 makes one of it.
    A text is '<|en|><|speech|> ' and itself; one that begins with '<|', say '<|de|><|speech|> Hallo', keeps its tags.
    """

    def __init__(self, config: ClaraBPEConfig, folder: Path) -> None:
        if config.language not in CLARA_LANGUAGES:
            raise unknown("language tag of the first CLARA", config.language, CLARA_LANGUAGES)
        super().__init__(HFTokenizerConfig(config.name, config.context_length), folder)
        self.tokenizer = _clara_tags(self.tokenizer, config.name)
        self.vocab_size, self.pad_id = len(self.tokenizer), 0
        self.tags = f"<|{config.language}|><|{'speech' if config.speech else 'nospeech'}|> "

    def encode(self, text: str) -> list[int]:
        return super().encode(text if text.startswith("<|") else self.tags + text)


def _clara_tags(whisper: Any, name: str) -> Any:
    """The transformers tokenizer of Whisper's byte-pair encoding with CLARA's special tokens after it."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    end = "<|endoftext|>"
    bpe = json.loads(whisper.backend_tokenizer.to_str())["model"] if whisper.is_fast else {}
    vocab = {token: i for token, i in bpe.get("vocab", {}).items() if token != end}
    merges: list[Any] = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in bpe.get("merges", [])]
    if merges[:1] == [("Ġ", "t")]:
        del merges[0]
    if _fingerprint(vocab, merges) != WHISPER_BPE:
        raise ClaraError(
            f"Tokenizer {name!r} is not Whisper's multilingual one, on which the first CLARA was trained: expected a "
            "multilingual openai/whisper-…, or a folder with the vocab.json and merges.txt of the original repository."
        )
    backend = Backend(models.BPE(vocab, merges))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tags = ("startoftranscript", *CLARA_LANGUAGES, "translate", "transcribe", "nospeech", "speech")
    backend.add_special_tokens([end, *(f"<|{tag}|>" for tag in tags)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=end)


def _fingerprint(vocab: dict[str, int], merges: list[tuple[str, ...]]) -> str:
    lines = [*sorted(vocab, key=vocab.__getitem__), "", *map(" ".join, merges)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class NLLBConfig:
    """The tokenizer of NLLB and SONAR."""

    file: str = "sentencepiece.source.256000.model"
    """The sentencepiece .model beside the checkpoint."""
    language: str = "eng_Latn"
    """NLLB's code for all texts ('eng_Latn', 'deu_Latn' …); GLAP says English of all."""
    context_length: int = 514
    """Most tokens of a text."""


@TOKENIZERS.register("nllb", NLLBConfig)
class NLLBTokenizer(Tokenizer):
    """NLLB's (Costa-jussà et al. 2022): a language token, the pieces, </s>. Ids are those of transformers' NLLB: <s>
    <pad> </s> <unk>, the pieces from the fourth on, a padding piece, 202 languages."""

    def __init__(self, config: NLLBConfig, folder: Path) -> None:
        from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES

        if config.language not in FAIRSEQ_LANGUAGE_CODES:
            raise unknown("language code of NLLB", config.language, FAIRSEQ_LANGUAGE_CODES)
        path = folder / config.file
        if not path.is_file():
            raise ClaraError(f"No tokenizer file {config.file!r} in {folder}.")
        self.processor = _sentencepiece(path)
        pieces = self.processor.vocab_size()
        self.language_id = pieces + 1 + FAIRSEQ_LANGUAGE_CODES.index(config.language)
        self.context_length, self.files = config.context_length, [path]
        self.vocab_size, self.pad_id = pieces + 206, 1  # with fairseq's three markers of mined and translated data

    def encode(self, text: str) -> list[int]:
        pieces = self.processor.encode(text[: 32 * self.context_length])
        return [self.language_id, *((3, 0, 2)[p] if p < 3 else p + 1 for p in pieces), 2]


def build_tokenizer(spec: Spec, folder: str | Path = ASSETS) -> Tokenizer:
    """The tokenizer that `spec` names, its files looked up in `folder` (the checkpoint) first."""
    if spec.kind not in TOKENIZERS.names():
        raise unknown("tokenizer", spec.kind, TOKENIZERS.names())
    cls, config = TOKENIZERS.get(spec.kind)
    make: Callable[..., Tokenizer] = cls
    tokenizer = make(build(config, spec.options, where=f"tokenizer {spec.kind!r}"), Path(folder))
    tokenizer.check()
    return tokenizer
