"""Checkpoints in sentence-transformers (extra `sentence-transformers`, version 6 or later):

    from clara.integrations.sentence_transformers import as_sentence_transformer, write_modules

    model = as_sentence_transformer("clara-small.base")
    model.encode(["a dog barks", "rain"]), model.encode(["dog.wav", {"array": wave, "sampling_rate": 16000}])

    write_modules("FOLDER")                                          # once, into a checkpoint folder
    SentenceTransformer("FOLDER", trust_remote_code=True)            # from then on, by the folder's name

A path that ends like an audio file is audio; any other string is text. For inference: no gradients are kept.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clara.audio.sources import EXTENSIONS
from clara.errors import ClaraError, require
from clara.zoo.embedder import Embedder
from clara.zoo.factory import load_checkpoint, read_config, save_checkpoint
from clara.zoo.lineage import inherited, with_front
from clara.zoo.loading import load

require("sentence_transformers", "sentence-transformers")
from sentence_transformers import SentenceTransformer  # noqa: E402
from sentence_transformers.base.modules import InputModule  # noqa: E402

MODULES = "modules.json"
MODULE = {"idx": 0, "name": "0", "path": "", "type": f"{__name__}.ClaraModule"}


class ClaraModule(InputModule):
    """The one module of such a model: texts or audio -> `sentence_embedding` (B, D), unit length."""

    save_in_root = True

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.embedder = embedder
        self.model = embedder.model  # a submodule, so that .to() and parameters() reach the weights

    @property
    def modalities(self) -> list[str]:
        """What may be encoded."""
        return ["text", "audio"]

    @property
    def max_seq_length(self) -> None:
        """Texts are cut by the tokenizer itself."""
        return None

    def get_embedding_dimension(self) -> int:
        """D, the numbers of an embedding."""
        return self.embedder.config.embed_dim

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Sort inputs out: all texts or all audio; a prompt goes before each text. ClaraError for a mixture."""
        kinds = {_is_audio(x) for x in inputs}
        if len(kinds) != 1:
            raise ClaraError("Texts and audio in one call: encode them apart.")
        if kinds == {True}:
            return {"audio": [self._source(x) for x in inputs]}
        return {"text": [f"{prompt or ''}{x}" for x in inputs]}

    def _source(self, x: Any) -> Any:
        if isinstance(x, np.ndarray | Tensor):
            return x, self.embedder.model.front_end.sample_rate  # as everywhere in sentence-transformers
        return x

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Embed what `preprocess` sorted out."""
        self.embedder.device = next(self.model.parameters()).device
        embed = self.embedder.embed_audio if "audio" in features else self.embedder.embed_text
        features["sentence_embedding"] = embed(features["audio" if "audio" in features else "text"]).clone()
        return features

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Write the checkpoint folder, weights in float32."""
        front = inherited([self.embedder.name])
        card = with_front(front, "# CLARA checkpoint\n\nSaved from sentence-transformers.\n")
        save_checkpoint(output_path, self.model, self.embedder.tokenizer, card, dtype=torch.float32)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **kwargs: Any) -> ClaraModule:
        """From a checkpoint folder on this machine."""
        folder = Path(model_name_or_path) / subfolder
        return cls(Embedder(load_checkpoint(folder), "cpu"))


def _is_audio(x: Any) -> bool:
    return not isinstance(x, str) or Path(x).suffix.lower() in EXTENSIONS


def as_sentence_transformer(name: str | Embedder, device: str | None = None) -> SentenceTransformer:
    """A checkpoint, by any name that `clara.load` takes, as a SentenceTransformer. Errors as in `clara.load`."""
    embedder = name if isinstance(name, Embedder) else load(name, device)
    return SentenceTransformer(modules=[ClaraModule(embedder)], device=str(embedder.device))


def write_modules(folder: str | Path) -> Path:
    """Make a checkpoint folder one that SentenceTransformer(folder, trust_remote_code=True) opens: write its
    modules.json. ClaraError when it is not a checkpoint folder."""
    folder = Path(folder)
    read_config(folder)
    path = folder / MODULES
    path.write_text(json.dumps([MODULE], indent=2) + "\n", encoding="utf-8")
    return path
