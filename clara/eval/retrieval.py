"""Retrieval by the caption protocol of AudioCaps and Clotho: every caption queries all clips, every clip all captions.

Captions are used as they are: not lower-cased, punctuation kept. Ties count against the query (see clara.metrics);
cosines are compared at six decimals, so that equal clips and captions tie whatever the chunk size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from clara import metrics
from clara.data.manifest import Row, split_audio
from clara.errors import ClaraError
from clara.eval.clips import Context, DataSpec, source
from clara.eval.duplicates import TIES, duplicates
from clara.eval.scores import Place
from clara.results import Figure, Outcomes, Result, pack

EXAMPLES, SHOWN = 8, 3  # captions shown with what they find, and how many clips of each


@dataclass(frozen=True)
class RetrievalConfig:
    """Text-to-audio and audio-to-text retrieval."""

    data: DataSpec
    """Clips with their captions; rows that share their audio are one clip."""
    captions: int | None = 5
    """Texts every clip must have; null = any number above 0."""
    chunk: int = 1024
    """Queries compared at a time."""


def retrieval(config: RetrievalConfig, context: Context) -> Result:
    """T2A and A2T figures of clips and their captions, as `caption_figures` gives them, with `notes["clips"]`: the
    clips found, with the sha256 of their files, and those missing that the corpus' tables name."""
    rows, texts = captioned(context.rows(config.data), config.captions)
    found = caption_figures(context, context.audio(rows), texts, config.chunk)
    return replace(found, notes=found.notes | {"clips": manifest(rows, texts, context.missing)})


def manifest(
    rows: Sequence[Row], texts: Sequence[Sequence[str]], missing: Sequence[Row]
) -> list[dict[str, str | int | bool]]:
    """A record per clip: its name, how many captions it has, whether it was found, and the sha256 of its bytes."""
    found = []
    for row, own in zip(rows, texts):
        data = source(row.audio)
        data = data if isinstance(data, bytes) else Path(data).read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        found.append({"clip": _clip(row), "captions": len(own), "found": True, "sha256": digest})
    return found + [{"clip": _clip(row), "captions": len(row.text), "found": False} for row in missing]


def _clip(row: Row) -> str:
    path, member = split_audio(row.audio)
    return member or Path(path).name


def captioned(rows: Sequence[Row], captions: int | None) -> tuple[list[Row], list[list[str]]]:
    """One row a clip and its captions. ClaraError where a clip has another number of captions than expected."""
    first: dict[str, Row] = {}
    texts: dict[str, list[str]] = {}
    for row in rows:
        first.setdefault(row.audio, row)
        texts.setdefault(row.audio, []).extend(row.text)
    wrong = [a for a, t in texts.items() if (not t if captions is None else len(t) != captions)]
    if wrong:
        raise ClaraError(
            f"{len(wrong)} of {len(texts)} clips have not {captions or 'any'} captions; first: {wrong[0]} has "
            f"{len(texts[wrong[0]])}. Set captions to their number, or null for any."
        )
    return list(first.values()), list(texts.values())


def caption_figures(
    context: Context,
    audio_AD: Tensor,
    texts: Sequence[Sequence[str]],
    chunk: int = 1024,
    code: str = "",
    primary: str | None = "R@1",
) -> Result:
    """The caption protocol on embedded clips and their captions, with a 95 % interval of R@1 over clips.

    Figures stand at "t2a" and "a2t", after the caption language `code` where it is given; `primary` is their primary
    metric. Captions that several clips
    share can be right for one of them only: the figures at "equal/…" count each of them as right.
    """
    owner_T = np.repeat(np.arange(len(texts)), [len(t) for t in texts])
    text_TD = context.text(t for own in texts for t in own)
    t2a_T, a2t = ranks(audio_AD, text_TD, owner_T, chunk)
    # the captions of one clip are not independent draws: clips are resampled, with all they have
    hits, count = np.bincount(owner_T, t2a_T <= 1), np.bincount(owner_T)
    best = np.array([r[0] <= 1 for r in a2t], float)
    intervals = {
        "t2a": metrics.bootstrap_interval(lambda h, n: float(h.sum() / n.sum()), hits, count, seed=context.seed),
        "a2t": metrics.bootstrap_interval(lambda h: float(h.mean()), best, seed=context.seed),
    }
    head = f"{code}/" if code else ""
    chance = dict.fromkeys(intervals, 1 / len(texts))
    place = Place(head, primary)
    figures = rank_figures(metrics.retrieval_figures(t2a_T, a2t), chance, intervals, place)
    same = duplicates(audio_AD, text_TD, texts, chunk)
    equal = {way: same.pop(way) for way in ("t2a", "a2t") if way in same}
    place = Place(f"{head}equal/", primary, f"{code} equal captions count as right ".lstrip())
    figures += rank_figures(equal, {}, {}, place)
    outcomes = {
        f"{head}t2a": Outcomes("ranks", pack(t2a_T), captions=pack(count)),
        f"{head}a2t": Outcomes("ranks", pack(r[0] for r in a2t)),
    }
    notes = {"captions": len(owner_T), "ties": TIES, **same}
    shown = tuple(examples(audio_AD, text_TD, texts, t2a_T))
    return Result(len(texts), tuple(figures), outcomes=outcomes, examples=shown, notes=notes)


def rank_figures(
    found: Mapping[str, Mapping[str, float]],
    chance: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
    head: Place,
) -> list[Figure]:
    """Figures of `metrics.retrieval_figures`, those of each way at `head` + way; R@1 has its chance and interval by
    way."""
    out = []
    for way, values in found.items():
        place = Place(head.where + way, head.primary, head.what and head.what + way)
        first = {"interval": intervals.get(way), "chance": chance.get(way)}
        out += [place.figure(name, v, **(first if name == "R@1" else {})) for name, v in values.items()]
    return out


def examples(audio_AD: Tensor, text_TD: Tensor, texts: Sequence[Sequence[str]], t2a_T: np.ndarray) -> list[dict]:
    """A few captions, evenly spaced, with the rank of their clip and the first captions of the clips found first."""
    every = [(clip, text) for clip, own in enumerate(texts) for text in own]
    out = []
    for t in np.unique(np.linspace(0, len(every) - 1, min(EXAMPLES, len(every))).round().astype(int)):
        found = (audio_AD @ text_TD[t]).topk(min(SHOWN, len(audio_AD))).indices.tolist()
        own, text = every[t]
        shown = [{"clip": clip, "caption": texts[clip][0]} for clip in found]
        out.append({"query": text, "clip": own, "rank": int(t2a_T[t]), "found": shown})
    return out


def ranks(
    audio_AD: Tensor, text_TD: Tensor, owner_T: np.ndarray, chunk: int = 1024
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Rank of its clip for each text (T,), and for each clip the sorted ranks of its texts: `metrics.gallery_ranks`
    both ways, so the similarity matrix is never held whole. ClaraError where a clip has no text."""
    ends = np.bincount(owner_T, minlength=len(audio_AD)).cumsum()
    texts_of = np.split(np.argsort(owner_T, kind="stable"), ends[:-1])
    t2a = metrics.gallery_ranks(text_TD, audio_AD, owner_T[:, None], chunk)
    return np.concatenate(t2a), metrics.gallery_ranks(audio_AD, text_TD, texts_of, chunk)
