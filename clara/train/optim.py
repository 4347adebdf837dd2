"""AdamW with its parameter groups, the learning rate as a function of the step, the moving average of the weights."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from clara.errors import ClaraError

_POSITION = re.compile(r"(^|[._])(pos|positions?)([._]|$)")


@dataclass(frozen=True)
class GroupConfig:
    """A learning rate for some parameters."""

    match: str
    """Shell pattern on parameter names: 'audio.encoder.*', 'text*' (text tower and head)."""
    lr_scale: float
    """Factor on the learning rate; 0 freezes."""


@dataclass(frozen=True)
class OptimConfig:
    """AdamW (Loshchilov & Hutter 2019), linear warm-up, then a cosine down to 1 % of `lr`."""

    lr: float = 1e-3
    """Peak learning rate."""
    weight_decay: float = 0.05
    """Decoupled weight decay."""
    betas: tuple[float, float] = (0.9, 0.98)
    """AdamW's betas."""
    eps: float = 1e-6
    """AdamW's epsilon."""
    warmup_steps: int = 100
    """Steps of linear warm-up."""
    grad_clip: float | None = 1.0
    """Largest gradient norm; null = unbounded."""
    groups: tuple[GroupConfig, ...] = ()
    """Learning rates by parameter name; the first matching pattern counts."""


def decays(name: str, parameter: Tensor) -> bool:
    """Whether weight decay applies: to matrices and kernels, not to norms, biases, positions or the temperature."""
    return parameter.ndim > 1 and not _POSITION.search(name)


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; each group carries `lr_scale`. Those of scale 0 are frozen first. ClaraError
    for a pattern that fits no parameter, and when nothing is left to train."""
    names = [n for n, _ in model.named_parameters()]
    for group in config.groups:
        if not any(fnmatchcase(n, group.match) for n in names):
            raise ClaraError(
                f"optim.groups: {group.match!r} fits no parameter. Names begin with "
                f"{', '.join(sorted({'.'.join(n.split('.')[:2]) for n in names}))}."
            )
        if not (math.isfinite(group.lr_scale) and group.lr_scale >= 0):
            raise ClaraError(f"optim.groups: lr_scale={group.lr_scale} of {group.match!r}: expected 0 or more.")
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, p in model.named_parameters():
        scale = next((g.lr_scale for g in config.groups if fnmatchcase(name, g.match)), 1.0)
        if scale == 0.0:
            p.requires_grad_(False)
        if p.requires_grad:
            groups.setdefault((scale, config.weight_decay if decays(name, p) else 0.0), []).append(p)
    if not groups:
        raise ClaraError("optim.groups freezes every parameter: there is nothing left to train.")
    return torch.optim.AdamW(
        [{"params": ps, "lr_scale": scale, "weight_decay": decay} for (scale, decay), ps in groups.items()],
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        fused=True,
    )


def train_mode(model: nn.Module) -> None:
    """Training mode, except for modules all of whose parameters are frozen: their dropout is off, and their batch norms
    keep the statistics that they have."""
    model.train()
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            module.eval()


def learning_rate(step: int, steps: int, config: OptimConfig) -> float:
    """The rate of step `step` (from 0) of `steps`."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    return config.lr * max(0.01, 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group `lr` times its own scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as 'parameter name/quantity' -> tensor."""
    names = {p: n for n, p in model.named_parameters()}
    return {f"{names[p]}/{key}": value for p, state in optimizer.state.items() for key, value in state.items()}


def load_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`. ClaraError when a tensor belongs to no trainable parameter."""
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    for path, tensor in tensors.items():
        name, _, key = path.rpartition("/")
        if name not in parameters:
            raise ClaraError(f"The saved optimizer state {path!r} belongs to no trainable parameter of this model.")
        p = parameters[name]
        # 'step' is a scalar; the moments take the parameter's memory layout, which the fused update relies on
        value = tensor.to(p.device) if tensor.shape != p.shape else torch.empty_like(p).copy_(tensor)
        optimizer.state[p][key] = value.detach()


class EMA:
    """Exponential moving average of weights and buffers in float32; integer buffers are copied. The decay starts low,
    min(decay, (1 + step) / (10 + step)), so that short runs forget their initial weights."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0.0 < decay < 1.0:
            raise ClaraError(f"ema={decay}: expected a decay between 0 and 1, such as 0.999, or null for none.")
        self.decay = decay
        self.tensors = {
            n: t.detach().clone().float() if t.is_floating_point() else t.detach().clone()
            for n, t in model.state_dict().items()
        }

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the model after step `step` (from 0)."""
        weight = 1.0 - min(self.decay, (1 + step) / (10 + step))
        state = model.state_dict()
        moving = [n for n, t in self.tensors.items() if t.is_floating_point()]
        torch._foreach_lerp_([self.tensors[n] for n in moving], [state[n].float() for n in moving], weight)
        for n, t in self.tensors.items():
            if not t.is_floating_point():
                t.copy_(state[n])

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take saved averages. ClaraError when they are of another model."""
        if tensors.keys() != self.tensors.keys():
            raise ClaraError(
                f"The saved averages are of another model: {sorted(tensors.keys() ^ self.tensors.keys())}."
            )
        for n, t in self.tensors.items():
            t.copy_(tensors[n])
