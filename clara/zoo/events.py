"""When a recording sounds like a text: scores over time, and the events that they make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from clara.audio import waveform
from clara.audio.features import pad_waves
from clara.audio.windows import Windows
from clara.errors import ClaraError
from clara.text.prompts import fill, task_labels, term

if TYPE_CHECKING:
    from clara.zoo.embedder import Embedder

FIND_WINDOW, FIND_HOP = 2.0, 0.5  # seconds
QUIET = ("silence", "background noise", "the hum of a quiet room")
CONSTANT_SECONDS = 30.0  # shorter recordings may be one event from end to end
USUAL = -2.2  # in logits, a score of 0.1: what stands above it for most of a recording is its background
ALIKE = 0.5  # texts of at least this cosine are not alternatives to each other: rain and rain on a roof


@dataclass(frozen=True)
class Event:
    """A stretch of a recording, in seconds, that sounds like `text`; `score` is the highest within it, from 0 to 1."""

    start: float
    end: float
    score: float
    text: str


@dataclass(frozen=True)
class FindConfig:
    """What makes an event."""

    threshold: float = 0.6
    """Score at which an event begins, 0 to 1."""
    low: float | None = None
    """Score down to which it goes on in both directions (hysteresis); null = half the threshold."""
    least_seconds: float = 0.2
    """Shorter events are dropped."""
    gap_seconds: float = 0.5
    """Events that are no farther apart become one."""
    against: tuple[str, ...] | None = None
    """Texts that a moment could sound like instead; null = the sounds of the English language file and silence. Those
    that mean nearly the same as a query do not count against it."""
    constant: bool = False
    """Find also what sounds for most of a recording. By default half a minute or more of rain has no events but what is
    more like rain than its usual: scores of a text that exceed 0.1 most of the time are lowered until they do not."""
    frames: bool = False
    """Pool the audio tower's frames over each window, as `Embedder.embed_windows(frames=True)` does."""

    def __post_init__(self) -> None:
        if not 0 < self.low_ <= self.threshold <= 1:
            raise ClaraError(f"threshold={self.threshold}, low={self.low_}: expected 0 < low ≤ threshold ≤ 1.")
        if self.least_seconds < 0 or self.gap_seconds < 0:
            raise ClaraError(
                f"least_seconds={self.least_seconds}, gap_seconds={self.gap_seconds}: expected seconds of at least 0."
            )

    @property
    def low_(self) -> float:
        """`low`, or its default."""
        return self.threshold / 2 if self.low is None else self.low


@dataclass(frozen=True, eq=False)
class Timeline:
    """Scores over time. `edges_N1` are the bounds of the N cells in seconds, `scores_QN` the score of each text in each
    cell, from 0 to 1: its share against the other texts, averaged over the windows that cover the cell."""

    texts: tuple[str, ...]
    edges_N1: np.ndarray = field(repr=False)
    scores_QN: np.ndarray = field(repr=False)
    config: FindConfig = field(default_factory=FindConfig)

    def events(self) -> list[Event]:
        """The events of all texts, by start."""
        found = [e for text, row in zip(self.texts, self.scores_QN) for e in self._of_one(text, row)]
        return sorted(found, key=lambda e: (e.start, e.end, e.text))

    def _of_one(self, text: str, score_N: np.ndarray) -> Iterator[Event]:
        config, spans = self.config, list[tuple[int, int]]()
        for first, end in _runs(score_N >= config.low_):
            if score_N[first:end].max() >= config.threshold:
                near = spans and self.edges_N1[first] - self.edges_N1[spans[-1][1]] <= config.gap_seconds + 1e-6
                spans = [*spans[:-1], (spans[-1][0], end)] if near else [*spans, (first, end)]
        for first, end in spans:
            start, stop = float(self.edges_N1[first]), float(self.edges_N1[end])
            if stop - start >= config.least_seconds:
                yield Event(round(start, 3), round(stop, 3), float(score_N[first:end].max()), text)


def listen(
    zoo: Embedder, source: Any, texts: str | Sequence[str], cut: Windows, batch_size: int, config: FindConfig
) -> Timeline:
    """The timeline of each text in one recording, which is read in bounded memory (`Embedder.timeline`)."""
    texts = (texts,) if isinstance(texts, str) else tuple(texts)
    query_QD = zoo.embed_text(texts)
    against_KD = zoo.alternatives if config.against is None else zoo.embed_text(config.against)
    apart_QK = query_QD @ against_KD.T < ALIKE
    times, scores = [], []
    for times_W2, audio_WD in zoo.stream_windows(source, cut, batch_size, config.frames):
        own_WQ = zoo.scale * audio_WD @ query_QD.T
        other_W1K = (zoo.scale * audio_WD @ against_KD.T)[:, None].masked_fill(~apart_QK, -torch.inf)
        times.append(times_W2)
        scores.append(own_WQ - other_W1K.logsumexp(-1))
    all_W2, logits_WQ = torch.cat(times), torch.cat(scores)
    if not config.constant and all_W2.max() >= CONSTANT_SECONDS:
        logits_WQ = logits_WQ - (logits_WQ.median(0).values - USUAL).clamp_min(0)
    return Timeline(texts, *_cells(all_W2.numpy(), logits_WQ.sigmoid().numpy(), cut.hop), config)


