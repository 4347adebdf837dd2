"""M2D-CLAP's own portable runtime (nttcslab/m2d, NTT's licence: nothing of it is kept) with random weights, for parity.

    python tests/golden/make_m2d.py PEER [FOLDER]

PEER is a checkout of nttcslab/m2d at f0c4128. Needs einops and nnAudio. Writes m2d-2024.safetensors and
m2d-2025.safetensors: the weights of small models with random values and what its own code gives for `clips.py`; the
peer's own files in folders of their own, and the text encoders' folder, which are not kept.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from golden.clips import TEXTS, clip
from vocabularies import save_bert

RATE = 16000
SECONDS = (0.9, 0.3, 2.0)  # two pieces, one, four
FOLDERS = {"2024": "m2d_clap_vit_base-80x64p16x16-240128", "2025": "m2d_clap_vit_base-80x71p16x16p16kpBpTI-2025"}
FILE = "checkpoint-30.pth"
TEXT = {
    "vocab_size": 88,
    "hidden_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
}
SMALL = {"2024": {"depth": 2, "mlp_ratio": 0.25}, "2025": {"depth": 1, "mlp_ratio": 0.5}}


@torch.no_grad()
def shake(module: torch.nn.Module) -> torch.nn.Module:
    """Random biases and norms too, all within 16 bits."""
    for name, x in module.named_parameters():
        if name == "norm_stats":
            x.copy_(torch.tensor([-6.75, 4.25]))
        elif "token" in name or name == "pos_embed":
            x.copy_(0.3 * torch.randn_like(x))
        else:
            x.add_((0.1 if x.ndim < 2 else 0.05) * torch.randn_like(x))
        x.copy_(x.half())
    return module


def save_peer(peer: Any, version: str, out: Path, sizes: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Its file, of its own modules with random weights; returns the tensors."""
    from transformers import AutoModel

    bins, frames = (int(n) for n in FOLDERS[version].split("-")[1].split("p")[0].split("x"))
    vit = {"in_chans": 1, "img_size": [bins, frames], "patch_size": [16, 16], "norm_layer": NORM, **sizes}
    audio, width = peer.LocalViT(**vit), sizes["embed_dim"]
    if version == "2024":  # as its training saves it
        audio.audio_proj = peer.get_MLP_projector(width, width, width)
        audio.logit_scale = torch.nn.Parameter(torch.tensor(3.0))
        audio.mask_token = torch.nn.Parameter(torch.ones(1, 1, 4))
        audio.decoder_embed = torch.nn.Linear(4, 4)
        state = shake(audio).state_dict()
    else:
        audio.audio_proj = peer.add_semantic_audio_proj(1, width)
        audio.text_proj = torch.nn.Linear(width, width)
        text = AutoModel.from_pretrained(out / "text").state_dict()
        state = {f"backbone.{k}": v for k, v in shake(audio).state_dict().items()}
        state |= {f"text_encoder.text_encoder.{k}": v for k, v in text.items()}
    (out / FOLDERS[version]).mkdir()
    torch.save({"model": state, "epoch": 30}, out / FOLDERS[version] / FILE)
    return state


NORM = partial(torch.nn.LayerNorm, eps=1e-6)


@torch.no_grad()
def main(peer_folder: Path, out: Path, full: bool = False) -> None:
    """Write the files."""
    from safetensors.torch import save_file
    from transformers import BertConfig, BertModel

    sys.path.insert(0, str(peer_folder / "examples"))
    import portable_m2d as peer

    torch.manual_seed(0)
    text = save_bert(out / "text")
    options = {"vocab_size": 88} if full else TEXT
    shake(BertModel(BertConfig(**options))).save_pretrained(text)
    for encoder in (peer.GTETextEncoder, peer.BertXEncoder):  # its authors' hub ids
        encoder.__init__.__defaults__ = (str(text),)
    own = peer.LocalViT
    for version in FOLDERS:
        sizes = {"embed_dim": 48, "num_heads": 1, **SMALL[version]}
        sizes = {"embed_dim": 768, "depth": 12, "num_heads": 12, "mlp_ratio": 4} if full else sizes
        state = save_peer(peer, version, out, sizes)
        peer.LocalViT = lambda sizes=sizes, **fixed: own(**{**fixed, **sizes})
        model = peer.PortableM2D(out / FOLDERS[version] / FILE, flat_features=True)
        peer.LocalViT = own
        waves = [torch.from_numpy(clip(s, RATE, i))[None] for i, s in enumerate(SECONDS)]
        tensors = {f"weights.{k}": v.half() for k, v in state.items() if not full}
        if version == "2024" and not full:  # the text encoder is in the other file
            tensors["mel"] = model.to_normalized_feature(waves[1])[0, 0]
        tensors["audio"] = torch.cat([model.encode_clap_audio(w) for w in waves])
        tensors["text"] = model.encode_clap_text(list(TEXTS))
        tensors = {k: v.contiguous().clone() for k, v in tensors.items()}
        save_file(tensors, out / f"m2d-{version}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else Path(__file__).parent), "--full" in sys.argv)
