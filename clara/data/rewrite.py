"""Keywords of a clip -> captions, by any text-to-text model of transformers: what `text_augmented` holds.

A clip's keywords are what its labels say, in English; where there are none, its own captions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from clara.data.annotate import read_rows, work_through, write_rows
from clara.data.manifest import FIELDS, Row
from clara.errors import ClaraError
from clara.text.captions import facts_of, known, spoken_word
from clara.text.prompts import load_language


@dataclass(frozen=True)
class RewriteConfig:
    """Captions from keywords by a sequence-to-sequence model."""

    model: str
    """Folder or hub name of the model."""
    prompt: str = "{keywords}"
    """What the model is asked; {keywords} marks where the clip's words go."""
    captions: int = 1
    """Captions per clip, the best of as many beams."""
    longest: int = 48
    """Most tokens of a caption."""
    batch_size: int = 16
    """Clips per forward pass."""
    device: str = "cpu"
    """'cpu', 'cuda' or 'cuda:N'."""

    def __post_init__(self) -> None:
        if "{keywords}" not in self.prompt:
            raise ClaraError(f"prompt={self.prompt!r}: expected {{keywords}} where the clip's words go.")
        if min(self.captions, self.longest, self.batch_size) < 1:
            raise ClaraError(f"{self}: captions, longest and batch_size must be at least 1.")


def rewrite(source: str | Path, out: str | Path, config: RewriteConfig) -> dict[str, int]:
    """Write a manifest (.jsonl) or a folder of shards again with captions that a model made of each clip's keywords.

    Captions made before an interruption are kept in `OUT.rewritten.jsonl`, and the same call goes on from there.

    Returns:
        How many clips got how many captions.

    Raises:
        ClaraError: nothing to read, no model of that name or kind, a prompt longer than the model reads.
    """
    source, out = Path(source), Path(out)
    words = {r.audio: keywords(r) for r in read_rows(source, out)}
    words = {audio: found for audio, found in words.items() if found}
    if not words:
        raise ClaraError(f"{source}: no clip has labels or captions to write from.")
    writer = Writer(config)
    cache = out.with_name(out.name + ".rewritten.jsonl")

    def work(chunk: list[str]) -> list[tuple[str, Any]]:
        return list(zip(chunk, writer([words[audio] for audio in chunk]), strict=True))

    texts = work_through(list(words), cache, work, config.batch_size)
    write_rows(source, out, {audio: {"text_augmented": lines} for audio, lines in texts.items() if lines})
    cache.unlink()
    return {"clips": sum(map(bool, texts.values())), "captions": sum(map(len, texts.values()))}


def keywords(row: Row) -> list[str]:
    """What a row's labels say, in English ("anger", "woman", "Polish", a spoken word); else its captions."""
    terms, words = load_language("en").terms, []
    for task, key in sorted(filter(known, facts_of({name: getattr(row, name) for name in FIELDS}))):
        words.append(spoken_word(key) if task == "word" else terms[task][key].names[0])
    return words or list(row.text)


class Writer:
    """A text-to-text model with its tokenizer: keywords of clips -> captions, by beam search, so always the same."""

    def __init__(self, config: RewriteConfig) -> None:
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        try:
            self.tokenizer = AutoTokenizer.from_pretrained(config.model)
            model = AutoModelForSeq2SeqLM.from_pretrained(config.model, use_safetensors=True)
        except (OSError, ValueError, KeyError) as e:
            raise ClaraError(f"{config.model!r} is not a text-to-text model that transformers can load ({e}).") from e
        self.config, self.model = config, model.eval().to(config.device)

    @torch.inference_mode()
    def __call__(self, batch: Sequence[Sequence[str]]) -> list[list[str]]:
        """Keywords of each clip -> up to `captions` different texts each, none of them empty."""
        c = self.config
        asked = [c.prompt.replace("{keywords}", ", ".join(words)) for words in batch]
        inputs: Mapping[str, Any] = self.tokenizer(asked, return_tensors="pt", padding=True).to(c.device)
        ids = self.model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            num_beams=max(2, c.captions),
            num_return_sequences=c.captions,
            max_new_tokens=c.longest,
            do_sample=False,
        )
        texts = [" ".join(t.split()) for t in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]
        groups = (texts[i : i + c.captions] for i in range(0, len(texts), c.captions))
        return [list(dict.fromkeys(t for t in group if t)) for group in groups]
