"""Any timm backbone as a spectrogram tower: the clip is a one-channel picture, time down, frequency across.

A 2-D backbone cannot mask padding, so every clip is filled to one fixed window: no result depends on a batch-mate. Only
the real frames are pooled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import timm
import torch
from torch import Tensor, nn

from clara.config import Spec
from clara.errors import ClaraError, unknown
from clara.layers import masked_mean
from clara.towers.base import AUDIO_TOWERS, AudioTower, fit_window, weightless


@dataclass(frozen=True)
class TimmConfig:
    """A backbone of timm on log-mel frames as a picture."""

    backbone: str
    """timm's name."""
    bins: int = 64
    """F: the front-end's."""
    window_frames: int = 1001
    """Frames of the longest clip: its seconds × frames per second + 1."""
    pretrained: bool = False
    """Start from timm's image weights, the first kernel summed over colours."""
    options: dict[str, Any] = field(default_factory=dict)
    """Passed to the backbone; a transformer wants img_size: [window_frames, bins], multiples of its patch."""


@AUDIO_TOWERS.register("timm", TimmConfig)
class TimmTower(AudioTower):
    """x_BNF -> a_BW: the last feature map, averaged over frequency, normalised, averaged over the real frames."""

    def __init__(self, config: TimmConfig) -> None:
        super().__init__()
        if config.backbone.split(".")[0] not in timm.list_models():
            raise unknown("timm backbone", config.backbone, timm.list_models())
        try:
            # how a backbone rounds its strides is its own affair: ask it once, which takes weights
            with weightless(False), torch.no_grad():
                self.backbone = timm.create_model(
                    config.backbone,
                    pretrained=config.pretrained,
                    in_chans=1,
                    features_only=True,
                    feature_cls="getter",  # every family then gives its last map as B, C, N', F'
                    out_indices=(-1,),
                    **config.options,
                )
                (map_1WNF,) = self.backbone.eval()(torch.zeros(1, 1, config.window_frames, config.bins))
        except (TypeError, ValueError, RuntimeError, AssertionError, OSError) as e:
            raise ClaraError(f"timm backbone {config.backbone!r} on {config.window_frames} × {config.bins}: {e}") from e
        self.backbone.train()
        self.window, self.bins = config.window_frames, config.bins
        self.width, self.columns = map_1WNF.shape[1], map_1WNF.shape[2]
        self.norm = nn.LayerNorm(self.width)

    def forward(self, x_BNF: Tensor, mask_BN: Tensor, pool: bool = True) -> Tensor:
        """a_BW, or a_BNW per column of the map with `pool=False`. ClaraError when N exceeds the window."""
        if x_BNF.shape[2] != self.bins:
            raise ClaraError(f"{x_BNF.shape[2]} bins, the timm tower was built for {self.bins}.")
        x_BNF, _ = fit_window(x_BNF, mask_BN, self.window)
        (map_BWNF,) = self.backbone(x_BNF[:, None])
        frames_BNW = self.norm(map_BWNF.mean(3).transpose(1, 2))
        return self.pooled(frames_BNW, self.frame_mask(mask_BN)) if pool else frames_BNW

    def pooled(self, frames_BNW: Tensor, mask_BN: Tensor) -> Tensor:
        return masked_mean(frames_BNW, mask_BN)

    def frame_mask(self, mask_BN: Tensor) -> Tensor:
        """A column is real when the first frame it stands for is: (B, columns)."""
        first_C = torch.arange(self.columns, device=mask_BN.device) * self.window // self.columns
        return nn.functional.pad(mask_BN, (0, max(0, self.window - mask_BN.shape[1])))[:, first_C]

    def resolved(self, spec: Spec) -> Spec:
        return Spec(spec.kind, {**spec.options, "pretrained": False})
