"""M2D-CLAP (nttcslab/m2d, examples/portable_m2d.py): files of 2024 (80x608, GTE base) and 2025 (80x1001, BERT base).

Their licence allows evaluation and forbids passing them on, a converted folder included. A file's folder carries the
configuration in its name ('m2d_clap_vit_base-80x1001p16x16p16kpBpTI-2025'): keep it. Files without 'TI' hold no text
encoder: GTE base is taken from where the tokenizer is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clara.config import ModelConfig, Spec
from clara.errors import ClaraError
from clara.text.tokenizer import build_tokenizer
from clara.towers.base import TEXT_TOWERS
from clara.towers.hf_text import BERT_RULES
from clara.towers.m2d import M2D_RULES
from clara.towers.remap import Drop, Rename, prefixed, remap
from clara.zoo.convert import Foreign, converter
from clara.zoo.converters.measure import HEAD_WIDTH, Measured, bert
from clara.zoo.unpickle import load_tensors

LICENCE = "NTT's own (LICENSE.pdf): evaluation; not to be passed on, converted either"
DB = 10.0 / math.log(10.0)  # decibels in a natural logarithm of power
RATES = {"16k": (16000, 400, 160, 8000.0), "32k": (32000, 800, 320, 16000.0)}  # Hz, window, hop, upper end
TEXTS = {"A": ("thenlper/gte-base", "mean"), "B": ("google-bert/bert-base-uncased", "cls")}
_PLACE = r"(?:backbone\.|(?:module\.)?ar\.runtime\.backbone\.)?"
_BERT = r"text_encoder\.(?:text_encoder|model)\."
RULES = (
    *prefixed(M2D_RULES, _PLACE, "audio."),
    Rename(rf"{_PLACE}(audio|text)_proj\.([02]\.(?:weight|bias))", r"\1_head.\2"),
    Rename(rf"{_PLACE}text_proj\.(weight|bias)", r"text_head.\1"),
    Rename(rf"{_PLACE}logit_scale", "log_scale"),
    Drop(rf"{_BERT}pooler\.dense\.(weight|bias)", "not in a text's vector"),
    *prefixed(BERT_RULES, _BERT, "text."),
)


@dataclass(frozen=True)
class _Name:
    """What a folder's name says: bins and frames of the picture, the patch, the rate, the text encoder's letter and
    whether the file holds it."""

    size: tuple[int, int]
    patch: tuple[int, int]
    rate: str
    text: str
    included: bool


@converter("m2d", LICENCE)
def convert(path: Path, tokenizer: str | None = None) -> Foreign:
    """Read a `checkpoint-….pth` in its own folder. `tokenizer` is a folder or hub id of GTE base or BERT base, the
    weights beside it where the file holds none.

    Raises:
        ClaraError: a folder's name that says nothing, a text encoder that is not supported, or odd tensors.
    """
    name = _read_name(path)
    found = load_tensors(path, "model")
    tensors = remap(found, RULES, str(path))
    # a runtime's file holds no temperature; training began at this one
    tensors.setdefault("log_scale", torch.tensor(math.log(1 / 0.07)))
    hub_id, pooling = TEXTS[name.text]
    m = Measured(tensors, str(path))
    if name.included:
        text = bert(m, pooling)
    else:
        tower = TEXT_TOWERS.create(Spec("hf_text", {"name": tokenizer or hub_id, "pooling": pooling}))
        text = tower.resolved(Spec("hf_text"))
        tensors |= {f"text.{key}": tensor for key, tensor in tower.state_dict().items()}
    spec = Spec("hf", {"name": tokenizer or hub_id, "context_length": 512})
    own = build_tokenizer(spec, path.parent)
    size = m.shape("text.encoder.transformer.embeddings.word_embeddings.weight")[0]
    if own.vocab_size != size:
        raise ClaraError(f"{path}: the text encoder has {size} tokens, the tokenizer {own.vocab_size}: not {hub_id}'s.")
    config = ModelConfig(
        embed_dim=m.shape("audio.token")[2],
        front_end=Spec("log_mel", _front_end(name, _norm_stats(found))),
        audio=Spec("m2d", _audio(m, name)),
        text=text,
        tokenizer=spec,
        audio_head=_head(m, "audio"),
        text_head=_head(m, "text"),
    )
    return Foreign(config, tensors, own, path)


def _read_name(path: Path) -> _Name:
    folder = path.absolute().parent.name
    found = re.match(r"[^-]+-(\d+)x(\d+)p(\d+)x(\d+)(?:p(\w+?))?(?:p([A-Z]))?(?:p([A-Z]+))?(?:-|$)", folder)
    if not found:
        raise ClaraError(
            f"{folder!r} is not a folder name of M2D: expected its checkpoint in the folder it came in, such as "
            "m2d_clap_vit_base-80x1001p16x16p16kpBpTI-2025, because that name holds its configuration."
        )
    bins, frames, high, wide, rate, text, extra = found.groups()
    rate, text = rate or "16k", text or "A"
    if rate not in RATES or text not in TEXTS or extra not in (None, "TI"):
        raise ClaraError(
            f"{folder!r}: rate {rate!r}, text encoder {text!r}, extra {extra!r}; known are rates of {list(RATES)}, the "
            "text encoders A (GTE base) and B (BERT base), and the extra TI (text encoder included)."
        )
    return _Name((int(bins), int(frames)), (int(high), int(wide)), rate, text, extra == "TI")


def _norm_stats(found: Mapping[str, Tensor]) -> tuple[float, float]:
    stats = next((v for k, v in found.items() if re.fullmatch(f"{_PLACE}norm_stats", k)), None)
    if stats is None or stats.numel() != 2:
        raise ClaraError("The checkpoint lacks norm_stats, the mean and deviation of its log-mel frames.")
    mean, std = stats.flatten().tolist()
    return mean, std


def _front_end(name: _Name, stats: tuple[float, float]) -> dict[str, Any]:
    """nnAudio's log-mel. A minute is taken at once, piece by piece, as its authors' code takes a clip of any length."""
    rate, window, hop, f_max = RATES[name.rate]
    return {
        "sample_rate": rate,
        "window_seconds": 60.0,
        "n_fft": window,
        "win_length": window,
        "hop_length": hop,
        "n_mels": name.size[0],
        "f_min": 50.0,
        "f_max": f_max,
        "mel_scale": "slaney",
        "mel_norm": "slaney",
        "normalize": "fixed",
        "mean": stats[0] * DB,
        "std": stats[1] * DB,
        "floor_db": 1000.0,
        "offset": torch.finfo(torch.float32).eps,
        "min_frames": 1,
        "pad_mode": "reflect",
    }


def _audio(m: Measured, name: _Name) -> dict[str, Any]:
    width = m.shape("audio.token")[2]
    layers = m.count(r"audio\.semantic\.layers\.(\d+)\.")
    options = {
        "bins": name.size[0],
        "window_frames": name.size[1],
        "patch": list(name.patch),
        "width": width,
        "layers": m.count(r"audio\.encoder\.layers\.(\d+)\."),
        "heads": max(1, width // HEAD_WIDTH),
        "hidden": m.shape("audio.encoder.layers.0.linear1.weight")[0],
        "semantic_layers": layers,
    }
    if layers:
        options["semantic_hidden"] = m.shape("audio.semantic.layers.0.linear1.weight")[0]
    return options


def _head(m: Measured, side: str) -> Spec:
    if f"{side}_head.0.weight" in m.tensors:
        return Spec("mlp", {"hidden": m.shape(f"{side}_head.0.weight")[0]})
    return Spec("linear", {"bias": True}) if f"{side}_head.weight" in m.tensors else Spec("identity")
