"""ParaCLAP (KeiKinn/ParaCLAP; Jing et al. 2024, arXiv 2406.07203): wav2vec 2.0 and BERT, for paralinguistic tasks.

Its code embeds whole files, one at a time, their samples as they are; here a file longer than the window is cut into
windows that are averaged.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clara.config import ModelConfig, Spec
from clara.errors import ClaraError
from clara.text.tokenizer import build_tokenizer
from clara.towers.hf_audio import WAV2VEC2_RULES
from clara.towers.hf_text import BERT_RULES
from clara.towers.remap import Drop, Rename, prefixed, remap
from clara.zoo.convert import Foreign, converter
from clara.zoo.converters.measure import HEAD_WIDTH, Measured, bert
from clara.zoo.unpickle import load_tensors

AUDIO = "audio.encoder.model."
STRIDES = (5, 2, 2, 2, 2, 2, 2)  # of wav2vec 2.0's convolutions; no tensor tells them
RULES = (
    *prefixed(WAV2VEC2_RULES, r"audio_branch\.base\.", "audio."),
    Drop(r"text_branch\.base\.pooler\.dense\.(weight|bias)", "the first token is taken as it is"),
    *prefixed(BERT_RULES, r"text_branch\.base\.", "text."),
    Rename(r"(audio|text)_projection\.(linear[12]\.weight|layer_norm\.(?:weight|bias))", r"\1_head.\2"),
    Rename("logit_scale", "log_scale"),
)


@converter("paraclap", licence="none stated (KeiKinn/ParaCLAP holds no licence file)")
def convert(path: Path, tokenizer: str | None = None) -> Foreign:
    """Read `best.pth.tar`, a plain dictionary of tensors; `tokenizer` is by default bert-base-uncased's from the hub.

    Raises:
        ClaraError: a file of another make, an encoder that is not a wav2vec 2.0 of seven layers, or another tokenizer.
    """
    tensors = remap(load_tensors(path), RULES, str(path))
    m = Measured(tensors, str(path))
    text = bert(m, "cls")
    head = Spec("residual_mlp")
    spec = Spec("hf", {"name": tokenizer or "google-bert/bert-base-uncased", "context_length": 512})
    config = ModelConfig(
        embed_dim=m.shape("audio_head.linear1.weight")[0],
        front_end=Spec("waveform", {"window_seconds": 30.0, "normalize": False, "min_samples": 400}),
        audio=Spec("hf_audio", {"config": _wav2vec2(m)}),
        text=text,
        tokenizer=spec,
        audio_head=head,
        text_head=head,
    )
    own = build_tokenizer(spec, path.parent)
    size = text.options["config"]["vocab_size"]
    if own.vocab_size != size:
        raise ClaraError(f"{path} has {size} tokens, the tokenizer {own.vocab_size}: take bert-base-uncased's.")
    return Foreign(config, tensors, own, path)


def _wav2vec2(m: Measured) -> dict[str, Any]:
    conv = f"{AUDIO}feature_extractor.conv_layers."
    shapes = [m.shape(f"{conv}{i}.conv.weight") for i in range(m.count(rf"{conv}(\d+)\."))]
    if len(shapes) != len(STRIDES):
        raise ClaraError(f"{m.where}: {len(shapes)} convolutions over samples, wav2vec 2.0 has {len(STRIDES)}.")
    width, grouped, kernel = m.shape(f"{AUDIO}encoder.pos_conv_embed.conv.parametrizations.weight.original1")
    # the published ones come in two kinds: 'large-lv60', 'robust' and their kin, and the older
    newer = f"{conv}1.layer_norm.weight" in m.tensors
    return {
        "model_type": "wav2vec2",
        "hidden_size": width,
        "num_hidden_layers": m.count(rf"{AUDIO}encoder\.layers\.(\d+)\."),
        "num_attention_heads": max(1, width // HEAD_WIDTH),
        "intermediate_size": m.shape(f"{AUDIO}encoder.layers.0.feed_forward.intermediate_dense.weight")[0],
        "conv_dim": [out for out, _, _ in shapes],
        "conv_kernel": [size for _, _, size in shapes],
        "conv_stride": list(STRIDES),
        "num_feat_extract_layers": len(shapes),
        "conv_bias": f"{conv}0.conv.bias" in m.tensors,
        "feat_extract_norm": "layer" if newer else "group",
        "do_stable_layer_norm": newer,
        "num_conv_pos_embeddings": kernel,
        "num_conv_pos_embedding_groups": width // grouped,
    }