def pool_windows(zoo: Embedder, source: Any, cut: Windows, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The windows of one source, pooled from frames that were heard in the longest windows -> times_W2, vectors_WD, in
    parts (`Embedder.stream_windows`)."""
    blocks = list[tuple[np.ndarray, float, list[float]]]()
    for block in _blocks(source, zoo.model.front_end.sample_rate, zoo.model.front_end.window_seconds, cut):
        blocks.append(block)
        if len(blocks) == batch_size:
            yield _pooled(zoo, blocks, cut)
            blocks = []
    if blocks:
        yield _pooled(zoo, blocks, cut)


def _blocks(source: Any, rate: int, longest: float, cut: Windows) -> Iterator[tuple[np.ndarray, float, list[float]]]:
    """(samples, start in seconds, starts of the windows that it holds) of each block of a source. All blocks but that
    of a short source are of the longest windows; the last one reaches back into the one before."""
    per_block = int((longest - cut.seconds) / cut.hop + 1e-6) + 1
    before: np.ndarray | None = None
    count, size = 0, round(longest * rate)
    for start, last, wave in _with_last(waveform.stream(source, rate, window=longest, hop=per_block * cut.hop)):
        begin, end = start, start + len(wave) / rate
        if before is not None and len(wave) < size:
            step = round(per_block * cut.hop * rate)
            lacking = size - len(wave)
            wave, begin = np.concatenate([before[step - lacking : step], wave]), start - lacking / rate
        starts = list[float]()
        while len(starts) < per_block and count * cut.hop + cut.seconds <= end + 1e-4:
            starts.append(count * cut.hop)
            count += 1
        if last and (not count or (count - 1) * cut.hop + cut.seconds < end - 1e-3):
            starts.append(max(0.0, end - cut.seconds))
        before = wave
        if starts:
            yield wave, begin, starts


def _with_last(items: Iterator[tuple[float, np.ndarray]]) -> Iterator[tuple[float, bool, np.ndarray]]:
    held = next(items)
    for item in items:
        yield held[0], False, held[1]
        held = item
    yield held[0], True, held[1]


def _pooled(zoo: Embedder, blocks: Sequence[tuple[np.ndarray, float, list[float]]], cut: Windows) -> Any:
    """The windows of some blocks: times_W2, vectors_WD."""
    rate, times, vectors = zoo.model.front_end.sample_rate, [], []
    with zoo.exact():
        wave_BT, len_B = pad_waves([torch.from_numpy(wave) for wave, _, _ in blocks])
        frames_BNW, mask_BN = zoo.model.encode_frames(wave_BT.to(zoo.device), len_B.to(zoo.device))
        for (wave, begin, starts), frames_NW, real in zip(blocks, frames_BNW, mask_BN.sum(1).tolist()):
            seconds = len(wave) / rate
            count = min(real, max(1, round(cut.seconds * real / seconds)))
            first_P = [min(real - count, max(0, round((start - begin) * real / seconds))) for start in starts]
            rows_PN = torch.tensor(first_P, device=zoo.device)[:, None] + torch.arange(count, device=zoo.device)
            mask_PN = torch.ones_like(rows_PN, dtype=torch.bool)
            vectors.append(zoo.model.pool_frames(frames_NW[rows_PN], mask_PN).cpu())
            times += [(start, min(start + cut.seconds, begin + seconds)) for start in starts]
    return torch.tensor(times, dtype=torch.float32), torch.cat(vectors)


def _cells(times_W2: np.ndarray, scores_WQ: np.ndarray, hop: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores of windows -> bounds of cells of `hop` seconds, and each cell's mean over the windows that cover it."""
    end = float(times_W2[:, 1].max())
    edges_N1 = np.minimum(np.arange(max(1, int(np.ceil(end / hop - 1e-6))) + 1) * hop, end)
    middles_N = (edges_N1[:-1] + edges_N1[1:]) / 2
    first_W, stop_W = (np.searchsorted(middles_N, times_W2[:, i] + (-1e-6, 1e-6)[i]) for i in (0, 1))
    # sums over ranges of cells, by differences: as cheap for many overlapping windows as for few
    change = np.zeros((len(middles_N) + 1, scores_WQ.shape[1] + 1))
    rows_WQ = np.concatenate([scores_WQ, np.ones((len(scores_WQ), 1))], 1)
    np.add.at(change, first_W, rows_WQ)
    np.subtract.at(change, stop_W, rows_WQ)
    sums_NQ = change.cumsum(0)[:-1]
    return edges_N1, np.clip(sums_NQ[:, :-1] / np.maximum(sums_NQ[:, -1:], 1), 0, 1).T


def _runs(inside_N: np.ndarray) -> Iterator[tuple[int, int]]:
    """(first, end) of each run of True."""
    change = np.flatnonzero(np.diff(np.concatenate([[False], inside_N, [False]]).astype(np.int8)))
    return zip(change[::2].tolist(), change[1::2].tolist())


def alternatives() -> list[str]:
    """What any moment could be instead: the sounds of the English language file, and nothing much."""
    return [fill("{}", term("sound", label)) for label in task_labels("sound")] + list(QUIET)
