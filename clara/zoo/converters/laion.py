"""LAION-CLAP (`pip install laion_clap`; Wu et al. 2023, arXiv 2211.06687): HTSAT and RoBERTa, with or without fusion.

Its files hold a training state; its loader is told what model they are of, here their tensors tell. Of clips beyond ten
seconds its code embeds ten at random; see `load(…, long=…)`.
"""

from __future__ import annotations

from pathlib import Path

from clara.audio.clap_mel import ClapMelConfig
from clara.config import ModelConfig, Spec
from clara.text.tokenizer import build_tokenizer
from clara.towers.hf_text import BERT_RULES, bert_spec
from clara.towers.htsat import LAION_RULES
from clara.towers.remap import Drop, Rename, prefixed, remap
from clara.zoo.convert import Foreign, converter
from clara.zoo.converters.measure import Measured, bert, htsat, torchlibrosa_mel
from clara.zoo.unpickle import load_tensors

RULES = (
    *prefixed(LAION_RULES, r"audio_branch\.", "audio."),
    *prefixed(BERT_RULES, r"text_branch\.", "text."),
    Rename(r"(audio|text)_projection\.([02])\.(weight|bias)", r"\1_head.\2.\3"),
    Drop(r"(audio|text)_transform\..*", "of a second loss in training (--clap-mlploss)"),
    Rename(r"logit_scale_a", "log_scale"),
    Drop(r"logit_scale_t", "one temperature is kept, that of audio to text; embeddings depend on neither"),
)
CONTEXT = 77  # its tokenizer's max_length


@converter("laion", licence="CC0-1.0")
def convert(path: Path, tokenizer: str | None = None) -> Foreign:
    """Read one of LAION's `.pt` files. `tokenizer`: RoBERTa's, which they do not carry.

    Raises:
        ClaraError: an unreadable file, or one that is not an HTSAT with RoBERTa (listed).
    """
    found = load_tensors(path, "state_dict")
    tensors = remap(found, RULES, str(path))
    m = Measured(tensors, str(path))
    audio = htsat(m, 1001)
    stft, bank = "audio_branch.spectrogram_extractor.stft", "audio_branch.logmel_extractor.melW"
    front_end = torchlibrosa_mel(found, stft, bank, [ClapMelConfig(int16=True)])
    if "audio.patch_embed.mel_conv2d.weight" in tensors:
        hidden, width, _, _ = m.shape("audio.patch_embed.fusion_model.local_att.0.weight")
        audio = Spec(audio.kind, {**audio.options, "fusion": True, "fusion_reduction": width // hidden})
        front_end = Spec(front_end.kind, {**front_end.options, "bank": "htk", "fusion": True})
    config = ModelConfig(
        embed_dim=m.shape("audio_head.2.weight")[0],
        front_end=front_end,
        audio=audio,
        text=_roberta(m),
        tokenizer=Spec("hf", {"name": tokenizer or "FacebookAI/roberta-base", "context_length": CONTEXT}),
        audio_head=Spec("mlp"),
        text_head=Spec("mlp"),
    )
    return Foreign(config, tensors, build_tokenizer(config.tokenizer, path.parent), path)


def _roberta(m: Measured) -> Spec:
    fields = bert(m, "pooler").options["config"]
    return bert_spec("roberta", {**fields, "layer_norm_eps": 1e-5, "pad_token_id": 1})
