"""What a picture shows, by a CoCa of open_clip (Yu et al. 2022), any checkpoint of it.

Captions are decoded here, greedily: open_clip's own `generate` imports classes that transformers 5 no longer has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import open_clip
import torch
from torch import Tensor, nn

from clara.errors import ClaraError

if TYPE_CHECKING:
    from PIL.Image import Image

START, END = "<start_of_text>", "<end_of_text>"


@dataclass(frozen=True)
class CocaConfig:
    """A captioner of pictures (CoCa, by open_clip)."""

    model: str = "coca_ViT-L-14"
    """open_clip's name: 'coca_ViT-L-14', 'hf-hub:org/repo' or 'local-dir:folder'."""
    pretrained: str | None = "mscoco_finetuned_laion2b_s13b_b90k"
    """Its tag or a weights file; null for hf-hub and local-dir, which bring their weights."""
    shortest: int = 5
    """Fewest tokens of a caption."""
    longest: int = 30
    """Most tokens of a caption."""
    batch_size: int = 8
    """Pictures per forward pass."""
    device: str = "cpu"
    """'cpu', 'cuda' or 'cuda:N'."""

    def __post_init__(self) -> None:
        if not 0 <= self.shortest < self.longest or self.batch_size < 1:
            raise ClaraError(f"{self}: expected fewer tokens at least than at most, and a batch of at least one.")


@dataclass(frozen=True)
class Coca:
    """A loaded model, the transform of its pictures and its tokenizer."""

    model: nn.Module
    transform: Any
    tokenizer: open_clip.SimpleTokenizer


def load_coca(config: CocaConfig) -> Coca:
    """Load a CoCa. ClaraError: open_clip knows no such model or weights, or it writes no captions."""
    own = ":" in config.model  # hf-hub: and local-dir: bring their weights
    try:
        model, _, transform = open_clip.create_model_and_transforms(
            config.model, None if own else config.pretrained, device=config.device
        )
        tokenizer = open_clip.get_tokenizer(config.model)
    except (RuntimeError, ValueError, OSError) as e:
        raise ClaraError(f"open_clip cannot load {config.model!r}, weights {config.pretrained!r}: {e}") from e
    if not isinstance(model, open_clip.CoCa):
        raise ClaraError(f"{config.model!r} is not a CoCa: it writes no captions. Take coca_ViT-B-32 or coca_ViT-L-14.")
    if not isinstance(tokenizer, open_clip.SimpleTokenizer):
        raise ClaraError(f"{config.model!r} has a tokenizer of its own: only CoCa models with CLIP's can be decoded.")
    return Coca(model.eval(), transform, tokenizer)


def caption(coca: Coca, pictures: Sequence[Image], config: CocaConfig) -> list[str]:
    """One caption per picture, each the same alone or in a batch."""
    out = []
    for i in range(0, len(pictures), config.batch_size):
        pixels_BCHW = torch.stack([coca.transform(p) for p in pictures[i : i + config.batch_size]])
        ends = (coca.tokenizer.sot_token_id, coca.tokenizer.eot_token_id)
        ids_BL = decode(coca.model, pixels_BCHW.to(config.device), ends, config)
        out += [_text(ids_L, coca.tokenizer) for ids_L in ids_BL]
    return out


@torch.inference_mode()
def decode(model: Any, pixels_BCHW: Tensor, ends: tuple[int, int], config: CocaConfig) -> Tensor:
    """The likeliest token after token: ids_BL from the start mark on, the end mark repeated to the longest.

    `ends`: ids of the start and end marks. The end is not allowed within the first `shortest` tokens.
    """
    start, end = ends
    latent, tokens = model.visual(pixels_BCHW)
    latent = nn.functional.normalize(latent, dim=-1)
    ids_BL = torch.full((len(pixels_BCHW), 1), start, device=pixels_BCHW.device)
    done_B = torch.zeros(len(pixels_BCHW), dtype=torch.bool, device=pixels_BCHW.device)
    longest = min(config.longest, model.context_length)
    while ids_BL.shape[1] <= longest and not done_B.all():
        out = model(None, ids_BL, image_latent=latent, image_embs=tokens, output_labels=False)
        logits_BV = out["logits"][:, -1].clone()
        if ids_BL.shape[1] <= config.shortest:
            logits_BV[:, end] = -torch.inf
        next_B = logits_BV.argmax(-1).masked_fill(done_B, end)
        ids_BL = torch.cat([ids_BL, next_B[:, None]], 1)
        done_B |= next_B == end
    return ids_BL


def _text(ids_L: Tensor, tokenizer: open_clip.SimpleTokenizer) -> str:
    text = tokenizer.decode(ids_L.tolist()).split(END)[0].replace(START, "")
    return " ".join(text.split()).removesuffix(" .").strip()
