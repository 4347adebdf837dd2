"""Checkpoints by name, ready for use. Imports torch only where the name asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clara.errors import ClaraError
from clara.zoo import catalog

if TYPE_CHECKING:
    import torch

    from clara.zoo.embedder import Embedder

ONNX = "onnx:"


def load(
    name: str | Path = catalog.DEFAULT,
    device: str | torch.device | None = None,
    long: str = "windows",
    precision: str = "float32",
    window: float | None = None,
    hop: float | None = None,
) -> Embedder:
    """Load a checkpoint by name ('arch.tag', 'hf:org/repo[@revision]', 'dir:path') on `device`, by default the best.
    `long`, `window` and `hop` say how audio is cut wherever this model embeds, classifies, indexes or finds, unless a
    call is told otherwise (`Embedder.embed_audio`); `precision`, 'float32' or 'bfloat16' (float32 again where that is
    slower), is that of the towers' matrices (vectors come in float32 from either).

    'onnx:path', a folder that `clara export` wrote, gives a `clara.zoo.onnx_model.OnnxEmbedder`: it embeds audio and
    texts as arrays of numpy, on the CPU, without torch.

    Raises:
        ClaraError: unknown name, an architecture without weights, a folder that is not a checkpoint, no network, or
            windows that the model cannot have.
    """
    if str(name).startswith(ONNX):
        from clara.zoo.onnx_model import OnnxEmbedder

        if device not in (None, "cpu") or long != "windows" or precision != "float32":
            raise ClaraError(f"{name} runs on the CPU, window by window, in the precision that it was exported in.")
        return OnnxEmbedder.open(str(name).removeprefix(ONNX), window, hop)  # type: ignore[return-value]  # as documented
    from clara.zoo.embedder import Embedder
    from clara.zoo.factory import checkpoint_folder, load_checkpoint

    folder = checkpoint_folder(catalog.parse_name(name))
    return Embedder(load_checkpoint(folder, name=str(name)), device, long, precision, window, hop)
