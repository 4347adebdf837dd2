"""A checkpoint as ONNX: waveform in, unit vector out, the front-end inside; the text tower and its tokenizer beside it.

Needs the extra `onnx`. `clara.zoo.onnx_model` runs what is written here, without torch.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from clara.audio.features import LogMel, Waveform, pad_waves
from clara.errors import ClaraError, require
from clara.hub import said
from clara.model import DualEncoder
from clara.saving import place_files
from clara.text.tokenizer import HFTokenizer, SentencePiece, Tokenizer
from clara.zoo.embedder import Embedder
from clara.zoo.factory import CARD
from clara.zoo.lineage import inherited, with_front
from clara.zoo.onnx_model import ABOUT, AUDIO, TEXT, VERSION, About, OnnxEmbedder

PARITY = 1e-4  # most that a number of a unit vector may differ from torch's
OPSET = 18
SENTENCES = ("a dog barks", "Regen", "the sound of a very long goods train that passes a small station at night")
EXPORTED = """
{name} as ONNX. `audio.onnx`: wave (batch, samples) float32 in [-1, 1] at {rate} Hz, at least {least} samples (fill with
zeros) and at most {window:g} s, and length (batch,), how many of them are real -> embedding (batch, {width}) of unit
length. `text.onnx`: ids and mask (batch, tokens) of the tokenizer beside it -> embedding. {storage}
`clara.load("onnx:FOLDER")` runs both without torch.
"""


class _Audio(nn.Module):
    def __init__(self, model: DualEncoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, wave_BT: Tensor, len_B: Tensor) -> Tensor:
        return self.model.encode_audio(wave_BT, len_B)


class _Text(nn.Module):
    def __init__(self, model: DualEncoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        return self.model.encode_text(ids_BL, mask_BL)


def export_onnx(zoo: Embedder, folder: str | Path, int8: bool = False) -> Path:
    """Write a checkpoint into `folder` as ONNX graphs with batch and length left open, its tokenizer, its card and
    licence. They are run once, on waves and texts of several lengths, before anything takes its place.

    Args:
        zoo: the checkpoint, in float32 on the CPU.
        folder: a new folder, or one of an earlier export.
        int8: store and multiply matrices in 8 bits (dynamic quantisation of onnxruntime); the front-end and
            convolutions stay float32.

    Raises:
        ClaraError: a front-end, tower or tokenizer that has no graph yet, outputs that differ from torch's by more than
            1e-4 (without `int8`), or a folder that holds other things.
    """
    for module in ("onnx", "onnxruntime"):
        require(module, "onnx")
    folder = Path(folder)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / ABOUT).is_file():
        raise ClaraError(f"{folder} is not empty, and no export that could be replaced: name a new folder.")
    if zoo.device.type != "cpu" or zoo.half:
        raise ClaraError("Load the checkpoint for export with device='cpu' and precision='float32'.")
    front = zoo.model.front_end
    if not isinstance(front, LogMel | Waveform):
        raise ClaraError(f"{zoo.name} hears through {type(front).__name__}, which has no graph yet.")
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / ".part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        about = _about(zoo, part, int8)
        _write(part / AUDIO, _Audio(zoo.model), _waves(about, 2.0))
        _write(part / TEXT, _Text(zoo.model), zoo.tokenizer(SENTENCES))
        _compare(zoo, part, about)
        if int8:
            for graph in (AUDIO, TEXT):
                _quantise(part / graph)
            OnnxEmbedder.open(part).embed_text(list(SENTENCES))  # it runs
        told = "Matrices are int8." if int8 else "Weights are float32."
        text = EXPORTED.format(
            name=zoo.name, rate=about.sample_rate, least=about.least_samples, window=about.window_seconds,
            width=about.embed_dim, storage=told,
        )  # fmt: skip
        (part / CARD).write_text(with_front(inherited([zoo.name]), f"# {folder.name}\n{text}"), encoding="utf-8")
        place_files(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _about(zoo: Embedder, part: Path, int8: bool) -> About:
    """What the graphs do not say, and the tokenizer's files."""
    front: Any = zoo.model.front_end
    c = front.config
    least = c.min_samples if isinstance(front, Waveform) else max(c.min_frames * c.hop_length, c.n_fft)
    about = About(
        version=VERSION, name=zoo.name, sha256=zoo.sha256, sample_rate=front.sample_rate,
        window_seconds=front.window_seconds, least_samples=least, embed_dim=zoo.config.embed_dim, scale=zoo.scale,
        tokenizer=_save_tokenizer(zoo.tokenizer, part), int8=int8,
    )  # fmt: skip
    (part / ABOUT).write_text(json.dumps(dataclasses.asdict(about), indent=1), encoding="utf-8")
    return about


