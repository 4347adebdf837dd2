"""ParaCLAP's own model (KeiKinn/ParaCLAP, no licence stated: nothing of it is kept) with random weights, for parity.

    python tests/golden/make_paraclap.py PEER [FOLDER]

PEER is a checkout of KeiKinn/ParaCLAP at ddeca94. Writes paraclap.safetensors: the weights of a small model with random
values and what its own code gives for `clips.py`; best.pth.tar and the folder bert, which are not kept.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from golden.clips import TEXTS, clip
from vocabularies import save_bert

RATE = 16000
SECONDS = (0.9, 0.3, 2.0)
SPEECH = {
    "hidden_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": [8] * 7,
    "conv_bias": True,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 8,
}
TEXT = {
    "vocab_size": 88,
    "hidden_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
}


@torch.no_grad()
def main(peer: Path, out: Path) -> None:
    """Write the files."""
    from safetensors.torch import save_file
    from transformers import AutoTokenizer, BertConfig, BertModel, Wav2Vec2Config, Wav2Vec2Model

    sys.path.insert(0, str(peer))
    from models_xin import CLAP
    from utils import compute_similarity

    torch.manual_seed(0)
    speech, text = out / "speech", save_bert(out / "bert")
    Wav2Vec2Model(Wav2Vec2Config(**SPEECH)).save_pretrained(speech)
    BertModel(BertConfig(**TEXT)).save_pretrained(text)
    model = CLAP(str(speech), str(text), embedding_dim=16).eval()
    for x in model.parameters():
        x.add_((0.1 if x.ndim < 2 else 0.05) * torch.randn_like(x)).copy_(x.half())
    torch.save(model.state_dict(), out / "best.pth.tar")
    tokens = AutoTokenizer.from_pretrained(text)(list(TEXTS), padding=True, truncation=True, return_tensors="pt")
    given = [model(torch.from_numpy(clip(s, RATE, i))[None], tokens) for i, s in enumerate(SECONDS)]
    audio_BD, text_BD, scale = torch.cat([g[1] for g in given]), given[0][0], given[0][2]
    tensors = {f"weights.{k}": v.half() for k, v in model.state_dict().items()}
    tensors |= {"audio": audio_BD, "text": text_BD, "similarity": compute_similarity(scale, audio_BD, text_BD)}
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, out / "paraclap.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else Path(__file__).parent))
