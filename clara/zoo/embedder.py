"""Embedder: a checkpoint ready for use. Inference is a function: nothing is random, and a clip alone, in a batch and
beside longer clips gives the same embedding to 1e-5."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from tqdm.auto import tqdm

from clara import hub
from clara.audio import waveform
from clara.audio.features import pad_waves
from clara.audio.sources import expand, plain
from clara.audio.windows import Windows, plan
from clara.config import ModelConfig
from clara.errors import ClaraError, unknown
from clara.layers import bf16_pays
from clara.zoo.events import FIND_HOP, FIND_WINDOW, Event, FindConfig, Timeline, alternatives, listen, pool_windows
from clara.zoo.exact import NO_TF32
from clara.zoo.factory import Loaded, save_checkpoint
from clara.zoo.lineage import inherited, with_front
from clara.zoo.reading import read_ahead

PRECISIONS = ("float32", "bfloat16")
READERS = 4
LONG = ("windows", "first", "center", "fusion")
SORTED_BATCHES = 8  # windows are sorted by length within this many batches: bounded memory for audio of any length
HELD_SAMPLES = 2**24  # and no more batches than hold this many samples, 64 MiB

Window = tuple[int, float, float, np.ndarray]  # row, start in seconds, weight, wave


class Embedder:
    """Audio and texts -> unit vectors (float32, on the CPU) of one space: `audio_BD @ text_UD.T` are cosines.
    `readers`: threads that read audio ahead of the model; 0: it is read by the one that computes."""

    def __init__(
        self,
        loaded: Loaded,
        device: str | torch.device | None = None,
        long: str = "windows",
        precision: str = "float32",
        window: float | None = None,
        hop: float | None = None,
    ) -> None:
        self.device = _device(device)
        self.readers = READERS if self.device.type == "cuda" else 0  # on a CPU they take the model's cores
        self.half = _is_half(precision) and bf16_pays(self.device.type)
        self.name, self.sha256, self.tokenizer = loaded.name, loaded.sha256, loaded.tokenizer
        self.model = loaded.model.to(self.device).eval()
        self.long, self.window, self.hop = long, window, hop
        self._cut(None, None, None)
        if self.half:  # once and for all: autocast would convert every matrix at every batch
            for module in self.model.modules():
                if type(module) is nn.Linear:
                    module.to(torch.bfloat16)

    def __repr__(self) -> str:
        audio, text = (f"{sum(p.numel() for p in t.parameters()):,}" for t in (self.model.audio, self.model.text))
        return (
            f"Embedder({self.name}: audio tower {audio} parameters, text tower {text}, {self.config.embed_dim} "
            f"dimensions, {self.model.front_end.sample_rate} Hz, on {self.device})"
        )

    @property
    def config(self) -> ModelConfig:
        """The model's config."""
        return self.model.config

    @property
    def scale(self) -> float:
        """The inverse temperature that turns cosines into logits."""
        return float(self.model.scale.detach())

    def embed_audio(
        self,
        sources: Any,
        batch_size: int = 16,
        progress: bool = False,
        long: str | None = None,
        window: float | None = None,
        hop: float | None = None,
    ) -> Tensor:
        """Embed audio -> (B, D), one row per source, in order. Nothing is drawn at random.

        Audio longer than a window is read window by window (never whole); their embeddings are averaged by the seconds
        each adds and normalised again; or, by `long`, in one of the ways of other projects.

        Args:
            sources: paths, encoded bytes, open binary files, (array, rate) pairs, cells of Hugging Face's datasets
                (`clara.audio.sources.plain`), '-' for standard input, or folders (each stands for all audio below it,
                sorted); one of them, or a list, an array or a Series.
            batch_size: windows per forward pass.
            progress: show a progress bar over sources.
            long: 'windows' (all of them), 'first' or 'center' (that one window), 'fusion' (all at once, by models that
                fuse a shrunk whole with three excerpts); by default what the embedder was made with.
            window: length of a window in seconds, at most and by default the longest that the model hears at once.
            hop: seconds from one window's start to the next; below `window` they overlap; by default the window. Both
                by default what the embedder was made with.

        Raises:
            ClaraError: no sources, one that cannot be read or whose embedding is not finite (named), 'fusion' of a
                model that has none, or a window or hop that the model cannot have.
        """
        items, (long, cut) = expand(sources), self._cut(window, hop, long)
        _check_batch(batch_size)
        sums_BD = torch.zeros(len(items), self.config.embed_dim, dtype=torch.float32)
        read = self._windows if long == "windows" else partial(self._pieces, long=long)
        windows = read(tqdm(items, disable=not progress, unit="clip"), cut)
        for chunk, vectors_WD in self._chunks_of(windows, items, batch_size):
            rows = torch.tensor([row for row, _, _, _ in chunk])
            seconds = torch.tensor([new for _, _, new, _ in chunk], dtype=torch.float32)
            sums_BD.index_add_(0, rows, vectors_WD * seconds[:, None])
        return normalize(sums_BD, dim=-1)

    def embed_windows(
        self,
        source: Any,
        batch_size: int = 16,
        window: float | None = None,
        hop: float | None = None,
        frames: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Embed one source window by window -> times_W2 (start and end in seconds), embeddings_WD (unit length).

        A last piece below one second is covered by a whole window that ends with the audio and overlaps the one before.

        Args:
            source: as those of `embed_audio`, one of them.
            window: as of `embed_audio`.
            hop: as of `embed_audio`.
            frames: run the audio tower over the longest windows it takes and pool its frames over each `window`: the
                cost does not grow with overlap, and what is embedded was heard in its context.

        Raises:
            ClaraError: as `embed_audio`; more than one source; `frames` of a tower that makes its vector of more than
                frames.
        """
        parts = list(self.stream_windows(source, self._cut(window, hop, "windows")[1], batch_size, frames))
        return torch.cat([times for times, _ in parts]), torch.cat([vectors for _, vectors in parts])

    def stream_windows(
        self, source: Any, cut: Windows, batch_size: int = 16, frames: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """What `embed_windows` gives, in parts, so that a recording of any length is embedded in bounded memory."""
        items = expand(source)
        if len(items) != 1:
            raise ClaraError(f"Got {len(items)} sources: embed_windows takes one.")
        _check_batch(batch_size)
        if frames:
            yield from pool_windows(self, items[0], cut, batch_size)
            return
        for chunk, vectors_WD in self._chunks_of(self._windows(items, cut), items, batch_size):
            yield self._times(chunk), vectors_WD

    def embed_each(self, sources: Any, batch_size: int = 16, progress: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Embed the windows of many sources, cut as the embedder was made to -> rows_W (which source), times_W2 (start
        and end in seconds), embeddings_WD (unit length). With another `long` than 'windows' one window per source.

        Raises:
            ClaraError: as `embed_audio`.
        """
        items, (long, cut) = expand(sources), self._cut(None, None, None)
        _check_batch(batch_size)
        read = self._windows if long == "windows" else partial(self._pieces, long=long)
        rows, times, vectors = [], [], []
        windows = read(tqdm(items, disable=not progress, unit="clip"), cut)
        for chunk, vectors_WD in self._chunks_of(windows, items, batch_size):
            rows += [row for row, _, _, _ in chunk]
            times.append(self._times(chunk))
            vectors.append(vectors_WD)
        return torch.tensor(rows), torch.cat(times), torch.cat(vectors)

    def find(
        self,
        source: Any,
        texts: str | Sequence[str],
        window: float | None = None,
        hop: float | None = None,
        batch_size: int = 16,
        config: FindConfig | None = None,
    ) -> list[Event]:
        """When a recording of any length sounds like a text -> events (start, end, score, text), by start.

        Args:
            source: as those of `embed_audio`, one of them.
            texts: what to listen for, in any of the model's languages; one text or several, each by itself.
            window: as of `embed_audio`; by default that of `clara.zoo.events`, 2 s.
            hop: as of `embed_audio`; by default that of `clara.zoo.events`, 0.5 s.
            config: thresholds, shortest event and gap, other texts to compare with, frames.

        Raises:
            ClaraError: as `embed_windows` and `embed_text`; thresholds out of order.
        """
        return self.timeline(source, texts, window, hop, batch_size, config).events()

    def timeline(
        self,
        source: Any,
        texts: str | Sequence[str],
        window: float | None = None,
        hop: float | None = None,
        batch_size: int = 16,
        config: FindConfig | None = None,
    ) -> Timeline:
        """The scores over time that `find` makes events of. Arguments and errors are those of `find`."""
        return listen(self, source, texts, self._finding(window, hop), batch_size, config or FindConfig())

    def embed_text(self, texts: str | Iterable[str], batch_size: int = 64) -> Tensor:
        """Embed texts in any of the model's languages -> (B, D), one row per text, in order; one text, or several.

        Raises:
            ClaraError: no texts, an empty one, or something other than text.
        """
        _check_batch(batch_size)
        if not isinstance(texts, Iterable) or isinstance(texts, bytes):
            raise ClaraError(f"Texts of type {type(texts).__name__}: expected a text or a list of texts.")
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts:
            raise ClaraError("Got no texts: expected at least one.")
        parts = []
        with self.exact():
            for i in range(0, len(texts), batch_size):
                ids_BL, mask_BL = self.tokenizer(texts[i : i + batch_size])
                parts.append(self.model.encode_text(ids_BL.to(self.device), mask_BL.to(self.device)).cpu())
        text_BD = torch.cat(parts)
        check_finite(text_BD, lambda i: f"The text {texts[i]!r:.60} gives")
        return text_BD

    @cached_property
    def alternatives(self) -> Tensor:
        """Embeddings (K, D) of what any moment could be, which `find` compares its texts with."""
        return self.embed_text(alternatives())

    def save_pretrained(self, folder: str | Path, storage: str | None = None) -> Path:
        """Write the checkpoint as a folder for `clara.load("dir:folder")`, with a card that states the licence and the
        training data of where it came from. `storage` as of `clara.save_checkpoint`; by default float16. ClaraError as
        there, and for an embedder in bfloat16."""
        if self.half:
            raise ClaraError(f"{self.name} is in bfloat16, which would be saved: load it with precision='float32'.")
        card = with_front(inherited([self.name]), f"# {Path(folder).name}\n\nA copy of {self.name}, by CLARA.\n")
        return save_checkpoint(folder, self.model, self.tokenizer, card, storage=storage)

    def push_to_hub(self, repo: str, private: bool = True, storage: str | None = None) -> str:
        """Upload what `save_pretrained` writes to `repo` ('org/name') of the Hugging Face hub, made if it does not
        exist -> the name that loads it, 'hf:org/name@commit'. You need to be logged in.

        Raises:
            ClaraError: as `save_pretrained`; no network, or no right to write there.
        """
        with tempfile.TemporaryDirectory() as work:
            folder = self.save_pretrained(Path(work) / repo.rpartition("/")[2], storage)
            return f"hf:{repo}@{hub.upload(folder, repo, private)}"

    def _windows(self, items: Iterable[Any], cut: Windows) -> Iterator[Window]:
        """Every window of every source."""
        rate = self.model.front_end.sample_rate

        def read(row: int, source: Any) -> Iterator[Window]:
            for start, weight, wave in cut.read(source, rate):
                yield row, start, weight, wave

        return read_ahead(items, read, self.readers)

    def _pieces(self, items: Iterable[Any], cut: Windows, long: str) -> Iterator[Window]:
        """As `_windows`, with one piece a source: its first window, its middle one, or the whole."""
        rate, window = self.model.front_end.sample_rate, cut.seconds

        def read(row: int, source: Any) -> Iterator[Window]:
            source = plain(source)
            start = max(0.0, (waveform.info(source).seconds - window) / 2) if long == "center" else 0.0
            wave = waveform.read(source, rate, start=start, seconds=None if long == "fusion" else window)
            yield row, start, 1.0, wave if long == "fusion" else wave[: round(window * rate)]

        return read_ahead(items, read, self.readers)

    @contextmanager
    def exact(self) -> Iterator[None]:
        """No gradients, and no TF32: with it a GPU's result would depend on the batch's size."""
        with (
            NO_TF32,
            torch.inference_mode(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self.half),
        ):
            yield

    def _cut(self, window: float | None, hop: float | None, long: str | None) -> tuple[str, Windows]:
        """How audio is cut: what a call asks for, then what the embedder was made with, then the longest windows."""
        long, longest = self.long if long is None else long, self.model.front_end.window_seconds
        if long not in LONG:
            raise unknown("way with long audio", long, LONG)
        if long == "fusion" and not self.model.front_end.fusion:
            raise ClaraError(f"long='fusion': {self.name} has no fusion; use 'windows', 'first' or 'center'.")
        if window is None:
            window = self.window
            hop = self.hop if hop is None else hop
        if (long == "fusion" and window is not None) or (long != "windows" and hop is not None):
            raise ClaraError(f"long={long!r} takes one piece of a recording: window and hop are of long='windows'.")
        return long, plan(window, hop, longest)

    def _finding(self, window: float | None, hop: float | None) -> Windows:
        """`_cut` with the defaults of `find`."""
        window = self.window if window is None else window
        window = min(FIND_WINDOW, self.model.front_end.window_seconds) if window is None else window
        hop = self.hop if hop is None else hop
        return self._cut(window, min(FIND_HOP, window) if hop is None else hop, "windows")[1]

    def _times(self, chunk: Sequence[Window]) -> Tensor:
        rate = self.model.front_end.sample_rate
        return torch.tensor([(start, start + len(wave) / rate) for _, start, _, wave in chunk], dtype=torch.float32)

    def _chunks_of(
        self, windows: Iterator[Window], items: Sequence[Any], batch_size: int
    ) -> Iterator[tuple[list[Window], Tensor]]:
        """Windows and their vectors (W, D), as many at a time as are held."""
        for chunk in _chunks(windows, batch_size):
            vectors_WD = self._embed([wave for _, _, _, wave in chunk], batch_size)
            check_finite(vectors_WD, partial(_gives, items, chunk))
            yield chunk, vectors_WD

    def _embed(self, waves: list[np.ndarray], batch_size: int) -> Tensor:
        """Waves -> (W, D) in order; batches hold waves of like length, so that little is padding."""
        order = sorted(range(len(waves)), key=lambda i: len(waves[i]))
        out_WD = torch.empty(len(waves), self.config.embed_dim, dtype=torch.float32)
        with self.exact():
            for i in range(0, len(order), batch_size):
                rows = order[i : i + batch_size]
                wave_BT, len_B = pad_waves([torch.from_numpy(waves[r]) for r in rows])
                out_WD[rows] = self.model.encode_audio(wave_BT.to(self.device), len_B.to(self.device)).cpu()
        return out_WD


def check_finite(vectors_BD: Tensor, said: Callable[[int], str]) -> None:
    """ClaraError for the first row that holds NaN or infinity, `said(row)` + "an embedding that is not finite": such a
    row would be nearest to everything, and make a mean of all of them useless."""
    if not vectors_BD.isfinite().all():
        row = int((~vectors_BD.isfinite().all(1)).nonzero()[0])
        raise ClaraError(
            f"{said(row)} an embedding that is not finite: expected samples within [-1, 1], and weights in working "
            "order. Leave it out, or repair it."
        )


def _gives(items: Sequence[Any], chunk: Sequence[Window], row: int) -> str:
    """The subject of an error about the vector of one window."""
    return f"{_heard(items[chunk[row][0]], chunk[row])} gives"


def _heard(source: Any, window: Window) -> str:
    """A source and its window in words, with what may be wrong with it."""
    _, start, _, wave = window
    return f"{waveform.describe(source)} (from {start:.1f} s on, samples up to {np.abs(wave).max(initial=0.0):.3g})"


def _chunks(windows: Iterator[Window], batch_size: int) -> Iterator[list[Window]]:
    """Windows that are held at once: a batch, or more where they are small."""
    chunk: list[Window] = []
    held = 0
    for window in windows:
        chunk.append(window)
        held += len(window[3])
        if len(chunk) >= batch_size and (held >= HELD_SAMPLES or len(chunk) == SORTED_BATCHES * batch_size):
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as e:
        raise ClaraError(f"Device {device!r} cannot be used here ({e}): expected cpu, cuda, cuda:N or mps.") from e
    return found


def _is_half(precision: str) -> bool:
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    return precision == "bfloat16"


def _check_batch(batch_size: int) -> None:
    if not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise ClaraError(f"batch_size={batch_size!r}: expected a whole number of at least 1.")