def _save_tokenizer(tokenizer: Tokenizer, part: Path) -> dict[str, Any]:
    """Write the tokenizer's file -> how it is read."""
    how = {"context_length": tokenizer.context_length, "pad_id": tokenizer.pad_id}
    if type(tokenizer) is SentencePiece:
        shutil.copyfile(tokenizer.files[0], part / "tokenizer.model")
        return {"kind": "sentencepiece", **how}
    if type(tokenizer) is HFTokenizer and tokenizer.tokenizer.is_fast:
        backend = tokenizer.tokenizer.backend_tokenizer
        backend.no_padding()
        backend.no_truncation()
        backend.save(str(part / "tokenizer.json"))
        blanks = "".join(map(chr, tokenizer.blanks))
        return {"kind": "tokenizers", **how, "prefix": tokenizer.prefix, "suffix": tokenizer.suffix, "blanks": blanks}
    raise ClaraError(f"A {type(tokenizer).__name__} cannot be exported: expected sentencepiece or a fast one.")


def _waves(about: About, seconds: float) -> tuple[Tensor, Tensor]:
    """Two waves of noise, one shorter than the other."""
    length = max(about.least_samples, round(min(seconds, about.window_seconds) * about.sample_rate))
    noise = torch.Generator().manual_seed(0)
    return pad_waves([0.1 * torch.randn(length, generator=noise), 0.1 * torch.randn(length * 3 // 4, generator=noise)])


def _write(path: Path, module: nn.Module, example: tuple[Tensor, Tensor]) -> None:
    names = ("wave", "length") if path.name == AUDIO else ("ids", "mask")
    axes = {0: "batch", 1: "samples" if path.name == AUDIO else "tokens"}
    open_axes = {n: axes if x.ndim == 2 else {0: "batch"} for n, x in zip(names, example)} | {"embedding": {0: "batch"}}
    with warnings.catch_warnings(), torch.no_grad(), _plain_attention(module):
        warnings.simplefilter("ignore")  # of what a tracer cannot know: the comparison below does
        try:
            torch.onnx.export(
                module.eval(), example, str(path), input_names=list(names), output_names=["embedding"],
                dynamic_axes=open_axes, opset_version=OPSET, dynamo=False,
            )  # fmt: skip
        except (RuntimeError, torch.onnx.errors.OnnxExporterError) as e:
            raise ClaraError(f"{path.name} cannot be made of this model ({said(e)}).") from e


@contextmanager
def _plain_attention(module: nn.Module) -> Iterator[None]:
    """Attention of torch's own layer in plain operations: its lengths would become constants of the graph."""
    changed = [m for m in module.modules() if isinstance(m, nn.MultiheadAttention) and m.batch_first]
    for layer in changed:
        layer.forward = partial(_attend, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in changed:
            del layer.forward


def _attend(
    layer: nn.MultiheadAttention,
    query: Tensor,
    *_: Tensor,
    attn_mask: Tensor | None = None,
    key_padding_mask: Tensor | None = None,
    **__: Any,
) -> tuple[Tensor, None]:
    """Self-attention: (B, L, W) -> (B, L, W). Masks are added to the scores, or True where nothing is attended to."""
    heads = layer.num_heads
    qkv = linear(query, layer.in_proj_weight, layer.in_proj_bias).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    mask = None if attn_mask is None else _added(attn_mask)
    if mask is not None and mask.ndim == 3:
        mask = mask.unflatten(0, (-1, heads))
    if key_padding_mask is not None:
        padding = _added(key_padding_mask)[:, None, None]
        mask = padding if mask is None else mask + padding
    attended = scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], attn_mask=mask)
    return layer.out_proj(attended.transpose(1, 2).flatten(2)), None


def _added(mask: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=torch.float32).masked_fill(mask, -torch.inf)


def _compare(zoo: Embedder, part: Path, about: About) -> None:
    """ClaraError where the graphs give other vectors than torch, on lengths that they were not traced with."""
    graphs = OnnxEmbedder.open(part)
    lengths = {about.least_samples / about.sample_rate, 1.0, 0.77 * about.window_seconds, about.window_seconds}
    for seconds in sorted(lengths):
        wave_BT, len_B = _waves(about, seconds)
        _same(zoo.model.encode_audio, graphs.run_audio, (wave_BT, len_B), f"audio of {seconds:.2f} s")
    for texts in (SENTENCES[:1], SENTENCES):
        _same(zoo.model.encode_text, graphs.run_text, zoo.tokenizer(texts), f"{len(texts)} texts")


def _same(ours: Callable[..., Tensor], theirs: Callable[..., np.ndarray], given: Sequence[Tensor], what: str) -> None:
    with torch.inference_mode():
        apart = float(np.abs(ours(*given).numpy() - theirs(*(x.numpy() for x in given))).max())
    if not apart <= PARITY:
        raise ClaraError(f"The graph differs from torch by {apart:.2g} on {what}: this model cannot be exported.")


def _quantise(path: Path) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    nodes = [n.name for n in onnx.load(path).graph.node if n.name.startswith("/model/front_end")]
    whole = path.with_suffix(".float32")
    path.rename(whole)
    try:
        quantize_dynamic(
            whole, path, per_channel=True, weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm", "Gather"], nodes_to_exclude=nodes,
        )  # fmt: skip
    finally:
        whole.unlink()
