"""WavCaps' audio–text models (Mei et al. 2023, arXiv 2303.17395): CNN14 or HTSAT with BERT.

Its retrieval code pads a clip to the longest of its batch, its zero-shot code to ten seconds; here it is ten seconds
always. Longer clips: CNN14 hears up to thirty at once, HTSAT, whose picture holds no more, windows of ten.
"""

from __future__ import annotations

from pathlib import Path

from clara.audio.clap_mel import ClapMelConfig
from clara.config import ModelConfig, Spec
from clara.errors import ClaraError
from clara.text.tokenizer import build_tokenizer
from clara.towers.cnn14 import PANNS_RULES
from clara.towers.hf_text import BERT_RULES
from clara.towers.htsat import LAION_RULES
from clara.towers.remap import Drop, Rename, prefixed, remap
from clara.zoo.convert import Foreign, converter
from clara.zoo.converters.measure import Measured, bert, cnn14, htsat, torchlibrosa_mel
from clara.zoo.unpickle import load_tensors

AUDIO, FEATURES = r"audio_encoder\.audio_enc\.", "audio_encoder.audio_enc.audio_feats_extractor."
RULES = (
    Drop(rf"{AUDIO}audio_feats_extractor\.mel_trans\.stft\.conv_(real|imag)\.weight", "the front-end's transform"),
    Drop(rf"{AUDIO}audio_feats_extractor\.log_trans\.melW", "the front-end's filter bank"),
    *prefixed(LAION_RULES, AUDIO, "audio."),
    *prefixed(PANNS_RULES, AUDIO, "audio."),
    *prefixed(BERT_RULES, r"text_encoder\.text_encoder\.", "text."),
    Rename(r"(audio|text)_proj\.([02])\.(weight|bias)", r"\1_head.\2.\3"),
    Rename(r"temp", "log_scale"),
)
RATE, SECONDS, LONGEST = 32000, 10.0, 30.0
PUNCTUATION = '(,.!?;:|*")'  # what its text_preprocess takes out


@converter("wavcaps", licence="none stated; made under a UK exemption for non-commercial research")
def convert(path: Path, tokenizer: str | None = None) -> Foreign:
    """Read a file of its retrieval code; its tensors tell which audio encoder it has. `tokenizer`: BERT's.

    Raises:
        ClaraError: another file, one with a ResNet38, an unknown filter bank, or another tokenizer.
    """
    found = load_tensors(path, "model")
    tensors = remap(found, RULES, str(path))
    m = Measured(tensors, str(path))
    m.shape("log_scale")
    temperature = tensors["log_scale"].float()
    if not float(temperature) > 0:
        raise ClaraError(f"{path} has the temperature {float(temperature)}: expected one above 0.")
    tensors["log_scale"] = -temperature.log()
    cnn = "audio.blocks.0.conv1.weight" in tensors
    usual = ClapMelConfig(RATE, SECONDS, hop_length=320, fill="pad")
    if cnn:
        usual = ClapMelConfig(RATE, LONGEST, hop_length=320, fill="pad", fill_seconds=SECONDS)
    text = bert(m, "cls")
    spec = Spec("hf", {"name": tokenizer or "google-bert/bert-base-uncased", "context_length": 30})
    spec = Spec(spec.kind, {**spec.options, "blanks": PUNCTUATION})
    own = build_tokenizer(spec, path.parent)
    if own.vocab_size != (size := text.options["config"]["vocab_size"]):
        raise ClaraError(f"The tokenizer has {own.vocab_size} tokens, {path} {size}: take bert-base-uncased.")
    config = ModelConfig(
        embed_dim=m.shape("audio_head.2.weight")[0],
        front_end=torchlibrosa_mel(found, f"{FEATURES}mel_trans.stft", f"{FEATURES}log_trans.melW", [usual]),
        audio=cnn14(m, (2,) * 6) if cnn else htsat(m, round(SECONDS * RATE) // 320 + 1),
        text=text,
        tokenizer=spec,
        audio_head=Spec("mlp"),
        text_head=Spec("mlp"),
    )
    return Foreign(config, tensors, own, path)
