"""LAION-CLAP's own model and wrapper (`pip install laion_clap`, CC0) with random weights, for parity.

    python tests/golden/make_laion.py [FOLDER]

writes laion-unfused.safetensors and laion-fused.safetensors: the weights of a small model as its own file has them,
less what is computed from nothing, and the vectors its own wrapper gives for `clips.py`, arrays and strings in. Its
classes are used as they are, in sizes it does not name. Where it draws at random, the draw is the middle one; and it
shrinks a long clip's picture without antialiasing, as at the time the published weights were trained with it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from claps import save_roberta, shake  # noqa: E402
from clips import TEXTS, clip  # noqa: E402

RATE = 48000
SECONDS = {False: (0.4, 3.1, 10.0), True: (0.4, 10.0, 10.005, 17.3)}
COMPUTED = (
    ".conv_real.weight",
    ".conv_imag.weight",
    ".melW",
    ".relative_position_index",
    ".attn_mask",
    ".position_ids",
)
SMALL = {"embed_dim": 8, "depths": [2, 1], "num_heads": [1, 2], "num_classes": 2, "window_size": 8}
TEXT = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 24}


def import_peer(text: Path) -> Any:
    """laion_clap, which downloads three tokenizers and RoBERTa on import and use: they are taken from `text`."""
    import transformers
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

    own = RobertaTokenizer.from_pretrained(str(text))
    for kind in (transformers.BertTokenizer, transformers.BartTokenizer, RobertaTokenizer):
        kind.from_pretrained = classmethod(lambda cls, *names: own)
    base = RobertaConfig(vocab_size=len(own), max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5)
    RobertaModel.from_pretrained = classmethod(lambda cls, *names: cls(base))
    import laion_clap

    return laion_clap


def fix_draws() -> None:
    """The middle one of what it draws from, and no antialiasing (torchvision < 0.17)."""
    import torchvision

    np.random.choice = lambda options: options[len(options) // 2]
    resize = torchvision.transforms.Resize
    torchvision.transforms.Resize = lambda size: resize(size, antialias=False)


def peer(folder: Path, fused: bool, model: str | None = None) -> tuple[Any, Path]:
    """Its wrapper around random weights, read from the file that is written here: (wrapper, file). `model` is one of
    its own sizes ('HTSAT-tiny'); without, a small one."""
    clap = import_peer(folder / "roberta").CLAP_Module(fused, "cpu", model or "HTSAT-tiny")
    if model is None:
        _shrink(clap.model, fused)
    shake(clap.model)
    if model is None:
        for name, x in clap.model.state_dict().items():
            if x.is_floating_point() and x.ndim and not name.endswith(COMPUTED):
                x.copy_(x.half())  # so that 16 bits hold what is stored
    state = {f"module.{k}": v for k, v in clap.model.state_dict().items()}
    state["module.text_branch.embeddings.position_ids"] = torch.arange(514)[None]
    weights = folder / f"{model or 'small'}-{fused}.pt"
    # as its trainer saves: a training state around the tensors, numpy numbers in it, an early protocol
    training = {"epoch": 3, "name": "x", "state_dict": state, "best": np.float64(0.5)}
    torch.save(training, weights, pickle_protocol=4, _use_new_zipfile_serialization=False)
    clap.load_ckpt(str(weights), verbose=False)
    return clap, weights


def _shrink(model: Any, fused: bool) -> None:
    from clap_module.htsat import HTSAT_Swin_Transformer
    from clap_module.model import MLPLayers
    from transformers import RobertaConfig, RobertaModel

    kind = {"enable_fusion": fused, "fusion_type": "aff_2d" if fused else "None"}
    model.audio_branch = HTSAT_Swin_Transformer(config=model.audio_cfg, **SMALL, **kind)
    old = model.text_branch.config
    sizes = {"vocab_size": old.vocab_size, "max_position_embeddings": 82, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
    model.text_branch = RobertaModel(RobertaConfig(**sizes, **TEXT))
    model.audio_projection = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 12))
    model.text_projection = nn.Sequential(nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 12))
    model.audio_transform, model.text_transform = MLPLayers([12, 12, 12]), MLPLayers([12, 12, 12])
    model.eval()


def waves(fused: bool) -> list[np.ndarray]:
    """The clips, float32 at 48 kHz; the fused model's beyond its ten seconds too."""
    return [clip(s, RATE, i) for i, s in enumerate(SECONDS[fused])]


def vectors(clap: Any, fused: bool) -> dict[str, torch.Tensor]:
    """What its wrapper gives, one clip at a time."""
    audio = [clap.get_audio_embedding_from_data([wave]) for wave in waves(fused)]
    return {
        "audio": torch.from_numpy(np.concatenate(audio)),
        "text": torch.from_numpy(clap.get_text_embedding(list(TEXTS))),
    }


def main(out: Path) -> None:
    """Write both files."""
    import tempfile

    from safetensors.torch import save_file

    fix_draws()
    for fused in (False, True):
        with tempfile.TemporaryDirectory(prefix="golden") as name:
            save_roberta(Path(name) / "roberta")
            torch.manual_seed(0)
            clap, weights = peer(Path(name), fused)
            state = torch.load(weights, weights_only=False)["state_dict"]
            kept = {k: v for k, v in state.items() if not k.endswith(COMPUTED)}
            tensors = {f"weights.{k}": v.half() if v.ndim else v for k, v in kept.items()}
            computed = {k: list(v.shape) for k, v in state.items() if k.endswith(COMPUTED)}
            tensors = {k: v.contiguous().clone() for k, v in (tensors | vectors(clap, fused)).items()}
            path = out / f"laion-{'fused' if fused else 'unfused'}.safetensors"
            save_file(tensors, path, {"computed": json.dumps(computed)})


if __name__ == "__main__":
    main(Path(*sys.argv[1:]) if sys.argv[1:] else Path(__file__).parent)
