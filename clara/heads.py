"""Projection heads: a tower's vector -> the shared embedding space."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clara.config import Registry, Spec
from clara.errors import ClaraError, unknown

HEADS: Registry[nn.Module] = Registry("projection head")


@dataclass(frozen=True)
class LinearHeadConfig:
    """A linear map, bias-free as in CLIP."""

    bias: bool = False
    """Whether the map has a bias."""
    unit_input: bool = False
    """Scale the tower's vector to unit length first, as the first CLARA was evaluated."""


@HEADS.register("linear", LinearHeadConfig)
class LinearHead(nn.Linear):
    """Tower width W -> shared width D."""

    def __init__(self, config: LinearHeadConfig, width: int, embed_dim: int) -> None:
        super().__init__(width, embed_dim, bias=config.bias)
        self.unit_input = config.unit_input

    def forward(self, x: Tensor) -> Tensor:
        """(B, W) -> (B, D)."""
        return super().forward(nn.functional.normalize(x, dim=-1) if self.unit_input else x)


@dataclass(frozen=True)
class IdentityHeadConfig:
    """No options."""


@HEADS.register("identity", IdentityHeadConfig)
class IdentityHead(nn.Identity):
    """For a tower that gives the shared width itself."""

    def __init__(self, config: IdentityHeadConfig, width: int, embed_dim: int) -> None:
        if width != embed_dim:
            raise ClaraError(f"identity head: the tower's width is {width}, embed_dim {embed_dim}; they must be equal.")
        super().__init__()


ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}


@dataclass(frozen=True)
class MLPHeadConfig:
    """Linear, activation, linear."""

    hidden: int | None = None
    """Width of the hidden layer; null = D."""
    activation: str = "relu"
    """'relu' or 'gelu'."""
    standardize: bool = False
    """Start with a batch norm without gain: sentence encoders' vectors share a large mean."""
    input_dropout: float = 0.0
    """Of what the batch norm gives (or of the head's input), in training, 0 to 1."""
    dropout: float = 0.0
    """Of the hidden layer in training, 0 to 1."""


@HEADS.register("mlp", MLPHeadConfig)
class MLPHead(nn.Sequential):
    """The two-layer projection of LAION-CLAP (Wu et al. 2023, sec. 2)."""

    def __init__(self, config: MLPHeadConfig, width: int, embed_dim: int) -> None:
        hidden = config.hidden or embed_dim
        if config.activation not in ACTIVATIONS:
            raise unknown("activation of the mlp head", config.activation, ACTIVATIONS)
        act = ACTIVATIONS[config.activation]()
        first: list[nn.Module] = [nn.BatchNorm1d(width, affine=False)] if config.standardize else []
        if config.input_dropout:
            first.append(nn.Dropout(config.input_dropout))
        drop = [nn.Dropout(config.dropout)] if config.dropout else []
        super().__init__(*first, nn.Linear(width, hidden), act, *drop, nn.Linear(hidden, embed_dim))


@dataclass(frozen=True)
class ResidualMLPHeadConfig:
    """The head of Microsoft's CLAP and of ParaCLAP."""

    dropout: float = 0.5
    """Of the second layer's output in training, 0 to 1."""


@HEADS.register("residual_mlp", ResidualMLPHeadConfig)
class ResidualMLPHead(nn.Module):
    """The projection of Microsoft's CLAP (Elizalde et al. 2022, sec. 2.1) and of ParaCLAP: two bias-free layers with a
    GELU between, the first's output added, layer norm."""

    def __init__(self, config: ResidualMLPHeadConfig, width: int, embed_dim: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, embed_dim, bias=False)
        self.linear2 = nn.Linear(embed_dim, embed_dim, bias=False)
        self.layer_norm = nn.LayerNorm(embed_dim)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, W) -> (B, D)."""
        x = self.linear1(x)
        return self.layer_norm(x + self.drop(self.linear2(nn.functional.gelu(x))))


@dataclass(frozen=True)
class ReadoutHeadConfig:
    """A head for the part of the tower's vector that was pooled with learned weights, and linear readouts of the plain
    statistics behind it."""

    base: Spec
    """The head that everything is learned in."""
    statistics: int
    """Last so many values of the tower's vector, which the readouts take and `base` does not see: 2·K·W of an hf_audio
    tower with `summary`."""
    ranks: tuple[int, ...] = ()
    """Dimensions of the subspace of each readout; of a task with C classes, at least C - 1."""


@HEADS.register("readout", ReadoutHeadConfig)
class ReadoutHead(nn.Module):
    """The base head's unit embedding, and, for tasks whose classes a linear map of plain statistics tells apart better
    on recordings of strangers, that map's verdict within the subspace that the texts of the task's classes span.

    `clara.train.readout.fit` solves for the maps when training ends; until then, and where a readout's gate is closed
    because the clip is of another kind, the embedding is the base head's.

    Buffers: mean, deviation (S,) of the statistics; map (R, S) and bias (R,); basis (R, D), orthonormal within a task;
    gate (K, S) and gate_bias (K,); share (K,), how much of the subspace is the readout's. R = sum of `ranks`, K tasks.
    """

    mean: Tensor
    deviation: Tensor
    map: Tensor
    bias: Tensor
    basis: Tensor
    gate: Tensor
    gate_bias: Tensor
    share: Tensor
    owner_R: Tensor

    def __init__(self, config: ReadoutHeadConfig, width: int, embed_dim: int) -> None:
        super().__init__()
        pooled, total = width - config.statistics, sum(config.ranks)
        if pooled < 1 or config.statistics < 1 or min(config.ranks, default=1) < 1:
            raise ClaraError(
                f"readout head: statistics={config.statistics}, ranks={list(config.ranks)} of a tower's vector of "
                f"{width}: expected ranks of at least 1, and 1 to {width - 1} statistics."
            )
        self.ranks, self.statistics = config.ranks, config.statistics
        self.base = HEADS.create(config.base, pooled, embed_dim)
        shapes = {"map": (total, config.statistics), "bias": (total,), "basis": (total, embed_dim)}
        tasks = len(config.ranks)
        for name, shape in {**shapes, "gate": (tasks, config.statistics), "gate_bias": (tasks,)}.items():
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("mean", torch.zeros(config.statistics))
        self.register_buffer("deviation", torch.ones(config.statistics))
        self.register_buffer("share", torch.zeros(tasks))
        owner_R = torch.repeat_interleave(torch.arange(tasks), torch.tensor(config.ranks, dtype=torch.long))
        self.register_buffer("owner_R", owner_R, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, W) -> (B, D)."""
        e_BD = nn.functional.normalize(self.base(x[:, : -self.statistics]).float(), dim=-1)
        with torch.autocast(x.device.type, enabled=False):
            return self.corrected(e_BD, x[:, -self.statistics :])

    def corrected(self, e_BD: Tensor, statistics_BS: Tensor) -> Tensor:
        """Embeddings of the base head with the verdict of the readouts."""
        z_BS = (statistics_BS.float() - self.mean.float()) / self.deviation.float()
        basis_RD = self.basis.float()
        y_BR = nn.functional.linear(z_BS, self.map.float(), self.bias.float())
        weight_BK = nn.functional.linear(z_BS, self.gate.float(), self.gate_bias.float()).sigmoid() * self.share.float()
        return e_BD + (weight_BK[:, self.owner_R] * (y_BR - e_BD @ basis_RD.T)) @ basis_RD
