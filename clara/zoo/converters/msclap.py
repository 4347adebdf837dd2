"""Microsoft CLAP (`pip install msclap`): CNN14 and BERT of 2022 (Elizalde et al. 2022, arXiv 2206.04769), HTSAT and
GPT-2 of 2023 (Elizalde et al. 2023, arXiv 2309.05767).

Its wrapper takes five (2022) or seven (2023) random seconds of a longer clip; here every window counts. The HTSAT of
2023 hears 44.1 kHz through filters that its code lays out for 32 kHz; which ones a file has, its own bank tells.
"""

from __future__ import annotations

from pathlib import Path

from clara.audio.clap_mel import ClapMelConfig
from clara.config import ModelConfig, Spec
from clara.errors import ClaraError
from clara.text.tokenizer import HFTokenizer, Tokenizer, build_tokenizer
from clara.towers.cnn14 import PANNS_RULES
from clara.towers.hf_text import BERT_RULES, GPT2_RULES
from clara.towers.htsat import LAION_RULES
from clara.towers.remap import Drop, Rename, prefixed, remap
from clara.zoo.convert import Foreign, converter
from clara.zoo.converters.measure import Measured, bert, cnn14, gpt2, htsat, torchlibrosa_mel
from clara.zoo.unpickle import load_tensors

AUDIO, TEXT, HTSAT = r"audio_encoder\.", r"caption_encoder\.", "audio_encoder.base.htsat."
RULES = (
    *prefixed(LAION_RULES, rf"{AUDIO}base\.htsat\.", "audio."),
    *prefixed(PANNS_RULES, rf"{AUDIO}base\.", "audio."),
    Drop(rf"{TEXT}base\.pooler\.dense\.(weight|bias)", "the first token is taken as it is"),
    *prefixed(BERT_RULES, rf"{TEXT}base\.", "text."),
    *prefixed(GPT2_RULES, rf"{TEXT}base\.", "text."),
    Rename(rf"{AUDIO}projection\.(linear[12]\.weight|layer_norm\.(?:weight|bias))", r"audio_head.\1"),
    Rename(rf"{TEXT}projection\.(linear[12]\.weight|layer_norm\.(?:weight|bias))", r"text_head.\1"),
    Rename(r"logit_scale", "log_scale"),
)
HEARD = ((None, 14000.0), (None, 8000.0), (32000, 14000.0), (32000, 8000.0))  # rate of the filters, their upper end
END = " <|endoftext|>"


@converter("msclap", licence="MS-PL")
def convert(path: Path, tokenizer: str | None = None) -> Foreign:
    """Read `CLAP_weights_2022.pth` or `CLAP_weights_2023.pth`; its tensors tell which.

    Raises:
        ClaraError: another file (that of its captioner too), an unknown filter bank, or another tokenizer.
    """
    found = load_tensors(path, "model")
    if any(key.startswith(("clap.", "clap_project.", "gpt.")) for key in found):
        raise ClaraError(f"{path} is msclap's captioner: it writes texts and embeds none. Take CLAP_weights_2023.pth.")
    newer = any(key.startswith(HTSAT) for key in found)
    base = HTSAT if newer else "audio_encoder.base."
    tensors = remap(found, RULES, str(path))
    seconds = 7.0 if newer else 5.0
    usual = [
        ClapMelConfig(44100, seconds, hop_length=320, f_max=f_max, bank_rate=rate, fill="repeat")
        for rate, f_max in HEARD
    ]
    front_end = torchlibrosa_mel(found, f"{base}spectrogram_extractor.stft", f"{base}logmel_extractor.melW", usual)
    m = Measured(tensors, str(path))
    audio = htsat(m, round(seconds * 44100) // 320 + 1) if newer else cnn14(m, (2, 2, 2, 2, 2, 1))
    text = gpt2(m) if newer else bert(m, "cls")
    spec = _tokenizer(tokenizer, newer)
    own = _own(build_tokenizer(spec, path.parent), newer, text.options["config"]["vocab_size"], path)
    head = Spec("residual_mlp")
    embed_dim = m.shape("audio_head.linear1.weight")[0]
    config = ModelConfig(embed_dim, front_end, audio, text, spec, audio_head=head, text_head=head)
    return Foreign(config, tensors, own, path)


def _tokenizer(name: str | None, newer: bool) -> Spec:
    if newer:
        return Spec("hf", {"name": name or "openai-community/gpt2", "context_length": 77, "suffix": END})
    return Spec("hf", {"name": name or "google-bert/bert-base-uncased", "context_length": 100})


def _own(tokenizer: Tokenizer, newer: bool, size: int, path: Path) -> Tokenizer:
    """The tokenizer as msclap sets it up: GPT-2's padding is '!', which makes every '!' a token of its own."""
    assert isinstance(tokenizer, HFTokenizer)
    if newer:
        tokenizer.tokenizer.add_special_tokens({"pad_token": "!"})
        tokenizer.pad_id = tokenizer.tokenizer.pad_token_id
    if len(tokenizer.tokenizer) != size or tokenizer.pad_id != 0:
        raise ClaraError(
            f"The tokenizer has {len(tokenizer.tokenizer)} tokens and pads with {tokenizer.pad_id}; {path} was trained "
            f"with {size} and 0: take {'gpt2' if newer else 'bert-base-uncased'}."
        )
    return tokenizer
