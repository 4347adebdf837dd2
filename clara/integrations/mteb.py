"""Run MTEB's audio tasks with any checkpoint (extra `mteb`):

    import mteb
    from clara.integrations.mteb import ClaraEncoder

    mteb.evaluate(ClaraEncoder("clara-small.base"), mteb.get_tasks(["RavdessZeroshot"]))

Audio is decoded by CLARA: any rate, any length, nothing at random; nothing needs torchcodec.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from clara.errors import ClaraError, require
from clara.zoo import catalog
from clara.zoo.embedder import Embedder
from clara.zoo.loading import load

require("mteb", "mteb")
from datasets import Audio  # noqa: E402
from mteb.models import ModelMeta  # noqa: E402
from mteb.models.abs_encoder import AbsEncoder  # noqa: E402

ROWS = 64  # rows of a data set in memory at a time


class ClaraEncoder(AbsEncoder):
    """MTEB's encoder protocol over an `Embedder`: texts and audio become unit vectors of one space.

    Args:
        model_name: any name that `clara.load` takes, or an Embedder.
        revision: not used; a name carries its own (`hf:org/repo@revision`).
        device: as in `clara.load`.
    """

    def __init__(
        self, model_name: str | Embedder, revision: str | None = None, device: str | None = None, **kwargs: Any
    ) -> None:
        self.zoo = model_name if isinstance(model_name, Embedder) else load(model_name, device)
        self.mteb_model_meta = model_meta(self.zoo)

    def encode(self, inputs: Any, **kwargs: Any) -> np.ndarray:
        """Embed a data set's column `text` or `audio` -> (B, D) float32, unit length.

        Args:
            inputs: the DataLoader that MTEB made; its data set is read, row by row, its batches are not.
            kwargs: MTEB's task and prompt, which play no part here, and `batch_size`.

        Raises:
            ClaraError: neither column, both of them, or audio that cannot be read.
        """
        rows = inputs.dataset
        columns = [c for c in ("text", "audio") if c in rows.features]
        if len(columns) != 1:
            raise ClaraError(f"Columns {list(rows.features)}: expected either 'text' or 'audio', and not both.")
        batch_size = kwargs.get("batch_size") or 16
        if columns == ["text"]:
            parts = [self.zoo.embed_text(_texts(values), batch_size) for values in _chunks(rows, "text")]
        else:
            if isinstance(rows.features["audio"], Audio):
                rows = rows.cast_column("audio", Audio(decode=False))
            parts = [self.zoo.embed_audio(values, batch_size) for values in _chunks(rows, "audio")]
        return torch.cat(parts).numpy()


def _chunks(rows: Any, column: str) -> Iterator[list[Any]]:
    for start in range(0, len(rows), ROWS):
        yield rows[start : start + ROWS][column]


def _texts(values: list[Any]) -> list[str]:
    if not all(isinstance(v, str) for v in values):
        raise ClaraError(f"Column 'text' holds {type(values[0]).__name__}: expected texts.")
    return values


def model_meta(zoo: Embedder) -> ModelMeta:
    """What MTEB writes of a model beside its results; the revision is the weights' sha256, the unknown is None."""
    count = sum(p.numel() for p in zoo.model.parameters())
    return ModelMeta(
        loader=ClaraEncoder,
        name=f"clara/{zoo.name.replace('/', '_').replace(':', '_').strip('_')}",
        revision=zoo.sha256,
        release_date=None,
        languages=None,
        n_parameters=count,
        memory_usage_mb=round(count * 4 / 2**20),
        max_tokens=None,
        embed_dim=zoo.config.embed_dim,
        license=None,
        open_weights=True if zoo.name in catalog.CHECKPOINTS else None,
        public_training_code=None,
        public_training_data=None,
        framework=["PyTorch"],
        similarity_fn_name="cosine",
        use_instructions=False,
        training_datasets=None,
        modalities=["audio", "text"],
    )
