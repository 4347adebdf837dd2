"""WavCaps' own retrieval model with random weights, for parity. Its code has no package and no licence: it is read from
a checkout of XinhaoMei/WavCaps, and nothing of it is kept.

    python tests/golden/make_wavcaps.py CHECKOUT [FOLDER]      # needs torchlibrosa

writes wavcaps-cnn14.safetensors and wavcaps-htsat.safetensors: the weights of a small model as its own file has them,
less what is computed from nothing, and the vectors it gives for `clips.py`, each clip alone, filled with silence to ten
seconds as its zero-shot script does, each text through its own `text_preprocess`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from clips import TEXTS, clip  # noqa: E402
from make_msclap import COMPUTED, shake, text_model  # noqa: E402

RATE = 32000
CLIPS = {"cnn14": (0.4, 10.0, 13.3), "htsat": (0.4, 7.3, 10.0)}  # seconds
CONFIG = {
    "embed_size": 1024,
    "temp": 0.07,
    "embed_regularization": True,
    "audio_args": {"sr": RATE, "n_fft": 1024, "hop_length": 320, "f_min": 50, "f_max": 14000, "n_mels": 64},
    "training": {"spec_augmentation": True},
}  # its settings/pretrain.yaml
ENCODERS = {"cnn14": {"type": "cnn", "model": "Cnn14"}, "htsat": {"type": "transformer", "model": "htsat"}}


def peer(kind: str, checkout: Path, folder: Path, small: bool) -> tuple[nn.Module, Path, Path]:
    """Its model with random weights: (model, the file they were saved to, text folder)."""
    sys.path[:0] = [str(checkout / "retrieval")]
    for name in ("wandb", "loguru", "sentence_transformers", "ruamel", "ruamel.yaml"):  # of its training and logs
        stub = sys.modules.setdefault(name, ModuleType(name))
        vars(stub).update(logger=SimpleNamespace(), util=SimpleNamespace(), yaml=SimpleNamespace())
    from models import audio_encoder
    from models.ase_model import ASE
    from models.text_encoder import MODELS
    from transformers import BertModel, BertTokenizer

    text = text_model(folder / "bert", small)
    MODELS[str(text)] = (BertModel, BertTokenizer, 16 if small else 768)
    frozen = {"pretrained": False, "freeze": False}
    config = {
        **CONFIG,
        "audio_encoder_args": ENCODERS[kind] | frozen,
        "text_encoder_args": {"type": str(text)} | frozen,
    }
    torch.manual_seed(0)
    if small:
        config["embed_size"] = 16
    model = ASE(config)
    if small:
        encoder, width = _small(kind, audio_encoder, config)
        model.audio_encoder.audio_enc, model.audio_proj[0] = encoder, nn.Linear(width, 16)
    with torch.no_grad():
        model.temp.fill_(0.05)
    weights = folder / f"{kind}.pt"
    torch.save({"model": shake(model, small).state_dict(), "epoch": 3}, weights)
    model.load_state_dict(torch.load(weights)["model"])  # as its scripts do
    return model.eval(), weights, text


def _small(kind: str, module: Any, config: dict) -> tuple[nn.Module, int]:
    if kind == "htsat":
        sizes = {"embed_dim": 8, "depths": [2, 1, 1, 1], "num_heads": [1, 1, 2, 2], "num_classes": 3}
        return module.HTSAT_Swin_Transformer(config=config, **sizes), 64
    from models.cnns import ConvBlock

    encoder, widths = module.Cnn14(config), (1, 4, 4, 6, 6, 8, 8)
    for i in range(6):
        setattr(encoder, f"conv_block{i + 1}", ConvBlock(widths[i], widths[i + 1]))
    return encoder, 8


@torch.no_grad()
def vectors(model: nn.Module, kind: str) -> tuple[Tensor, Tensor]:
    """Before they are scaled to unit length."""
    from data_handling.text_transform import text_preprocess

    audio = []
    for i, seconds in enumerate(CLIPS[kind]):
        wave_1T = torch.from_numpy(clip(seconds, RATE, i))[None]
        wave_1T = nn.functional.pad(wave_1T, (0, max(0, 10 * RATE - wave_1T.shape[1])))
        audio.append(model.audio_proj(model.audio_encoder(wave_1T)))
    text = model.text_encoder([text_preprocess(t) for t in TEXTS])
    return torch.cat(audio), model.text_proj(text[:, 0])


def main(checkout: Path, out: Path) -> None:
    """Write both files."""
    from safetensors.torch import save_file

    for kind in CLIPS:
        with tempfile.TemporaryDirectory(prefix="golden") as folder:
            model, weights, _ = peer(kind, checkout, Path(folder), small=True)
            state = torch.load(weights)["model"]
            tensors = {f"weights.{k}": v.half() if v.ndim else v for k, v in state.items() if not k.endswith(COMPUTED)}
            tensors = {k: v.contiguous().clone() for k, v in tensors.items()}
            tensors["audio"], tensors["text"] = vectors(model, kind)
            computed = {k: list(v.shape) for k, v in state.items() if k.endswith(COMPUTED)}
            save_file(tensors, out / f"wavcaps-{kind}.safetensors", {"computed": json.dumps(computed)})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(*sys.argv[2:]) if sys.argv[2:] else Path(__file__).parent)
