"""What a search asks for: a text, a clip, both with weights, and what the hits should not be like."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from clara.apps.predictions import to_pandas
from clara.audio.sources import expand
from clara.errors import ClaraError
from clara.report import notebook
from clara.zoo.background import background_of
from clara.zoo.embedder import Embedder

if TYPE_CHECKING:
    import pandas

UNLIKE_SHARE = 0.5  # of the mean of what hits should not be like, taken from the query


@dataclass(frozen=True)
class Hit:
    """One clip found: its path as it was indexed, its cosine to the query, and of its windows the one that has it:
    start and end in seconds, None where the index does not tell. `about` holds what else the index knows of the clip
    (of a `LanceIndex`: date, language, duration and the user's columns)."""

    path: str
    score: float
    start: float | None = None
    end: float | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


HIT_COLUMNS = ("path", "score", "start", "end")


class Hits(list[Hit]):
    """Hits, best first, that notebooks show with players of the moment found. `floor`: the score below which a clip
    does not fit; None where that is not known (`Searchable.query`)."""

    floor: float | None = None

    def fits(self, hit: Hit) -> bool | None:
        """Whether a hit's score is at the floor or above; None without a floor."""
        return None if self.floor is None else hit.score >= self.floor

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each, with the columns path, score, start and end in seconds. MissingDependency without pandas."""
        return to_pandas(HIT_COLUMNS, [_cells(h) for h in self])

    def _repr_html_(self) -> str:
        heard = [notebook.player(h.path, h.start, h.end) for h in self[: notebook.MOST_PLAYERS]]
        return notebook.table(HIT_COLUMNS, [_cells(h) for h in self], heard)


def _cells(hit: Hit) -> tuple[Any, ...]:
    return (hit.path, hit.score, hit.start, hit.end)


class Searchable(ABC):
    """An index of embeddings of one checkpoint, searched by texts and clips."""

    model: str
    sha256: str

    @abstractmethod
    def nearest(self, query_QD: Tensor, top: int = 5) -> list[Hits]:
        """The `top` clips of each query embedding (Q, D), each by its best window, best first. ClaraError for other
        shapes, or `top` below 1."""

    def query(
        self,
        zoo: Embedder,
        *,
        text: str | None = None,
        audio: Any = None,
        unlike: Any = (),
        weight: float = 0.5,
        top: int = 5,
    ) -> Hits:
        """The `top` clips nearest to a text (in any of the model's languages), to another clip, or to both.

        Args:
            zoo: the checkpoint that the index was built with.
            text: what to look for.
            audio: one clip: path, encoded bytes or (array, rate).
            unlike: what hits should not be like: texts (str) and clips (Path, bytes or (array, rate)), one or a list.
            weight: the text's share where text and audio are given, 0 to 1; the clip has the rest.
            top: how many clips.

        Returns:
            Hits, best first. With more than one part `score` is the cosine to the combined query. A text alone has a
            `floor`, if the checkpoint has a background (`floor`).

        Raises:
            ClaraError: neither text nor audio, more than one clip, a weight outside 0 to 1, `top` below 1, or an index
                of another checkpoint.
        """
        self.check(zoo)
        query_1D = query_vector(zoo, text, audio, unlike, weight)
        hits = self.nearest(query_1D, top)[0]
        if audio is None and isinstance(unlike, list | tuple) and not unlike:
            hits.floor = _floor(zoo, query_1D[0])
        return hits

    def where(self, condition: str) -> Searchable:
        """This index limited to rows that fulfil a condition. ClaraError for an index without columns."""
        raise ClaraError(
            f"where={condition!r}: only an index with columns, a LanceIndex (NAME.lance), can be filtered."
        )

    def floor(self, zoo: Embedder, text: str) -> float | None:
        """The score below which a clip does not fit a text, by the background of the checkpoint; None where that has
        none. One in twenty unrelated texts finds a clip above it. ClaraError for an index of another checkpoint."""
        self.check(zoo)
        return _floor(zoo, zoo.embed_text([text])[0])

    def check(self, zoo: Embedder) -> None:
        """ClaraError unless the index is of this checkpoint."""
        if embedder(zoo).sha256 != self.sha256:
            raise ClaraError(
                f"This index was built with {self.model} (weights {self.sha256[:12]}), the query comes from {zoo.name} "
                f"({zoo.sha256[:12]}): build it again, or load that model."
            )


def _floor(zoo: Embedder, text_D: Tensor) -> float | None:
    background = background_of(zoo.name, zoo.sha256)
    return None if background is None else background.floor(text_D)


def query_vector(
    zoo: Embedder, text: str | None = None, audio: Any = None, unlike: Any = (), weight: float = 0.5
) -> Tensor:
    """The query (1, D), of unit length, of the parts that `Searchable.query` describes. ClaraError as there."""
    if text is None and audio is None:
        raise ClaraError("Give text=… or audio=…, or both.")
    if not 0 <= weight <= 1:
        raise ClaraError(f"weight={weight!r}: expected the text's share, 0 to 1.")
    clips = [] if audio is None else expand(audio)
    if len(clips) > 1:
        raise ClaraError(f"Got {len(clips)} clips to search by: expected one.")
    parts = []
    if text is not None:
        parts.append(zoo.embed_text([text]) * (weight if clips else 1))
    if clips:
        parts.append(zoo.embed_audio(clips) * (1 if text is None else 1 - weight))
    query_1D = torch.stack(parts).sum(0)
    others = list(unlike) if isinstance(unlike, list | tuple) and not _is_wave(unlike) else [unlike]
    if others:
        query_1D = normalize(query_1D, dim=-1) - UNLIKE_SHARE * torch.cat([_embedded(zoo, o) for o in others]).mean(0)
    return normalize(query_1D, dim=-1)


def _is_wave(source: Any) -> bool:
    return isinstance(source, tuple) and len(source) == 2 and hasattr(source[0], "shape")


def _embedded(zoo: Embedder, source: Any) -> Tensor:
    return zoo.embed_text([source]) if isinstance(source, str) else zoo.embed_audio([source])


def embedder(zoo: Embedder) -> Embedder:
    """`zoo` itself. ClaraError for anything else, such as the name of a checkpoint."""
    if not isinstance(zoo, Embedder):
        raise ClaraError(f"Got {zoo!r:.60} to embed with: expected what clara.load(name) gives.")
    return zoo
