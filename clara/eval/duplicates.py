"""Captions that several clips share: how many, what they cost a perfect model, and the figures that do not blame it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from clara import metrics

TIES = "a tie counts against the query; cosines are compared at six decimals"


def duplicates(audio_AD: Tensor, text_TD: Tensor, texts: Sequence[Sequence[str]], chunk: int = 1024) -> dict[str, Any]:
    """The caption protocol where captions of different clips that are equal to the letter are right for each of them.

    Returns:
        {"distinct_captions", "shared_captions", "ceiling"}: the last is the highest T2A R@1 that a model can reach
        under the plain protocol, since one text has one vector; and, where captions are shared, "t2a" and "a2t" as
        `metrics.retrieval_figures` has them. A clip's own captions include those that read the same elsewhere.
    """
    flat = [t for own in texts for t in own]
    owner_T = np.repeat(np.arange(len(texts)), [len(t) for t in texts])
    clips: dict[str, set[int]] = {}
    for text, clip in zip(flat, owner_T.tolist()):
        clips.setdefault(text, set()).add(clip)
    out: dict[str, Any] = {
        "distinct_captions": len(clips),
        "shared_captions": sum(len(clips[t]) > 1 for t in flat),
        "ceiling": metrics.duplicate_ceiling(texts),
    }
    if not out["shared_captions"]:
        return out
    same: dict[str, list[int]] = {}
    for place, text in enumerate(flat):
        same.setdefault(text, []).append(place)
    right = [sorted({place for text in own for place in same[text]}) for own in texts]
    t2a = metrics.gallery_ranks(text_TD, audio_AD, [sorted(clips[text]) for text in flat], chunk)
    a2t = metrics.gallery_ranks(audio_AD, text_TD, right, chunk)
    return out | metrics.retrieval_figures(np.array([r[0] for r in t2a]), a2t)
