"""What a checkpoint gives for sounds that fit no text: the background that scores are judged against.

Cosines have no zero: an unrelated text and sound may have 0.3, in another checkpoint 0.05. How a text's cosines lie
over a background of silence, noise, speech and other sounds tells how far a clip stands out; clips and mixtures
with known contents tell how often a clip that stands out so far has what the text says. A checkpoint's background is a
file beside its weights; `recipes/background.py` measures one.

Suffixes: N clips of the background, B clips, K texts, R directions, D dimensions.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from clara.calibration import temperature
from clara.config import build
from clara.errors import ClaraError
from clara.losses import minimise
from clara.parsing import parse_json
from clara.saving import whole_file
from clara.zoo import catalog

FILE = "background.safetensors"
FORMAT = "clara-background 1"
DIRECTIONS = 64  # of the background's spread that are kept
SHARE = 0.1  # of (clip, label) pairs that fit, for which probabilities are calibrated
STRAY = 0.05  # of unrelated texts that may find something


@dataclass(frozen=True)
class Constants:
    """What was measured. probability = sigmoid(slope · z + offset), z being a cosine in deviations from its text's mean
    over the background; `floor` is the z below which nothing fits a search; `temperature` divides the logits of a
    softmax over labels. `clips` made the background, `judged` calibrated it."""

    slope: float
    offset: float
    floor: float
    temperature: float
    clips: int
    judged: int


@dataclass(frozen=True, eq=False)  # tensors have no one truth to compare by
class Background:
    """The mean and spread of a background's embeddings, and what is known by it."""

    mean_D: Tensor = field(repr=False)
    spread_RD: Tensor = field(repr=False)
    constants: Constants

    def probabilities(self, audio_BD: Tensor, text_KD: Tensor) -> Tensor:
        """How likely each clip has what each text says, every text by itself: (B, K). Both in unit vectors."""
        z_BK = _z(audio_BD, text_KD, self.mean_D, self.spread_RD)
        return torch.sigmoid(self.constants.slope * z_BK + self.constants.offset)

    def floor(self, text_D: Tensor) -> float:
        """The cosine to a text below which a clip does not fit it."""
        return float(text_D @ self.mean_D + self.constants.floor * (self.spread_RD @ text_D).norm())

    def save(self, folder: Path, sha256: str) -> Path:
        """Write it beside the weights that have this hash; returns the file."""
        about = {"format": FORMAT, "sha256": sha256, **vars(self.constants)}
        tensors = {"mean": self.mean_D.half(), "spread": self.spread_RD.half().contiguous()}
        with whole_file(folder / FILE) as part:
            save_file(tensors, part, {"about": json.dumps(about)})
        return folder / FILE


def read_background(folder: Path, sha256: str) -> Background | None:
    """The background in a checkpoint's folder; None where there is none. ClaraError for a damaged one, or one that was
    measured with other weights."""
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        with safe_open(file, "pt") as tensors:
            about = dict(parse_json(tensors.metadata()["about"]))
            if about.pop("format") != FORMAT:
                raise ValueError(f"not of the format {FORMAT!r}")
            owner, constants = str(about.pop("sha256")), build(Constants, about, FILE)
            mean_D, spread_RD = tensors.get_tensor("mean").float(), tensors.get_tensor("spread").float()
    except (SafetensorError, KeyError, TypeError, ValueError) as e:
        raise ClaraError(f"{file} cannot be read as a background ({e}): measure it again, or delete it.") from e
    if owner != sha256:
        raise ClaraError(f"{file} was measured with other weights ({owner[:12]}, here {sha256[:12]}): delete it.")
    return Background(mean_D, spread_RD, constants)


def background_of(name: str, sha256: str) -> Background | None:
    """The background of a checkpoint by its name, where it lies in a folder of this machine. None for any other."""
    try:
        read = catalog.parse_name(name)
    except ClaraError:  # an embedder that was put together in memory
        return None
    if read.kind == "dir" or (read.kind == "checkpoint" and catalog.checkpoint(read.value).source == "package"):
        return read_background(catalog.checkpoint_folder(read), sha256)
    return None


def measure(
    background_ND: Tensor, audio_BD: Tensor, text_KD: Tensor, fits_BK: Tensor, unrelated_UD: Tensor, scale: float
) -> Background:
    """Measure a background.

    Args:
        background_ND: embeddings of silence, noise, speech and whatever else one does not look for.
        audio_BD: other clips, with one sound or several.
        text_KD: texts of those sounds.
        fits_BK: True where clip b has sound k.
        unrelated_UD: texts that nothing in `audio_BD` fits, for the floor of a search.
        scale: the model's.
    """
    mean_D = background_ND.mean(0)
    _, size_R, right_RD = torch.linalg.svd(background_ND - mean_D, full_matrices=False)
    spread_RD = (size_R[:, None] * right_RD)[:DIRECTIONS] / math.sqrt(len(background_ND))
    z_BK = _z(audio_BD, text_KD, mean_D, spread_RD).double()
    slope, offset = _sigmoid(z_BK, fits_BK)
    strays_U = _z(audio_BD, unrelated_UD, mean_D, spread_RD).max(0).values
    one_B = fits_BK.sum(1) == 1
    logits_BK = scale * audio_BD[one_B] @ text_KD.T
    cool = temperature(logits_BK, fits_BK[one_B].int().argmax(1))
    floor = float(np.quantile(strays_U.numpy(), 1 - STRAY))
    constants = Constants(slope, offset, floor, cool, len(background_ND), len(audio_BD))
    return Background(mean_D, spread_RD, constants)


def _z(audio_BD: Tensor, text_KD: Tensor, mean_D: Tensor, spread_RD: Tensor) -> Tensor:
    return (audio_BD - mean_D) @ text_KD.T / (spread_RD @ text_KD.T).norm(dim=0).clamp_min(1e-6)


def _sigmoid(z_BK: Tensor, fits_BK: Tensor) -> tuple[float, float]:
    """Slope and offset of a logistic regression in which a SHARE of the pairs fits."""
    true_BK = fits_BK.double()
    share = float(true_BK.mean())
    weight_BK = torch.where(fits_BK, SHARE / share, (1 - SHARE) / (1 - share)).double()
    parameters = torch.tensor([1.0, -3.0], dtype=torch.float64, requires_grad=True)

    def loss() -> Tensor:
        return binary_cross_entropy_with_logits(parameters[0] * z_BK + parameters[1], true_BK, weight_BK)

    minimise([parameters], loss, 200)
    slope, offset = parameters.tolist()
    return slope, offset
