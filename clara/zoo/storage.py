"""How weights lie in a checkpoint's file: floating point, or int8 with a scale per row; and the text tower that a
checkpoint takes from another one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from clara.config import build, load_yaml
from clara.errors import ClaraError
from clara.saving import sha256_of

CONFIG, WEIGHTS, SCALE = "clara.yaml", "model.safetensors", ".scale"
SMALLEST = 4096  # elements of a matrix from which int8 is worth its scales
PLAIN = (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.bool)
TEXT, TEXT_FROM = ("text.", "text_head."), "text_from"


def stored(name: str, tensor: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
    """What a file holds of one weight: matrices and kernels as `dtype`, vectors and scalars as float32. With int8, a
    matrix of 4096 elements or more becomes int8 and, as NAME.scale, a float16 factor per row; smaller ones float16.

    Raises:
        ClaraError: the weight is NaN or infinite, or becomes so.
    """
    tensor = tensor.detach().cpu()
    if not tensor.is_floating_point():
        return {name: tensor.contiguous()}
    if dtype == torch.int8 and tensor.ndim > 1 and tensor.numel() >= SMALLEST:
        rows = tensor.float().flatten(1)
        tiny = torch.finfo(torch.float16).tiny
        scale = (rows.abs().amax(1) / 127).clamp_min(tiny).half()
        whole = (rows / scale.float()[:, None]).round().clamp(-127, 127)
        _check_finite(name, scale, whole)
        return {name: whole.to(torch.int8).view(tensor.shape).contiguous(), name + SCALE: scale}
    dtype = torch.float16 if dtype == torch.int8 else dtype
    kept = tensor.to(dtype if tensor.ndim > 1 else torch.float32).clone(memory_format=torch.contiguous_format)
    _check_finite(name, kept)
    return {name: kept}


def _check_finite(name: str, *tensors: Tensor) -> None:
    if not all(t.isfinite().all() for t in tensors):
        kind = tensors[0].dtype
        raise ClaraError(f"Weight {name} holds NaN or infinite values as {kind}: this model cannot be saved.")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The weights of a file by name, int8 ones as the float32 that they stand for.

    Raises:
        ClaraError: an unreadable file, an int8 tensor without its scale, or a type that no checkpoint has.
    """
    try:
        tensors = load_file(path)
    except SafetensorError as e:
        raise ClaraError(f"{path} is not a readable safetensors file ({e}): copy or download it again.") from e
    for name in [n for n, t in tensors.items() if t.dtype == torch.int8]:
        scale, whole = tensors.pop(name + SCALE, None), tensors[name]
        if scale is None or scale.dtype != torch.float16 or scale.shape != whole.shape[:1]:
            found = "nothing" if scale is None else f"{scale.dtype} {tuple(scale.shape)}"
            raise ClaraError(
                f"{path}: {name} is int8 and needs {name}{SCALE}, float16 {tuple(whole.shape[:1])}; found {found}."
            )
        tensors[name] = whole.float() * scale.float().view(-1, *[1] * (whole.ndim - 1))
    if odd := [f"{n} ({t.dtype})" for n, t in tensors.items() if t.dtype not in PLAIN]:
        raise ClaraError(f"{path} holds types that no checkpoint has: {', '.join(odd[:5])}. Save the model again.")
    return tensors


@dataclass(frozen=True)
class TextFrom:
    """The checkpoint, by its folder's name, whose text tower, text head and tokenizer another uses; `sha256` is that of
    its weights file."""

    checkpoint: str
    sha256: str


def own_config(folder: Path) -> dict[str, Any]:
    """clara.yaml without `text_from`: the config of the whole model."""
    return {k: v for k, v in load_yaml(folder / CONFIG).items() if k != TEXT_FROM}


def text_home(folder: Path, others: Path) -> Path:
    """The folder that holds the text tower of the checkpoint in `folder`: itself, or the one that `text_from` in its
    clara.yaml names, beside it or among `others`.

    Raises:
        ClaraError: that checkpoint is missing, holds other weights, or has no text tower of its own.
    """
    data = load_yaml(folder / CONFIG).get(TEXT_FROM)
    if data is None:
        return folder
    shared = build(TextFrom, data, where=f"{folder / CONFIG}: {TEXT_FROM}")
    places = [folder.resolve().parent / shared.checkpoint, others / shared.checkpoint]
    home = next((p for p in places if (p / WEIGHTS).is_file() and (p / CONFIG).is_file()), None)
    if home is None or Path(shared.checkpoint).name != shared.checkpoint:
        raise ClaraError(
            f"{folder} takes its text tower from the checkpoint {shared.checkpoint!r}, which is neither beside it nor "
            f"in the package: put its folder into {places[0].parent}."
        )
    if (found := sha256_of(home / WEIGHTS)) != shared.sha256:
        raise ClaraError(
            f"{folder} takes its text tower from {shared.checkpoint!r} with sha256 {shared.sha256[:12]}…; {home} has "
            f"{found[:12]}…: another version. Get the one that was saved with it."
        )
    if TEXT_FROM in load_yaml(home / CONFIG):
        raise ClaraError(f"{home}, the text tower of {folder}, has none of its own.")
    return home


def with_text_of(home: Path, tensors: Mapping[str, Tensor], where: Path) -> dict[str, Tensor]:
    """`tensors` of an audio side with the text side of the checkpoint `home`. ClaraError when there is one already."""
    if own := [n for n in tensors if n.startswith(TEXT)]:
        raise ClaraError(f"{where} holds {own[0]} and more of a text tower, which its clara.yaml takes from {home}.")
    return {**tensors, **{n: t for n, t in read_tensors(home / WEIGHTS).items() if n.startswith(TEXT)}}
