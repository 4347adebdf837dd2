"""Golden files of peers whose front-end is torchlibrosa's: weights and vectors, less what follows from a formula."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from clara.audio.clap_mel import ClapMelConfig, filters

FOLDER = Path(__file__).parent / "golden"


def read_golden(name: str, config: ClapMelConfig) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(the tensors of the peer's own file, the filters and windows that were left out filled in by `config`; the
    vectors its code gave, 'audio' and 'text')."""
    with safe_open(FOLDER / f"{name}.safetensors", "pt") as file:
        stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no dictionary)
        computed = json.loads(file.metadata()["computed"])
    state = {k.removeprefix("weights."): v.float() for k, v in stored.items() if k.startswith("weights.")}
    for key, shape in computed.items():
        state[key] = torch.zeros(shape)
        if key.endswith("conv_real.weight"):
            state[key][0, 0] = torch.hann_window(1024)
        if key.endswith("melW"):
            state[key] = filters(config)
    return state, {k: stored[k] for k in ("audio", "text")}
