"""What a frozen text tower gives for a text never changes, and training says the same texts over and over."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clara.errors import ClaraError
from clara.parsing import NPZ_ERRORS
from clara.saving import whole_file
from clara.towers.base import TextTower

GROUPS = 4  # of like length: in one, most of the work would be padding


class TextMemo:
    """ids_UL, mask_UL -> t_UW of a frozen tower, each text computed once. Holds at most `limit` texts; with a `folder`
    they are kept there for later runs, under the digest of the tower's weights."""

    def __init__(self, tower: TextTower, folder: Path | None = None, limit: int = 500_000) -> None:
        self.tower, self.limit = tower, limit
        self.known: dict[bytes, Tensor] = {}
        self.path: Path | None = None
        if folder is not None:
            digest = hashlib.sha256(str(tower.width).encode())
            for name, tensor in sorted(tower.state_dict().items()):
                digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
            self.path = folder / f"texts-{digest.hexdigest()[:16]}.npz"
            self.known = self._stored()

    @torch.no_grad()
    def __call__(self, ids_UL: Tensor, mask_UL: Tensor) -> Tensor:
        keys = [ids[mask].cpu().numpy().astype(np.int32).tobytes() for ids, mask in zip(ids_UL, mask_UL)]
        if len(self.known) + len(keys) > self.limit:
            self.known.clear()
        new = {key: row for row, key in enumerate(keys) if key not in self.known}
        if new:
            rows = torch.tensor(list(new.values()), device=ids_UL.device)
            for group in rows[mask_UL[rows].sum(1).argsort()].chunk(GROUPS):
                longest = int(mask_UL[group].sum(1).max())
                t_UW = self.tower(ids_UL[group, :longest], mask_UL[group, :longest])
                for row, vector in zip(group.tolist(), t_UW.half().cpu()):
                    self.known[keys[row]] = vector
        found = np.stack([self.known[key].numpy() for key in keys])  # torch.stack under autocast refuses float16
        return torch.from_numpy(found).float().to(ids_UL.device)

    def save(self) -> None:
        """Write the known texts to the folder, beside those that another run wrote meanwhile."""
        if self.path is None or not self.known:
            return
        known = {**self._stored(), **self.known}
        keys = list(known)[-self.limit :]
        lengths = np.array([len(key) for key in keys])
        with whole_file(self.path) as part, part.open("wb") as file:
            np.savez(
                file,
                keys=np.frombuffer(b"".join(keys), np.uint8),
                lengths=lengths,
                vectors=torch.stack([known[key] for key in keys]).numpy(),
            )

    def _stored(self) -> dict[bytes, Tensor]:
        if self.path is None or not self.path.is_file():
            return {}
        try:
            with np.load(self.path) as file:
                data, ends, vectors_NW = file["keys"].tobytes(), np.cumsum(file["lengths"]), file["vectors"]
            if (
                len(ends) != len(vectors_NW)
                or (len(ends) and ends[-1] != len(data))
                or not np.isfinite(vectors_NW).all()
            ):
                raise ValueError("its parts do not agree")
        except NPZ_ERRORS as e:
            raise ClaraError(f"{self.path} is damaged ({e}): delete it, and its texts are computed again.") from e
        vectors = torch.from_numpy(vectors_NW)
        return {data[end - n : end]: vector for end, n, vector in zip(ends, np.diff(ends, prepend=0), vectors)}
