"""Search in one's own audio: an index of embeddings, queried by a text or by another clip."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from clara.audio import waveform
from clara.errors import ClaraError
from clara.zoo.embedder import Embedder, expand

CHUNK = 65536  # embeddings compared at once: bounded memory for an index of any size


@dataclass(frozen=True)
class Hit:
    """One clip found: its path as it was indexed, and its cosine to the query."""

    path: str
    score: float


@dataclass(frozen=True)
class Index:
    """Embeddings (N, D) of unit length, what each is of, and the checkpoint they come from."""

    audio_ND: Tensor
    paths: list[str]
    model: str
    sha256: str

    @classmethod
    def build(cls, zoo: Embedder, sources: Any, batch_size: int = 16, progress: bool = False) -> Index:
        """Embed files and folders. ClaraError for no audio, or a file that cannot be read (named)."""
        items = expand(sources)
        paths = [waveform.describe(item) for item in items]
        return cls(zoo.embed_audio(items, batch_size, progress), paths, zoo.name, zoo.sha256)

    def save(self, path: str | Path) -> Path:
        """Write PATH.safetensors (embeddings) and PATH.json (paths, model, hash). Returns the first."""
        tensors, meta = _files(path)
        tensors.parent.mkdir(parents=True, exist_ok=True)
        try:
            save_file({"audio": self.audio_ND.contiguous()}, tensors)
        except SafetensorError as e:
            raise ClaraError(f"The index cannot be written to {tensors} ({e}).") from e
        about = {"model": self.model, "sha256": self.sha256, "paths": self.paths}
        meta.write_text(json.dumps(about, indent=0), encoding="utf-8")  # in ASCII: a path may hold what UTF-8 lacks
        return tensors

    @classmethod
    def load(cls, path: str | Path) -> Index:
        """Read what `save` wrote. ClaraError when a file is missing, damaged, or the two do not belong together."""
        tensors, meta = _files(path)
        for file in (tensors, meta):
            if not file.is_file():
                raise ClaraError(f"No index at {path}: {file} is missing.")
        try:
            data, audio_ND = json.loads(meta.read_text(encoding="utf-8")), load_file(tensors)["audio"]
            index = cls(audio_ND, list(data["paths"]), data["model"], data["sha256"])
        except (SafetensorError, KeyError, TypeError, ValueError) as e:
            raise ClaraError(f"The index at {path} is damaged ({e}): build it again.") from e
        if len(index.paths) != len(index.audio_ND):
            counts = f"{len(index.paths)} paths and {len(index.audio_ND)} embeddings"
            raise ClaraError(f"The index at {path} holds {counts}: build it again.")
        return index

    def query(self, zoo: Embedder, *, text: str | None = None, audio: Any = None, top: int = 5) -> list[Hit]:
        """The `top` clips nearest to a text (in any of the model's languages) or to another clip, best first.

        Raises:
            ClaraError: both or neither of text and audio, `top` below 1, or an index of another checkpoint.
        """
        if (text is None) == (audio is None):
            raise ClaraError("Give text=… or audio=…, one of them.")
        if zoo.sha256 != self.sha256:
            raise ClaraError(
                f"This index was built with {self.model} (weights {self.sha256[:12]}), the query comes from {zoo.name} "
                f"({zoo.sha256[:12]}): build it again, or load that model."
            )
        query_1D = zoo.embed_text([text]) if text is not None else zoo.embed_audio([audio])
        return self.nearest(query_1D, top)[0]

    def nearest(self, query_QD: Tensor, top: int = 5) -> list[list[Hit]]:
        """The `top` clips of each query embedding, best first."""
        if top < 1:
            raise ClaraError(f"top={top}: expected at least 1.")
        scores, rows = top_k(query_QD, self.audio_ND, top)
        return [[Hit(self.paths[i], s) for s, i in zip(s_k, i_k)] for s_k, i_k in zip(scores.tolist(), rows.tolist())]


def top_k(query_QD: Tensor, audio_ND: Tensor, k: int, chunk: int = CHUNK) -> tuple[Tensor, Tensor]:
    """Cosines and rows, both (Q, min(k, N)), of the nearest of `audio_ND`, best first, `chunk` rows at a time."""
    best = torch.empty(len(query_QD), 0)
    rows = torch.empty(len(query_QD), 0, dtype=torch.long)
    for start in range(0, len(audio_ND), chunk):
        sims = query_QD @ audio_ND[start : start + chunk].T
        here, at = sims.topk(min(k, sims.shape[1]), dim=1)
        best, rows = torch.cat([best, here], 1), torch.cat([rows, at + start], 1)
        best, order = best.topk(min(k, best.shape[1]), dim=1)
        rows = rows.gather(1, order)
    return best, rows


def _files(path: str | Path) -> tuple[Path, Path]:
    path = Path(path)
    if path.suffix in (".safetensors", ".json"):
        path = path.with_suffix("")
    return Path(f"{path}.safetensors"), Path(f"{path}.json")
