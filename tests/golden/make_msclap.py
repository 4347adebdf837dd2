"""Microsoft CLAP's own model and wrapper (`pip install msclap`, MIT) with random weights, for parity.

    python tests/golden/make_msclap.py [FOLDER]

writes msclap-2022.safetensors and msclap-2023.safetensors: the weights of a small model as its own file has them, less
what is computed from nothing, and the vectors its own wrapper gives for `clips.py`, files and strings in. Its classes
are used as they are; where its sizes are fixed (CNN14's channels), smaller blocks of its own take their place.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import soundfile as sf
import torch
from torch import nn

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from clips import TEXTS, clip  # noqa: E402
from vocabularies import save_bert, save_gpt2  # noqa: E402

RATE = 44100
CLIPS = {"2022": (0.4, 3.1, 5.0), "2023": (0.4, 3.1, 7.0)}  # seconds
COMPUTED = (".conv_real.weight", ".conv_imag.weight", ".melW", ".relative_position_index", ".attn_mask")


def peer(version: str, folder: Path, small: bool) -> tuple[Any, Path, Path]:
    """Its wrapper around random weights, read from the file that is written here: (wrapper, file, text folder)."""
    import msclap.models.clap as theirs
    from msclap.CLAPWrapper import CLAPWrapper
    from msclap.models.audio import get_audio_encoder

    sizes = {"2022": {"text_model": "bert", "out_emb": 2048}, "2023": {"text_model": "gpt2", "out_emb": 768}}[version]
    theirs.get_audio_encoder = get_audio_encoder
    if small:
        sizes |= {"out_emb": 64 if version == "2023" else 12, "d_proj": 16, "transformer_embed_dim": 16}
        theirs.get_audio_encoder = {"2022": _small_cnn14, "2023": _small_htsat}[version]
    text = text_model(folder / sizes["text_model"], small)

    class Wrapper(CLAPWrapper):
        def read_config_as_args(self, *args: Any, **options: Any) -> Any:
            found = super().read_config_as_args(*args, **options)
            vars(found).update(sizes, text_model=str(text))
            return found

        def read_audio(self, audio_path: str, resample: bool = True) -> Any:  # theirs needs torchcodec
            wave, rate = sf.read(audio_path, dtype="float32")
            assert rate == self.args.sampling_rate, "resampling is not compared"
            return torch.from_numpy(wave)[None], rate

    weights = folder / f"CLAP_weights_{version}.pth"
    torch.manual_seed(0)
    torch.save({"model": {}}, weights)
    model = shake(Wrapper(weights, version).clap, small)  # loads nothing, and does not say so: strict=False
    torch.save({"model": model.state_dict()}, weights)
    wrapper = Wrapper(weights, version)
    if not hasattr(wrapper.tokenizer, "encode_plus"):  # gone from transformers 5
        type(wrapper.tokenizer).encode_plus = lambda self, text, **options: self(text, **options)
    return wrapper, weights, text


def text_model(folder: Path, small: bool) -> Path:
    """A random BERT or GPT-2 (by the folder's name) and a tokenizer, as transformers saves them."""
    from transformers import AutoModel, BertConfig, GPT2Config

    if folder.name == "bert":
        save_bert(folder)
        few = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 24}
        config = BertConfig(vocab_size=88, **(few | {"max_position_embeddings": 100} if small else {}))
    else:
        save_gpt2(folder)
        few = {"n_embd": 16, "n_layer": 1, "n_head": 1, "n_positions": 77}
        config = GPT2Config(vocab_size=265, **(few if small else {}))
    AutoModel.from_config(config).save_pretrained(folder)
    return folder


def _small_cnn14(name: str) -> type:
    from msclap.models.audio import Cnn14, ConvBlock

    class Small(Cnn14):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            widths = (1, 4, 4, 6, 6, 8, 8)
            for i in range(6):
                setattr(self, f"conv_block{i + 1}", ConvBlock(widths[i], widths[i + 1]))
            self.fc1 = nn.Linear(8, args[-1])
            self.fc_audioset = nn.Linear(args[-1], 3)

    return Small


def _small_htsat(name: str) -> type:
    from msclap.models import config
    from msclap.models.htsat import HTSAT_Swin_Transformer, HTSATWrapper

    class Small(HTSATWrapper):
        def __init__(self, *args: Any) -> None:
            nn.Module.__init__(self)
            sizes = {"embed_dim": 8, "depths": [2, 1, 1, 1], "num_heads": [1, 1, 2, 2], "num_classes": 3}
            self.htsat = HTSAT_Swin_Transformer(config=config, **sizes)

    return Small


@torch.no_grad()
def shake(model: nn.Module, small: bool) -> nn.Module:
    """Random biases, norms and running statistics too; of a small model all that is stored in 16 bits fits in them."""
    for name, x in model.state_dict().items():
        if name.endswith(COMPUTED) or not x.is_floating_point() or name in ("logit_scale", "temp"):
            continue
        if name.endswith("running_mean"):
            x.copy_(-30 + 10 * torch.randn_like(x) if ".bn0." in name else 0.1 * torch.randn_like(x))
        elif name.endswith("running_var"):
            x.copy_(100 + 50 * torch.rand_like(x) if ".bn0." in name else 0.5 + torch.rand_like(x))
        elif x.ndim < 2:
            x.add_(0.1 * torch.randn_like(x))
        elif small:
            x.normal_(0, 1 if "embedding" in name or "wte" in name else (2 / x[0].numel()) ** 0.5)
        if small:
            x.copy_(x.half())
    return model


def files(version: str, folder: Path) -> list[str]:
    """The clips as 16-bit files."""
    paths = []
    for i, seconds in enumerate(CLIPS[version]):
        paths.append(str(folder / f"{i}.wav"))
        sf.write(paths[-1], clip(seconds, RATE, i), RATE, subtype="PCM_16")
    return paths


def main(out: Path) -> None:
    """Write both files."""
    import tempfile

    from safetensors.torch import save_file

    for version in CLIPS:
        with tempfile.TemporaryDirectory(prefix="golden") as folder:
            wrapper, weights, _ = peer(version, Path(folder), small=True)
            state = torch.load(weights)["model"]
            tensors = {f"weights.{k}": v.half() if v.ndim else v for k, v in state.items() if not k.endswith(COMPUTED)}
            tensors = {k: v.contiguous().clone() for k, v in tensors.items()}
            tensors["audio"] = wrapper.get_audio_embeddings(files(version, Path(folder)))
            tensors["text"] = wrapper.get_text_embeddings(TEXTS)
            computed = {k: list(v.shape) for k, v in state.items() if k.endswith(COMPUTED)}
            save_file(tensors, out / f"msclap-{version}.safetensors", {"computed": json.dumps(computed)})


if __name__ == "__main__":
    main(Path(*sys.argv[1:]) if sys.argv[1:] else Path(__file__).parent)
