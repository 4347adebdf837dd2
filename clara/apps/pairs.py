"""The CLAP score: how well audio, such as a text-to-audio model makes it, fits the texts it was made for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from clara import metrics
from clara.apps.query import embedder
from clara.apps.search import vectors
from clara.errors import ClaraError
from clara.zoo.embedder import Embedder


@dataclass(frozen=True)
class PairScore:
    """`score` is the mean cosine of clips and their texts and `interval` its 95 % bootstrap interval over the pairs;
    `scores` has each pair's. `shuffled` is the mean over texts and clips that do not belong together, which a score is
    to be read beside: another checkpoint has another. None where all texts are the same."""

    score: float
    interval: tuple[float, float]
    shuffled: float | None
    scores: list[float] = field(repr=False)


def score_pairs(zoo: Embedder, sources: Any, texts: Sequence[str], batch_size: int = 16) -> PairScore:
    """The CLAP score of clips and the texts that they were made for, one text for each, in order.

    Raises:
        ClaraError: as many texts as clips are not there, or fewer than two.
    """
    audio_BD = embedder(zoo).embed_audio(sources, batch_size)
    return score_embeddings(audio_BD, zoo.embed_text(texts), texts)


def score_embeddings(audio_BD: Tensor, text_BD: Tensor, texts: Sequence[str]) -> PairScore:
    """`score_pairs` of unit vectors that exist already; `texts` tell which pairs are the same text's."""
    audio_BD = vectors(audio_BD, text_BD.shape[1])
    if len(audio_BD) != len(text_BD) or len(text_BD) < 2:
        raise ClaraError(f"Got {len(audio_BD)} clips and {len(text_BD)} texts: expected one for each, at least two.")
    scores_B = (audio_BD * text_BD).sum(1).double().numpy()
    number = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    text_B = torch.tensor([number[text] for text in texts])
    audio_TD, text_TD = (torch.zeros(len(number), x.shape[1]).index_add_(0, text_B, x) for x in (audio_BD, text_BD))
    strange = len(texts) ** 2 - int(text_B.bincount().square().sum())
    total = float(audio_TD.sum(0) @ text_TD.sum(0) - (audio_TD * text_TD).sum())  # of all but pairs of one text
    return PairScore(
        score=float(scores_B.mean()),
        interval=metrics.bootstrap_interval(lambda s: float(s.mean()), scores_B),
        shuffled=total / strange if strange else None,
        scores=scores_B.tolist(),
    )
