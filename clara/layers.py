"""Blocks used by two towers or more: masked pooling, products on a CPU."""

from __future__ import annotations

import functools
import math
import time
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def masked_mean(x_BNW: Tensor, mask_BN: Tensor) -> Tensor:
    """Mean over the real frames: (B, W)."""
    keep = mask_BN[..., None].to(x_BNW.dtype)
    return (x_BNW * keep).sum(1) / keep.sum(1).clamp_min(1.0)


def masked_stats(x_BNW: Tensor, mask_BN: Tensor) -> Tensor:
    """Mean and standard deviation over the real frames: (B, 2W)."""
    mean_BW = masked_mean(x_BNW, mask_BN)
    var_BW = masked_mean((x_BNW - mean_BW[:, None]).square(), mask_BN)
    return torch.cat([mean_BW, (var_BW + 1e-5).sqrt()], 1)


def mean_directions(x_ND: Tensor, sizes: Sequence[int]) -> Tensor:
    """The unit mean of each of K consecutive groups of so many rows: (K, D). Of unit text embeddings, the vector of a
    class that several prompts describe (Radford et al. 2021, sec. 3.1.4)."""
    return nn.functional.normalize(torch.stack([part.mean(0) for part in x_ND.split(list(sizes))]), dim=-1)


def _onednn_types() -> frozenset[torch.dtype]:
    """What this CPU's oneDNN multiplies; of the rest it raises."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return frozenset()
    asked = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return frozenset({torch.float32, torch.bfloat16} if asked and asked() else {torch.float32})


ONEDNN = _onednn_types()
BF16_LOSS = 2.0  # CPUs without bf16 instructions take about six times as long as in float32


@functools.cache
def bf16_pays(device_type: str) -> bool:
    """Whether bf16 is worth taking on this kind of device: by its own word on GPUs, measured once on a CPU. A warning
    says that it is not."""
    if device_type == "cuda":
        pays = torch.cuda.is_bf16_supported(including_emulation=False)
        why = "this GPU only emulates it"
    elif device_type == "cpu":
        slower = _seconds_of_product(torch.bfloat16) / _seconds_of_product(torch.float32)
        pays, why = slower < BF16_LOSS, f"it takes {slower:.1f} times as long on this CPU"
    else:
        return True
    if not pays:
        warnings.warn(f"float32 is taken instead of bf16: {why}.", stacklevel=3)
    return pays


def _seconds_of_product(dtype: torch.dtype) -> float:
    """The shortest of a few products of matrices as large as a tower's."""
    x, best = torch.ones(384, 384, dtype=dtype), math.inf
    with torch.inference_mode():
        for _ in range(6):
            start = time.perf_counter()
            x @ x
            best = min(best, time.perf_counter() - start)
    return best


def by_onednn(x: Tensor) -> bool:
    """Whether `x` is of what oneDNN's own products serve: inference on a CPU, in a type that it multiplies fast."""
    other = torch.is_grad_enabled() or torch.jit.is_tracing() or torch.compiler.is_compiling()
    return x.dtype in ONEDNN and x.device.type == "cpu" and not other


def dense(layer: nn.Linear, x: Tensor, activation: str = "none") -> Tensor:
    """`layer(x)`, then `activation`: 'none' or 'gelu'. Inference on a CPU takes oneDNN's product, the one that
    torch.compile takes, which does the activation while a value is in cache and was up to a third faster than MKL's.
    Types that it does not know, and layers that are hooked or of another class, are multiplied as always."""
    plain = type(layer) is nn.Linear and not layer._forward_hooks and not layer._forward_pre_hooks
    if by_onednn(x) and plain and x.dtype == layer.weight.dtype:
        return _fused(x, layer.weight, layer.bias, activation)
    return nn.functional.gelu(layer(x)) if activation == "gelu" else layer(x)


def _fused(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], "none")


class AttentiveStats(nn.Module):
    """Attentive statistics pooling (Okabe et al. 2018, sec. 3): attention-weighted mean and standard deviation.

    x_BNW, mask_BN -> (B, 2W). Padding gets no weight.
    """

    def __init__(self, width: int, hidden: int = 128) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, width))

    def forward(self, x_BNW: Tensor, mask_BN: Tensor) -> Tensor:
        with torch.autocast(x_BNW.device.type, enabled=False):
            x_BNW = x_BNW.float()
            score_BNW = self.score(x_BNW.to(next(self.score.parameters()).dtype)).float()  # in half precision, at times
            weight = score_BNW.masked_fill(~mask_BN[..., None], -torch.inf).softmax(1)
            mean = (weight * x_BNW).sum(1)
            var = (weight * (x_BNW - mean[:, None]).square()).sum(1)
            return torch.cat([mean, (var + 1e-5).sqrt()], 1)
