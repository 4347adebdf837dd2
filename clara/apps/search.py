"""Search in one's own audio: an index of embeddings, queried by a text or by another clip."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm.auto import tqdm

from clara.apps.query import Hit, Hits, Searchable, embedder
from clara.audio.sources import describe, expand
from clara.errors import ClaraError, MissingDependency
from clara.parsing import parse_json
from clara.saving import safetensors_file, whole_file
from clara.zoo.embedder import Embedder, check_finite

if TYPE_CHECKING:
    pass

CHUNK = 65536  # embeddings compared at once: bounded memory for an index of any size
T = TypeVar("T")
UNIT_TOLERANCE = 1e-3  # of a vector's length
TOGETHER = 128  # clips embedded at once where broken ones are left out: one of them costs its neighbours a second pass


@dataclass(frozen=True, eq=False)  # tensors have no one truth to compare by
class Index(Searchable):
    """Unit-length embeddings (N, D), one per window; the clip that each is of, the checkpoint they come from, and the
    start and end of each window in seconds (N, 2), NaN where unknown. The windows of a clip stand one after another."""

    audio_ND: Tensor = field(repr=False)
    paths: list[str] = field(repr=False)
    model: str
    sha256: str
    times_N2: Tensor = field(default=None, repr=False)  # type: ignore[assignment]  # a tensor once made

    def __post_init__(self) -> None:
        if self.times_N2 is None:
            object.__setattr__(self, "times_N2", torch.full((len(self.paths), 2), torch.nan))

    @classmethod
    def build(
        cls,
        zoo: Embedder,
        sources: Any,
        batch_size: int = 16,
        progress: bool = False,
        broken: Callable[[str], None] | None = None,
    ) -> Index:
        """Embed files and folders window by window, cut as the embedder was made to: `clara.load(window=2.0, hop=1.0)`
        tells moments of two seconds apart, by default a window is as long as the model takes. With `broken` clips that
        cannot be read are left out, and it is told why.

        Raises:
            ClaraError: no audio, or without `broken` a file that cannot be read.
        """
        items, times_N2, audio_ND = embed_windows_of(zoo, sources, batch_size, progress, broken)
        return cls(audio_ND, [describe(item) for item in items], zoo.name, zoo.sha256, times_N2)

    def __len__(self) -> int:
        """How many windows there are; `len(set(index.paths))` counts files."""
        return len(self.paths)

    def add(self, other: Index) -> Index:
        """Both in one; what this one holds of the other's paths gives way to it. ClaraError for two checkpoints."""
        if other.sha256 != self.sha256:
            raise ClaraError(
                f"Indexes of two checkpoints, {self.model} and {other.model}: build both with one of them."
            )
        newer = {path for path in other.paths if not path.startswith("<")}  # arrays and bytes have no path of their own
        kept = [i for i, path in enumerate(self.paths) if path not in newer]
        paths = [self.paths[i] for i in kept] + other.paths
        times_N2 = torch.cat([self.times_N2[kept], other.times_N2])
        return Index(torch.cat([self.audio_ND[kept], other.audio_ND]), paths, self.model, self.sha256, times_N2)

    def save(self, path: str | Path) -> Path:
        """Write PATH.safetensors, whole or not at all: embeddings, and as JSON paths, model and hash. Returns it."""
        file = safetensors_file(path)
        about = {"model": self.model, "sha256": self.sha256, "paths": self.paths}
        text = json.dumps(about).encode("ascii")  # a path may hold what UTF-8 lacks
        tensors = {
            "audio": self.audio_ND.contiguous(),
            "times": self.times_N2.contiguous(),
            "about": torch.frombuffer(bytearray(text), dtype=torch.uint8),
        }
        try:
            with whole_file(file) as part:
                save_file(tensors, part)
        except SafetensorError as e:
            raise ClaraError(f"The index cannot be written to {file} ({e}).") from e
        return file

    @classmethod
    def load(cls, path: str | Path) -> Index:
        """Read what `save` wrote. ClaraError when the file is missing or damaged."""
        file = safetensors_file(path)
        if not file.is_file():
            raise ClaraError(f"No index at {path}: {file} is missing.")
        try:
            tensors = load_file(file)
            audio_ND = tensors["audio"]
            if "about" not in tensors:
                raise ClaraError(f"The index at {path} is of two files, which may not belong together: build it again.")
            data = parse_json(tensors["about"].numpy().tobytes())
            index = cls(audio_ND, list(data["paths"]), data["model"], data["sha256"])
            if "times" in tensors:
                index = replace(index, times_N2=tensors["times"])
        except ClaraError:
            raise
        except (SafetensorError, KeyError, TypeError, ValueError) as e:
            raise ClaraError(f"The index at {path} is damaged ({e}): build it again.") from e
        if len(index.paths) != len(index.audio_ND) or index.times_N2.shape != (len(index.paths), 2):
            counts = f"{len(index.paths)} paths and {len(index.audio_ND)} embeddings"
            raise ClaraError(f"The index at {path} holds {counts}: build it again.")
        if audio_ND.ndim != 2 or audio_ND.dtype != torch.float32 or not all(isinstance(p, str) for p in index.paths):
            raise ClaraError(f"The index at {path} is damaged (no matrix of float32, or no paths): build it again.")
        if not ((audio_ND.norm(dim=1) - 1).abs() < UNIT_TOLERANCE).all():  # false for NaN too
            raise ClaraError(f"The index at {path} is damaged (not all its vectors are of length 1): build it again.")
        return index

    def nearest(self, query_QD: Tensor, top: int = 5) -> list[Hits]:
        """The `top` clips of each query embedding (Q, D), each by its best window, best first. ClaraError for other
        shapes, or `top` below 1."""
        checked_top(top)
        query_QD = vectors(query_QD, self.audio_ND.shape[1])
        return [self._best_of_each(query_1D, top) for query_1D in query_QD.split(1)]

    def _best_of_each(self, query_1D: Tensor, top: int) -> Hits:
        """Windows are taken best first, more of them until they are of enough clips."""
        wanted, k, best = min(top, self._clips[-1] + 1 if self.paths else 0), top, dict[int, Hit]()
        while len(best) < wanted:
            scores, rows = top_k(query_1D, self.audio_ND, k)
            for score, row in zip(scores[0].tolist(), rows[0].tolist()):
                start, end = (None if math.isnan(t) else round(t, 3) for t in self.times_N2[row].tolist())
                best.setdefault(self._clips[row], Hit(self.paths[row], score, start, end))
            k *= 4
        return Hits(list(best.values())[:top])

    @cached_property
    def _clips(self) -> list[int]:
        """Which clip each window is of, counted from 0: a later window of the same path is of the same clip."""
        clips, of, since = list[int](), "", math.inf
        for path, start in zip(self.paths, self.times_N2[:, 0].tolist()):
            same = path == of and start > since
            clips.append(clips[-1] + (not same) if clips else 0)
            of, since = path, start
        return clips


