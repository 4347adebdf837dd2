"""Captions that several clips share: how many, what they cost a perfect model, and the figures that do not blame it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clara import metrics

DECIMALS = 6
TIES = "a tie counts against the query; cosines are compared at six decimals"


def cosines(x_XD: Tensor, y_YD: Tensor) -> np.ndarray:
    """Cosines (X, Y) of unit vectors at six decimals, so that equal clips and captions tie whatever the chunk size."""
    return torch.round(x_XD.double() @ y_YD.double().T, decimals=DECIMALS).numpy()


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
    group_T, t2a, a2t = np.unique(flat, return_inverse=True)[1], [], []
    for start in range(0, len(flat), chunk):
        for text, sim_A in enumerate(cosines(text_TD[start : start + chunk], audio_AD), start):
            t2a.append(metrics.own_ranks(sim_A, np.isin(np.arange(len(texts)), list(clips[flat[text]])))[0])
    for start in range(0, len(texts), chunk):
        for clip, sim_T in enumerate(cosines(audio_AD[start : start + chunk], text_TD), start):
            a2t.append(metrics.own_ranks(sim_T, np.isin(group_T, group_T[owner_T == clip])))
    return out | metrics.retrieval_figures(np.array(t2a), a2t)
