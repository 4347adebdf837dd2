"""GLAP's own model (`pip install glap_model dasheng einops loguru`, Apache-2.0) with random weights, for parity.

    python tests/golden/make_glap.py [FOLDER]

writes glap.safetensors: the weights of a small model as its own file has them, less what is computed from nothing, a
tiny tokenizer, and the vectors that its own code gives for `clips.py`, waves and strings in. Its classes are used as
they are, built at other sizes; heads stay 64 wide, as in the published model.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path[:0] = [str(Path(__file__).parent)]
from clips import TEXTS, clip  # noqa: E402

RATE = 16000
SECONDS = (0.03, 0.4, 1.97, 2.5, 5.1)  # chunks are of two seconds in the small model
SMALL = {"width": 64, "layers": 2, "mlp_ratio": 1.0, "chunk": 200, "ffn": 32, "embed": 16}
FULL_AUDIO = {"width": 768, "layers": 12, "mlp_ratio": 4.0, "chunk": 1008, "ffn": 256, "embed": 1024}
COMPUTED = (".spectrogram.window", ".mel_scale.fb")


def save_tokenizer(path: Path) -> Path:
    """A sentencepiece model with the layout of SONAR's: <unk> <s> </s>, then pieces."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 20), model_writer=model, vocab_size=48, normalization_rule_name="identity",
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    path.write_bytes(model.getvalue())
    return path


def peer(folder: Path, sizes: dict[str, Any]) -> tuple[nn.Module, Path]:
    """Its model around random weights, and the checkpoint and tokenizer it would be read from: (model, file)."""
    import glap_model.models.audioencoders.dasheng_audioencoder as audio
    import glap_model.models.textencoders.sonar_standalone as sonar
    import glap_model.models.textencoders.sonar_text_encoder as text
    from dasheng.pretrained.pretrained import Dasheng
    from glap_model.models import GLAP

    width, heads = sizes["width"], sizes["width"] // 64
    tokenizer = save_tokenizer(folder / "sentencepiece.source.256000.model")
    pieces = sonar.NllbTokenizer(tokenizer).sp.get_piece_size()
    audio.dasheng_base = lambda *_, **__: Dasheng(
        embed_dim=width, depth=sizes["layers"], num_heads=heads, mlp_ratio=sizes["mlp_ratio"],
        target_length=sizes["chunk"],
    )  # fmt: skip
    text.SonarTextEncoder = lambda **_: sonar.SonarTextEncoder(pieces + 206, 64, 2, 1, sizes["ffn"])
    languages = {code: pieces + 1 + i - 256001 for code, i in sonar.NLLB_LANG_TOKEN_IDS.items()}
    torch.manual_seed(0)
    model = GLAP(audio_encoder_args={}, text_encoder_args={"tokenizer_path": tokenizer}, embed_size=sizes["embed"])
    model.text_encoder.tokenizer._lang_token_to_idx = languages
    _shake(model.eval())
    weights = folder / "glap_checkpoint.pt"
    torch.save({"config": {"outputpath": folder, "sample_rate": RATE}, "model": model.state_dict()}, weights)
    return model, weights


@torch.no_grad()
def _shake(model: nn.Module) -> None:
    """Random biases, norms and running statistics too; all of it fits in 16 bits."""
    for name, x in model.state_dict().items():
        if name.endswith(COMPUTED) or not x.is_floating_point():
            continue
        if name.endswith("running_mean"):
            x.copy_(-30 + 10 * torch.randn_like(x))
        elif name.endswith("running_var"):
            x.copy_(100 + 50 * torch.rand_like(x))
        elif x.ndim < 2:
            x.add_(0.1 * torch.randn_like(x))
        x.copy_(x.half())


@torch.no_grad()
def vectors(model: nn.Module) -> tuple[Tensor, Tensor]:
    """(audio, text) as its own code gives them, clips one by one: beside a louder clip its loudness floor moves."""
    waves = [torch.from_numpy(clip(s, RATE, i))[None] for i, s in enumerate(SECONDS)]
    return torch.cat([model.encode_audio(w) for w in waves]), model.encode_text(list(TEXTS))


def main(out: Path) -> None:
    """Write the file."""
    from safetensors.torch import save_file

    with tempfile.TemporaryDirectory(prefix="golden") as folder:
        model, weights = peer(Path(folder), SMALL)
        kept = {k: v for k, v in model.state_dict().items() if not k.endswith(COMPUTED)}
        tensors = {f"weights.{k}": v.half() if v.is_floating_point() else v for k, v in kept.items()}
        tensors["audio"], tensors["text"] = vectors(model)
        (piece,) = weights.parent.glob("*.model")
        tensors["tokenizer"] = torch.frombuffer(bytearray(piece.read_bytes()), dtype=torch.uint8)
        save_file({k: v.contiguous().clone() for k, v in tensors.items()}, out / "glap.safetensors")


if __name__ == "__main__":
    main(Path(*sys.argv[1:]) if sys.argv[1:] else Path(__file__).parent)
