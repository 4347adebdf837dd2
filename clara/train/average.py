"""Weights averaged over checkpoints of one training line: often steadier on unseen corpora than either end.

Wortsman et al. 2022, "Robust fine-tuning of zero-shot models" (WiSE-FT) and "Model soups".
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from clara.errors import ClaraError, unknown
from clara.zoo.factory import create_model, get_tokenizer, load_strictly, save_checkpoint
from clara.zoo.lineage import inherited, with_front

PARTS = {"all": "", "audio": ("front_end.", "audio.", "audio_head."), "text": ("text.", "text_head.")}


def average(names: Sequence[str], shares: Sequence[float], out: str | Path, part: str = "all") -> Path:
    """Average checkpoints and save the result as a checkpoint folder; it is the last one's model and tokenizer.

    Args:
        names: checkpoints, two or more, with the same tensors in the averaged part.
        shares: of each, at least 0, summing to 1. Running statistics of batch norms are averaged like weights.
        part: 'all', 'audio' or 'text'; the rest is the last checkpoint's.

    Raises:
        ClaraError: shares that are none, an unknown part, or tensors that differ (the first is named).
    """
    if part not in PARTS:
        raise unknown("part", part, PARTS)
    if len(names) < 2 or len(names) != len(shares) or min(shares) < 0 or abs(sum(shares) - 1.0) > 1e-6:
        raise ClaraError(
            f"{len(names)} checkpoints with shares {list(shares)}: expected two or more, shares ≥ 0, sum 1."
        )
    model, states = create_model(names[-1]), [create_model(name).state_dict() for name in names]
    tensors = dict(model.state_dict())
    for key in (k for k in tensors if k.startswith(PARTS[part])):
        shapes = [tuple(s[key].shape) if key in s else None for s in states]
        if len(set(shapes)) != 1:
            raise ClaraError(f"{key} is {shapes} in {list(names)}: only checkpoints of one line can be averaged.")
        if tensors[key].is_floating_point():
            tensors[key] = _mean([s[key] for s in states], shares)
    load_strictly(model, tensors, "the average")
    made = ", ".join(f"{share:g} of {name}" for name, share in zip(names, shares))
    card = with_front(inherited(names), f"# {Path(out).name}\n\nWeights averaged ({part}): {made}.\n")
    return save_checkpoint(out, model, get_tokenizer(names[-1]), card, torch.float32)


def _mean(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    return torch.stack([t.double() * s for t, s in zip(tensors, shares)]).sum(0).to(tensors[0].dtype)
