"""Towers side by side: one vector that is the mean of theirs (deep ensembles, Lakshminarayanan et al. 2017).

Towers that were trained towards the same anchors, on other clips each, agree more on an unseen corpus than either does
with the truth; here also more than one tower with their averaged weights (LOG.md).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from clara.config import Spec, to_dict
from clara.errors import ClaraError
from clara.layers import LinearHead, LinearHeadConfig
from clara.towers.base import AUDIO_TOWERS, AudioTower


@dataclass(frozen=True)
class EnsembleConfig:
    """`members`: towers of one front-end, each with a linear head of its own to `width`, which is the shared width D
    (the model's `audio_head` is `identity`); `shares`: of each in the mean, equal where not given."""

    members: tuple[Spec, ...]
    width: int
    shares: tuple[float, ...] | None = None


@AUDIO_TOWERS.register("ensemble", EnsembleConfig)
class EnsembleTower(AudioTower):
    """x_BNF -> a_BD: the mean of the members' unit vectors. `pool=False` -> the first member's frames."""

    def __init__(self, config: EnsembleConfig) -> None:
        super().__init__()
        count = len(config.members)
        self.shares = config.shares or (1.0 / count,) * count
        if not count or len(self.shares) != count or min(self.shares) < 0 or abs(sum(self.shares) - 1.0) > 1e-6:
            raise ClaraError(
                f"ensemble tower: {count} members with shares {list(self.shares)}: expected a share ≥ 0 of each, sum 1."
            )
        self.members = nn.ModuleList([AUDIO_TOWERS.create(member) for member in config.members])
        self.heads = nn.ModuleList([LinearHead(LinearHeadConfig(), m.width, config.width) for m in self.members])
        self.width = config.width

    def forward(self, x_BNF: Tensor, mask_BN: Tensor, pool: bool = True) -> Tensor:
        if not pool:
            return self.members[0](x_BNF, mask_BN, pool=False)
        vectors = [
            share * normalize(head(member(x_BNF, mask_BN)).float(), dim=-1)
            for share, head, member in zip(self.shares, self.heads, self.members, strict=True)
        ]
        return torch.stack(vectors).sum(0)

    def frame_mask(self, mask_BN: Tensor) -> Tensor:
        return self.members[0].frame_mask(mask_BN)

    def resolved(self, spec: Spec) -> Spec:
        members = [
            m.resolved(Spec(s["kind"], {k: v for k, v in s.items() if k != "kind"}))
            for m, s in zip(self.members, to_dict(spec.options["members"]), strict=True)
        ]
        return dataclasses.replace(spec, options={**spec.options, "members": to_dict(members)})