class NothingReadable(ClaraError):
    """None of the clips can be read; each was reported."""


def embed_sources(
    zoo: Embedder,
    sources: Any,
    batch_size: int = 16,
    progress: bool = False,
    broken: Callable[[str], None] | None = None,
) -> tuple[list[Any], Tensor]:
    """Files and folders -> (items, audio_ND). With `broken` those that cannot be read are left out, and it is told why.

    Raises:
        ClaraError: no audio, or without `broken` a clip that cannot be read (named).
        NothingReadable: with `broken`, none can be read.
    """
    items, parts = _readable(partial(embedder(zoo).embed_audio, batch_size=batch_size), sources, progress, broken)
    return items, torch.cat(parts)


def embed_windows_of(
    zoo: Embedder,
    sources: Any,
    batch_size: int = 16,
    progress: bool = False,
    broken: Callable[[str], None] | None = None,
) -> tuple[list[Any], Tensor, Tensor]:
    """As `embed_sources`, a row per window -> (the item of each, its times_W2 in seconds, audio_WD); the embedder says
    how sources are cut."""
    items, parts = _readable(partial(embedder(zoo).embed_each, batch_size=batch_size), sources, progress, broken)
    begun, owners = 0, list[Any]()
    for rows_W, _, _ in parts:
        owners += [items[begun + row] for row in rows_W.tolist()]
        begun += int(rows_W[-1]) + 1
    return owners, torch.cat([times_W2 for _, times_W2, _ in parts]), torch.cat([audio_WD for _, _, audio_WD in parts])


def _readable(
    embed: Callable[..., T], sources: Any, progress: bool, broken: Callable[[str], None] | None
) -> tuple[list[Any], list[T]]:
    """The items that can be read and what `embed` makes of them, in parts."""
    items = expand(sources)
    if broken is None:
        return items, [embed(items, progress=progress)]
    found: list[Any] = []
    parts: list[T] = []
    for start in tqdm(range(0, len(items), TOGETHER), disable=not progress, unit=f" × {TOGETHER} clips"):
        chunk = items[start : start + TOGETHER]
        try:
            parts.append(embed(chunk))
            found += chunk
            continue
        except ClaraError:  # one of them: each by itself, to tell which
            pass
        for item in chunk:
            try:
                parts.append(embed([item]))
                found.append(item)
            except MissingDependency:
                raise
            except ClaraError as e:
                broken(str(e))
    if not found:
        raise NothingReadable(f"None of {len(items)} clips can be read.")
    return found, parts


def checked_top(top: int) -> int:
    """`top` itself. ClaraError unless it is a whole number of at least 1."""
    if not isinstance(top, int) or top < 1:
        raise ClaraError(f"top={top!r}: expected a whole number of at least 1.")
    return top


def vectors(embedding_BD: Any, width: int) -> Tensor:
    """Embeddings, also numpy's (as `clara embed` writes them), as a tensor (B, D). ClaraError for another shape, or for
    values that are not finite."""
    found_BD = torch.as_tensor(embedding_BD)
    if found_BD.ndim != 2 or found_BD.shape[1] != width:
        raise ClaraError(f"Got embeddings of shape {tuple(found_BD.shape)}: expected (B, {width}), one row per clip.")
    found_BD = found_BD.float()
    check_finite(found_BD, lambda row: f"Row {row} of the embeddings is")
    return found_BD


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
