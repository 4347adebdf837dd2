"""A checkpoint that `clara export` wrote, run by onnxruntime. Imports no torch: vectors are numpy's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from clara.audio.sources import describe, expand
from clara.audio.windows import Windows, plan
from clara.config import build
from clara.errors import ClaraError, require
from clara.parsing import read_json
from clara.text.normal import normal

ABOUT, AUDIO, TEXT, VERSION = "onnx.json", "audio.onnx", "text.onnx", 1


@dataclass(frozen=True)
class About:
    """What the graphs do not say: where they come from, how audio is cut (Hz, seconds, samples), how the tokenizer is
    read. `scale` is the inverse temperature that turns cosines into logits."""

    version: int
    name: str
    sha256: str
    sample_rate: int
    window_seconds: float
    least_samples: int
    embed_dim: int
    scale: float
    tokenizer: dict[str, Any] = field(default_factory=dict)
    int8: bool = False


class OnnxEmbedder:
    """Audio and texts -> unit vectors, float32 arrays of numpy, of one space: `audio_BD @ text_UD.T` are cosines."""

    def __init__(self, folder: Path, about: About, cut: Windows, threads: int) -> None:
        runtime = require("onnxruntime", "onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.folder, self.about, self.cut = folder, about, cut
        self.name, self.sha256, self.scale = about.name, about.sha256, about.scale
        try:
            self._audio, self._text = (
                runtime.InferenceSession(str(folder / graph), options, providers=["CPUExecutionProvider"])
                for graph in (AUDIO, TEXT)
            )
        except Exception as e:  # onnxruntime raises classes of its own, which share no other base
            raise ClaraError(f"{folder} cannot be run ({str(e).splitlines()[0]}): export the checkpoint again.") from e
        self._encode = _tokenizer(folder, about.tokenizer)

    @classmethod
    def open(
        cls, folder: str | Path, window: float | None = None, hop: float | None = None, threads: int = 0
    ) -> OnnxEmbedder:
        """Read a folder that `clara export` wrote. `window` and `hop` (seconds) say how audio is cut, as of
        `clara.load`; `threads` for each run, 0 for as many as there are cores.

        Raises:
            ClaraError: no such folder, one that is damaged or of another version, or windows it cannot have.
        """
        folder = Path(folder)
        if not (folder / ABOUT).is_file():
            raise ClaraError(f"No ONNX export at {folder}: expected a folder written by `clara export NAME --to onnx`.")
        about = build(About, read_json(folder / ABOUT, "an object"), str(folder / ABOUT))
        if about.version != VERSION:
            raise ClaraError(f"{folder} has version {about.version}, this CLARA reads {VERSION}: export it again.")
        return cls(folder, about, plan(window, hop, about.window_seconds), threads)

    def __repr__(self) -> str:
        kind = "int8" if self.about.int8 else "float32"
        return f"OnnxEmbedder({self.name}: {kind}, {self.about.embed_dim} dimensions, {self.about.sample_rate} Hz)"

    def embed_audio(self, sources: Any, batch_size: int = 16) -> np.ndarray:
        """Embed audio -> (B, D), one row per source, in order, as `Embedder.embed_audio` does: longer audio window by
        window, averaged by the seconds each adds. ClaraError as there."""
        items = expand(sources)
        sums_BD = np.zeros((len(items), self.about.embed_dim), np.float32)
        for row, item in enumerate(items):
            for seconds, _, vectors_WD in self._stream(item, batch_size):
                sums_BD[row] += seconds @ vectors_WD
        lengths = np.linalg.norm(sums_BD, axis=1, keepdims=True)
        if not np.isfinite(sums_BD).all() or not lengths.all():
            row = int((~np.isfinite(sums_BD).all(1) | (lengths[:, 0] == 0)).nonzero()[0][0])
            raise ClaraError(f"{describe(items[row])} gives an embedding that is not finite: leave it out.")
        return sums_BD / lengths

    def embed_windows(self, source: Any, batch_size: int = 16) -> tuple[np.ndarray, np.ndarray]:
        """Embed one source window by window -> times_W2 (start and end in seconds), embeddings_WD. ClaraError as
        `Embedder.embed_windows`."""
        items = expand(source)
        if len(items) != 1:
            raise ClaraError(f"Got {len(items)} sources: embed_windows takes one.")
        parts = list(self._stream(items[0], batch_size))
        return np.concatenate([times for _, times, _ in parts]), np.concatenate([vectors for _, _, vectors in parts])

    def _stream(self, source: Any, batch_size: int) -> Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Seconds that each window adds, its start and end, and its vector, a batch at a time."""
        rate, held = self.about.sample_rate, list[tuple[float, float, np.ndarray]]()
        for window in self.cut.read(source, rate):
            held.append(window)
            if len(held) == batch_size:
                yield self._batch(held)
                held = []
        if held:
            yield self._batch(held)

    def _batch(self, held: Sequence[tuple[float, float, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rate = self.about.sample_rate
        len_B = np.array([len(wave) for _, _, wave in held], np.int64)
        wave_BT = np.zeros((len(held), max(self.about.least_samples, int(len_B.max()))), np.float32)
        for row, (_, _, wave) in enumerate(held):
            wave_BT[row, : len(wave)] = wave
        times = np.array([(start, start + len(wave) / rate) for start, _, wave in held], np.float32)
        return np.array([new for _, new, _ in held], np.float32), times, self.run_audio(wave_BT, len_B)

    def embed_text(self, texts: str | Iterable[str], batch_size: int = 64) -> np.ndarray:
        """Embed texts in any of the model's languages -> (B, D), a row per text, in order. ClaraError for no texts, or
        one that is empty or something other than text."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts:
            raise ClaraError("Got no texts: expected at least one.")
        rows = [self._ids(text) for text in texts]
        parts = []
        for begin in range(0, len(rows), batch_size):
            chunk = rows[begin : begin + batch_size]
            length_B = np.array([len(ids) for ids in chunk])
            ids_BL = np.full((len(chunk), length_B.max()), self.about.tokenizer["pad_id"], np.int64)
            for row, ids in enumerate(chunk):
                ids_BL[row, : len(ids)] = ids
            parts.append(self.run_text(ids_BL, np.arange(length_B.max())[None] < length_B[:, None]))
        return np.concatenate(parts)

    def _ids(self, text: Any) -> list[int]:
        """As `clara.text.tokenizer.Tokenizer.token_ids`, which needs torch."""
        if not isinstance(text, str) or not (plain := normal(text)):
            raise ClaraError(f"Got {text!r:.60}: expected a text that is not empty.")
        longest = self.about.tokenizer["context_length"]
        ids = self._encode(plain[: 32 * longest])
        return ids if len(ids) <= longest else [*ids[: longest - 1], ids[-1]]

    def run_audio(self, wave_BT: np.ndarray, len_B: np.ndarray) -> np.ndarray:
        """The audio graph: waves (B, T) of `len_B` samples -> (B, D)."""
        return self._audio.run(None, {"wave": wave_BT, "length": len_B})[0]

    def run_text(self, ids_BL: np.ndarray, mask_BL: np.ndarray) -> np.ndarray:
        """The text graph: token ids and mask (B, L) -> (B, D)."""
        return self._text.run(None, {"ids": ids_BL, "mask": mask_BL})[0]


def _tokenizer(folder: Path, how: dict[str, Any]) -> Any:
    """A function from a text to its ids, special tokens with them."""
    try:
        if how["kind"] == "sentencepiece":
            import sentencepiece

            processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
            return lambda text: processor.encode(" ".join(text.split()), add_bos=True, add_eos=True)
        backend = require("tokenizers", "onnx").Tokenizer.from_file(str(folder / "tokenizer.json"))
    except ClaraError:
        raise
    except Exception as e:  # tokenizers raises nothing narrower
        raise ClaraError(f"The tokenizer in {folder} cannot be read ({e}): export the checkpoint again.") from e
    blanks = str.maketrans(how["blanks"], " " * len(how["blanks"]))
    return lambda text: backend.encode(how["prefix"] + text.translate(blanks) + how["suffix"]).ids
