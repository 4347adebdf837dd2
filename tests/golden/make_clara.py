"""The first CLARA's own model, front-end, tokenizer and Lightning file (knoriy/CLARA, Apache-2.0), for parity.

    python tests/golden/make_clara.py PEER [FOLDER]

PEER is a checkout of knoriy/CLARA at faec8a5. Needs librosa, einops, pytorch-lightning (2.1) and, for the ids that it
was trained on, transformers below 5. Writes clara.safetensors: the weights of a small model with random values, its
hyper-parameters, and what its own code gives for `clips.py`; and original.ckpt, which is not kept. It is run in a
process of its own, since the peer's package is called clara too. Packages for its data loading alone are left out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from clips import TEXTS, clip

RATE = 48000
SECONDS = (0.9, 0.3, 1.31)
CAPTIONS = (*TEXTS, "the train to town takes ten", "a person talking in a angry voice", "雨の音 – it's 3.14!")
SIZES = {
    "output_dim": 12,
    "text_encoder_embedding": 16,
    "text_encoder_pos_embedding_size": 40,
    "text_encoder_layers": 2,
    "text_encoder_heads": 4,
    "text_encoder_out_channels": 20,
    "text_encoder_project": 14,
    "audio_encoder_layers": 2,
    "audio_encoder_embedding": 18,
    "audio_encoder_pos_embedding_size": 64,
    "audio_encoder_num_latents": 24,
    "audio_encoder_latent_dim": 24,
    "audio_encoder_project": 10,
    "audio_encoder_cross_heads": 1,
    "audio_encoder_latent_heads": 3,
    "audio_encoder_cross_dim_head": 8,
    "audio_encoder_latent_dim_head": 8,
}


def import_peer(folder: Path) -> tuple[Any, Any, Any]:
    """Its Lightning module, its tokenizer and its mel function."""
    sys.path.insert(0, str(folder))
    for name in ("torchdata", "torchdata.datapipes", "torchdata.datapipes.iter", "torchdata.datapipes.utils", "boto3"):
        sys.modules[name] = MagicMock()
    match = ModuleType("torch.utils.data.datapipes.utils.common")
    match.match_masks = None
    sys.modules.setdefault(match.__name__, match)
    package = ModuleType("clara.datamodule")  # its __init__ imports every corpus
    package.__path__ = [str(folder / "clara/datamodule")]
    sys.modules["clara.datamodule"] = package
    from clara.clara import PLCLARA
    from clara.datamodule.utils import get_log_melspec
    from clara.text.tokeniser import Tokeniser

    return PLCLARA, Tokeniser(), get_log_melspec


@torch.no_grad()
def shake(model: torch.nn.Module, ids: list[int]) -> None:
    """Random norms and biases too, all of them within 16 bits; only the rows of the vocabulary that are used."""
    for name, x in model.named_parameters():
        x.add_(0.2 * torch.randn_like(x))
        if name.endswith("text_embedding.weight"):
            kept = x[ids].clone()
            x.zero_()
            x[ids] = kept
        x.copy_(x.half())


def save_checkpoint(model: Any, path: Path) -> None:
    """As its Trainer does, optimiser and callbacks included."""
    import pytorch_lightning as pl

    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=path.parent)
    trainer.strategy.connect(model)
    model.trainer = trainer
    trainer.strategy.setup_optimizers(trainer)
    trainer.save_checkpoint(path)


@torch.no_grad()
def vectors(model: Any, tokenizer: Any, mel: Any) -> dict[str, Tensor]:
    """Each clip and text alone, since nothing masks a batch's padding; features, then both orders of projecting."""
    unit = torch.nn.functional.normalize
    waves = [clip(s, RATE, i).astype(float) for i, s in enumerate(SECONDS)]
    mels = [mel(w, RATE) for w in waves]
    audio_BW = torch.cat([model.encode_audio(m.T[None]) for m in mels])
    text_BW = torch.cat([model.encode_text(torch.tensor([tokenizer.encode(t)])) for t in CAPTIONS])
    to_audio, to_text = model.model.audio_transform, model.model.text_transform
    return {
        "mel": mels[1],
        "audio": unit(to_audio(audio_BW), dim=-1),
        "text": unit(to_text(text_BW), dim=-1),
        "legacy_audio": to_audio(unit(audio_BW, dim=-1)),  # not scaled again there
        "legacy_text": unit(to_text(unit(text_BW, dim=-1)), dim=-1),
        "forward_audio": model(torch.tensor([tokenizer.encode(CAPTIONS[0])]), mels[0].T[None])[1],
    }


def main(peer: Path, out: Path) -> None:
    """Write both files."""
    from safetensors.torch import save_file

    module, tokenizer, mel = import_peer(peer)
    torch.manual_seed(0)
    model = module(**SIZES).eval()
    ids = [tokenizer.encode(t) for t in CAPTIONS]
    used = sorted({i for row in ids for i in row})
    shake(model, used)
    save_checkpoint(model, out / "original.ckpt")
    state = {f"weights.{k}": v.half().contiguous() for k, v in model.state_dict().items()}
    embedding = state.pop("weights.model.text_embedding.weight")
    tensors = {**state, "used_ids": torch.tensor(used), "used_rows": embedding[used], **vectors(model, tokenizer, mel)}
    notes = {"ids": json.dumps(ids), "hyper_parameters": json.dumps(dict(model.hparams))}
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, out / "clara.safetensors", notes)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else Path(__file__).parent))
