"""Anchors of what audio was not trained on: where a trained tower puts the clips that are labelled with it.

Words that espeak-ng speaks: a tower that trains on synthetic voices learns to tell them from people, and then hears no
person say such a word; one that never heard a synthetic voice puts both together. What a voice is like (low, loud,
slow) is in the embeddings of emotional speech, unasked. Figures of both: LOG.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize
from tqdm.auto import tqdm

from clara.data.entries import Entry, read_entry, scan
from clara.data.facts import fact_name
from clara.data.loader import DataConfig
from clara.errors import ClaraError
from clara.zoo.embedder import Embedder

BATCH, TOGETHER = 32, 256  # of a pass, and of what is decoded before it
LEFT_OUT = ("language", "speaker")  # whose voice it is: a synthetic one tells nothing of that
SPEECH_SHARE = 0.5  # of the mean of all speech in a voice's anchor: a loud voice is not thunder


@dataclass(frozen=True)
class HeardConfig:
    """Clips that anchors are computed from."""

    shards: tuple[str, ...]
    """Tars, folders or globs."""
    splits: tuple[str, ...] = ("train",)
    """Splits to use."""
    exclude_corpora: tuple[str, ...] = ()
    """Corpora to leave out."""
    least: int = 8
    """Clips a fact needs; for qualities of a voice, of one corpus."""
    most: int = 100
    """Most clips read per corpus."""

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise ClaraError(f"heard: least={self.least}, most={self.most}: expected 1 ≤ least ≤ most.")


def heard(zoo: Embedder, config: HeardConfig, known: Collection[str]) -> dict[str, Tensor]:
    """Anchors (D,), of unit length, of the facts that are not in `known`.

    A word, emotion or sound lies at the mean of its clips' embeddings. What a voice is like is measured against the
    other clips of its corpus, so its anchor is the direction in which their embeddings differ from the corpus' mean
    (the mean over corpora), beside half of the mean of all.

    Raises:
        ClaraError: no shards, or a clip that cannot be read.
    """
    entries = scan(DataConfig(config.shards, 1, splits=config.splits, exclude_corpora=config.exclude_corpora))
    clips: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for i, entry in enumerate(entries):
        for fact in entry.facts:
            if fact[0] not in LEFT_OUT and fact_name(fact) not in known:
                clips[fact_name(fact)][str(entry.meta["corpus"])].append(i)
    chosen = {
        name: {corpus: rows[: config.most] for corpus, rows in corpora.items()}
        for name, corpora in sorted(clips.items())
        if (max if name.startswith("voice/") else sum)(map(len, corpora.values())) >= config.least
    }
    wanted = sorted({i for corpora in chosen.values() for rows in corpora.values() for i in rows})
    audio_ND = embedded(zoo, [entries[i] for i in wanted])
    row = {i: n for n, i in enumerate(wanted)}
    means = _corpus_means(audio_ND, [str(entries[i].meta["corpus"]) for i in wanted])
    out = {}
    for name, corpora in chosen.items():
        of_corpus = {c: audio_ND[[row[i] for i in rows]] for c, rows in corpora.items()}
        if name.startswith("voice/"):
            of_corpus = {c: clips_ND for c, clips_ND in of_corpus.items() if len(clips_ND) >= config.least}
            out[name] = _aside_of_speech(of_corpus, means)
        else:
            out[name] = normalize(torch.cat(list(of_corpus.values())).mean(0), dim=0)
    return out


def _corpus_means(audio_ND: Tensor, corpus_N: Sequence[str]) -> dict[str, Tensor]:
    return {c: audio_ND[[n for n, other in enumerate(corpus_N) if other == c]].mean(0) for c in sorted(set(corpus_N))}


def _aside_of_speech(of_corpus: dict[str, Tensor], means: dict[str, Tensor]) -> Tensor:
    """The direction of a voice's clips from their corpora's means, at right angles to speech as such, beside it."""
    speech_D = normalize(torch.stack([means[c] for c in of_corpus]).mean(0), dim=0)
    shift_D = torch.stack([clips_ND.mean(0) - means[c] for c, clips_ND in of_corpus.items()]).mean(0)
    aside_D = normalize(shift_D - (shift_D @ speech_D) * speech_D, dim=0)
    return normalize(SPEECH_SHARE * speech_D + aside_D, dim=0)


def embedded(zoo: Embedder, entries: Sequence[Entry]) -> Tensor:
    """Embeddings (N, D) of clips of shards, in their order; clips of like length together."""
    rate, order = (
        zoo.model.front_end.sample_rate,
        sorted(range(len(entries)), key=lambda n: entries[n].meta["seconds"] or 0.0),
    )
    out_ND = torch.empty(len(entries), zoo.config.embed_dim)
    for start in tqdm(range(0, len(order), TOGETHER), desc="heard", unit=f" × {TOGETHER} clips", disable=None):
        rows = order[start : start + TOGETHER]
        out_ND[rows] = zoo.embed_audio([(read_entry(entries[n], rate), rate) for n in rows], BATCH)
    return out_ND
