"""What a frozen text tower gives for a text never changes, and training says the same texts over and over."""

from __future__ import annotations

import torch
from torch import Tensor

from clara.towers.base import TextTower

GROUPS = 4  # of like length: in one, most of the work would be padding


class TextMemo:
    """ids_UL, mask_UL -> t_UW of a frozen tower, each text computed once. Holds at most `limit` texts."""

    def __init__(self, tower: TextTower, limit: int = 500_000) -> None:
        self.tower, self.limit = tower, limit
        self.known: dict[bytes, Tensor] = {}

    @torch.no_grad()
    def __call__(self, ids_UL: Tensor, mask_UL: Tensor) -> Tensor:
        keys = [ids[mask].cpu().numpy().tobytes() for ids, mask in zip(ids_UL, mask_UL)]
        if len(self.known) + len(keys) > self.limit:
            self.known.clear()
        new = {key: row for row, key in enumerate(keys) if key not in self.known}
        if new:
            rows = torch.tensor(list(new.values()), device=ids_UL.device)
            for group in rows[mask_UL[rows].sum(1).argsort()].chunk(GROUPS):
                longest = int(mask_UL[group].sum(1).max())
                t_UW = self.tower(ids_UL[group, :longest], mask_UL[group, :longest])
                for row, vector in zip(group.tolist(), t_UW.float().cpu()):
                    self.known[keys[row]] = vector
        return torch.stack([self.known[key] for key in keys]).to(ids_UL.device)
