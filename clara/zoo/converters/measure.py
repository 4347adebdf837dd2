"""What a file's tensors tell of the model they are of, where no config lies beside them: sizes and filter bank.

Tensors are under our names already (`clara.towers.remap`); one that is needed and missing is an error by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from clara.audio.clap_mel import ClapMelConfig, filters
from clara.config import Spec, to_dict
from clara.errors import ClaraError
from clara.towers.hf_text import bert_spec

HEAD_WIDTH = 64  # of BERT's and GPT-2's attention heads: no tensor tells their number
TEXT = "text.encoder.transformer."


class Measured:
    """Tensors whose shapes are asked for. ClaraError names the one that `where` lacks."""

    def __init__(self, tensors: Mapping[str, Tensor], where: str) -> None:
        self.tensors, self.where = tensors, where

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of the tensor `name`."""
        if name not in self.tensors:
            raise ClaraError(f"{self.where} lacks what becomes {name}: it is not a complete checkpoint of this family.")
        return tuple(self.tensors[name].shape)

    def count(self, pattern: str) -> int:
        """How many numbers from 0 on stand where `pattern` has its group."""
        found = {int(m[1]) for name in self.tensors if (m := re.match(pattern, name))}
        return len(found)


def htsat(m: Measured, window_frames: int) -> Spec:
    """The `htsat` tower, without fusion; its picture is 256 wide, as all published ones are."""
    depths = [m.count(rf"audio\.layers\.{i}\.blocks\.(\d+)\.") for i in range(m.count(r"audio\.layers\.(\d+)\."))]
    tables = [m.shape(f"audio.layers.{i}.blocks.0.attn.relative_position_bias_table") for i in range(len(depths))]
    if not tables:
        raise ClaraError(f"{m.where} has no layers of an HTSAT.")
    width, _, patch, _ = m.shape("audio.patch_embed.proj.weight")
    options = {
        "bins": m.shape("audio.bn0.weight")[0],
        "window_frames": window_frames,
        "patch": patch,
        "width": width,
        "depths": depths,
        "heads": [heads for _, heads in tables],
        "window": (round(tables[0][0] ** 0.5) + 1) // 2,
        "mlp_ratio": m.shape("audio.layers.0.blocks.0.mlp.fc1.weight")[0] / width,
    }
    return Spec("htsat", options)


def cnn14(m: Measured, pools: Iterable[int]) -> Spec:
    """The `cnn14` tower; `pools` no tensor tells."""
    widths = [m.shape(f"audio.blocks.{i}.conv2.weight")[0] for i in range(m.count(r"audio\.blocks\.(\d+)\."))]
    embedding = m.shape("audio.fc1.bias")[0] if "audio.fc1.bias" in m.tensors else None
    bins = m.shape("audio.bn0.weight")[0]
    return Spec("cnn14", {"bins": bins, "widths": widths, "pools": list(pools), "embedding": embedding})


def bert(m: Measured, pooling: str) -> Spec:
    """The `hf_text` tower of a BERT."""
    vocabulary, width = m.shape(f"{TEXT}embeddings.word_embeddings.weight")
    fields = {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": m.count(rf"{re.escape(TEXT)}encoder\.layer\.(\d+)\."),
        "num_attention_heads": max(1, width // HEAD_WIDTH),
        "intermediate_size": m.shape(f"{TEXT}encoder.layer.0.intermediate.dense.weight")[0],
        "max_position_embeddings": m.shape(f"{TEXT}embeddings.position_embeddings.weight")[0],
        "type_vocab_size": m.shape(f"{TEXT}embeddings.token_type_embeddings.weight")[0],
    }
    return bert_spec("bert", fields, pooling)


def gpt2(m: Measured) -> Spec:
    """The `hf_text` tower of a GPT-2, read at its last token."""
    vocabulary, width = m.shape(f"{TEXT}wte.weight")
    config: dict[str, Any] = {
        "model_type": "gpt2",
        "vocab_size": vocabulary,
        "n_embd": width,
        "n_layer": m.count(rf"{re.escape(TEXT)}h\.(\d+)\."),
        "n_head": max(1, width // HEAD_WIDTH),
        "n_inner": m.shape(f"{TEXT}h.0.mlp.c_fc.weight")[1],
        "n_positions": m.shape(f"{TEXT}wpe.weight")[0],
        "bos_token_id": vocabulary - 1,
        "eos_token_id": vocabulary - 1,
    }
    return Spec("hf_text", {"config": config, "pooling": "last"})


def torchlibrosa_mel(tensors: Mapping[str, Tensor], stft: str, bank: str, usual: Iterable[ClapMelConfig]) -> Spec:
    """The `clap_mel` front-end whose filters a file of torchlibrosa's layers holds: the one of `usual` that agrees.

    Args:
        tensors: the file's own, under its own names.
        stft: name of its Fourier kernels, without '.conv_real.weight'.
        bank: name of its filters.
        usual: what to compare with; the file's n_fft is put in.

    Raises:
        ClaraError: the file has neither, or other windows or filters than all of these.
    """
    kernel, melW = tensors.get(f"{stft}.conv_real.weight"), tensors.get(bank)
    if kernel is None or melW is None:
        raise ClaraError(f"No {stft}.conv_real.weight or no {bank}: the file does not say what its model hears.")
    n_fft = kernel.shape[-1]
    hann_N = torch.hann_window(n_fft)
    close = 1e-5 if kernel.dtype.itemsize > 2 else 4 * torch.finfo(kernel.dtype).eps  # half precision, written again
    if not torch.allclose(kernel[0, 0].float(), hann_N, atol=close):
        raise ClaraError(f"{stft}: its window of {n_fft} samples is not a Hann window, the only one known.")
    tried = []
    for config in usual:
        config = replace(config, n_fft=n_fft, n_mels=melW.shape[1])
        if melW.shape == (n_fft // 2 + 1, config.n_mels) and _same_filters(melW, filters(config)):
            return Spec("clap_mel", to_dict(config))
        tried.append(f"{config.f_min:g}–{config.f_max:g} Hz at {config.bank_rate or config.sample_rate}")
    raise ClaraError(f"{bank} is not a bank of slaney filters of {' or of '.join(tried)}.")


def _same_filters(melW: Tensor, usual: Tensor) -> bool:
    """Filters agree to what their type holds."""
    if melW.dtype.itemsize > 2:
        return torch.allclose(melW.float(), usual, atol=1e-6)
    return torch.allclose(melW.float(), usual, rtol=4 * torch.finfo(melW.dtype).eps, atol=1e-6)
