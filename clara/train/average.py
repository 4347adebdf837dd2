"""Checkpoints of one training line averaged, often steadier on unseen corpora than any of them: their weights, or what
they give.

Wortsman et al. 2022, "Robust fine-tuning of zero-shot models" (WiSE-FT) and "Model soups"; Lakshminarayanan et al.
2017, "Simple and scalable predictive uncertainty estimation using deep ensembles".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from clara.config import Spec, to_dict
from clara.errors import ClaraError, unknown
from clara.model import DualEncoder
from clara.zoo.factory import create_model, get_tokenizer, load_strictly, save_checkpoint

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
    _check_shares(names, shares)
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
    card = f"# {Path(out).name}\n\nWeights averaged ({part}): {made}.\n"
    return save_checkpoint(out, model, get_tokenizer(names[-1]), card, torch.float32)


def ensemble(names: Sequence[str], shares: Sequence[float], out: str | Path) -> Path:
    """Put the audio towers of checkpoints side by side and save the result; the rest is the last checkpoint's.

    Args:
        names: checkpoints, two or more, whose audio was trained towards the same anchors or texts, each with a linear
            audio head.
        shares: of each tower's unit vector in the mean, at least 0, summing to 1.
        out: the checkpoint folder to write.

    Raises:
        ClaraError: shares that are none, or checkpoints of another front-end, width or kind of head.
    """
    _check_shares(names, shares)
    models = [create_model(name) for name in names]
    last = models[-1].config
    for name, c in zip(names, (m.config for m in models)):
        if (c.front_end, c.embed_dim, c.audio_head) != (last.front_end, last.embed_dim, Spec("linear")):
            raise ClaraError(
                f"{name} has front_end {to_dict(c.front_end)}, embed_dim {c.embed_dim} and audio_head "
                f"{c.audio_head.kind}: expected those of {names[-1]}, and linear heads."
            )
    members = [to_dict(m.config.audio) for m in models]
    audio = Spec("ensemble", {"members": members, "width": last.embed_dim, "shares": list(shares)})
    model = DualEncoder(dataclasses.replace(last, audio=audio, audio_head=Spec("identity")))
    tensors = {n: t for n, t in models[-1].state_dict().items() if not n.startswith(("audio.", "audio_head."))}
    for i, m in enumerate(models):
        tensors |= {f"audio.members.{i}.{n}": t for n, t in m.audio.state_dict().items()}
        tensors |= {f"audio.heads.{i}.{n}": t for n, t in m.audio_head.state_dict().items()}
    load_strictly(model, tensors, "the ensemble")
    made = ", ".join(f"{share:g} of {name}" for name, share in zip(names, shares))
    card = f"# {Path(out).name}\n\nAudio towers side by side: {made}.\n"
    return save_checkpoint(out, model, get_tokenizer(names[-1]), card, torch.float32)


def _check_shares(names: Sequence[str], shares: Sequence[float]) -> None:
    if len(names) < 2 or len(names) != len(shares) or min(shares) < 0 or abs(sum(shares) - 1.0) > 1e-6:
        raise ClaraError(
            f"{len(names)} checkpoints with shares {list(shares)}: expected two or more, shares ≥ 0, sum 1."
        )


def _mean(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    return torch.stack([t.double() * s for t, s in zip(tensors, shares)]).sum(0).to(tensors[0].dtype)
