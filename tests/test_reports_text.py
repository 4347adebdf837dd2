"""Reports of users about texts: each test is a fault that somebody met, with the value that is right."""

from __future__ import annotations

import unicodedata
import warnings
from pathlib import Path

import pytest
from tiny import tiny_zoo

from clara.apps.classifier import Classifier
from clara.config import Spec
from clara.errors import ClaraError
from clara.text.normal import normal
from clara.text.prompts import languages, load_language, prompts, task_labels
from clara.text.tokenizer import Tokenizer, build_tokenizer
from clara.zoo.embedder import Embedder


@pytest.fixture
def tokenizer() -> Tokenizer:
    return build_tokenizer(Spec("sentencepiece"))


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Embedder:
    return tiny_zoo(tmp_path_factory.mktemp("texts"))


@pytest.mark.parametrize(
    ("odd", "plain"),
    [
        ("Glocken\u00adläuten", "Glockenläuten"),  # soft hyphen
        ("a\u00adngry", "angry"),
        ("\u200erain\u200f", "rain"),  # direction marks
        ("ra\u2066in\u2069", "rain"),
        ("\ufeffrain", "rain"),  # byte order mark
        ("ra\u200bin", "rain"),
        ("ra\u2060in", "rain"),
        ("ra\u200cin\u200d", "rain"),  # joiners where no letters join
        ("ra\x00in\x1b", "rain"),
        ("❤\ufe0f", "❤"),
        ("a dog’s bark", "a dog's bark"),
        ("пам\u02bcять", "пам'ять"),
        ("`quoted´ ‹here›", "'quoted' 'here'"),
        ("«rain» „rain“ “rain”", '"rain" "rain" "rain"'),
        ("a high‑pitched – or low—voice −3", "a high-pitched - or low-voice -3"),
        ("ＡＢＣ\u3000ﬁre", "ABC fire"),
        (unicodedata.normalize("NFD", "wütend, é, ガ, 각"), "wütend, é, ガ, 각"),
        ("  rain\u00a0\u2003and\n wind ", "rain and wind"),
    ],
)
def test_item_6_what_looks_the_same_has_the_same_ids(tokenizer: Tokenizer, odd: str, plain: str) -> None:
    assert normal(odd) == plain
    assert tokenizer.token_ids([odd]) == tokenizer.token_ids([plain])


@pytest.mark.parametrize(
    "text",
    [
        "عصبانی می\u200cخواهم",  # Persian spells with the non-joiner
        "ଡୁନ୍\u200cଡୁନ୍",
        "അവന\u0d4d\u200d",  # Malayalam ends a word with the joiner
        "น้ำ ຄໍ",  # NFKC alone would take the vowel apart
        "👩\u200d🚀",
        "\u0600\u0661",  # a drawn sign of the category of invisible ones
        "怒っている「話し手」",
        'it\'s - a "dog"',
    ],
)
def test_item_6_spelling_that_means_something_is_kept(text: str) -> None:
    assert normal(text) == text
    assert normal(normal(text)) == normal(text)


def test_item_6_ordinary_texts_keep_their_ids(tokenizer: Tokenizer) -> None:
    """A checkpoint's vectors must not move: all terms of the language files, but those spelt with odd characters."""
    odd = set("‘’‚“”„«»‹›–—ʼʻ")
    checked = 0
    for code in languages():
        for task in ("emotion", "sound", "instrument", "word", "speaker"):
            names = [n for term in load_language(code).terms[task].values() for n in term.names]
            plain = [n for n in names if not odd & set(n)]
            assert [tokenizer.encode(n) for n in plain] == [tokenizer.encode(normal(n)) for n in plain]
            checked += len(plain)
    assert checked > 10_000


@pytest.mark.parametrize("text", ["\u200b", "\u00ad \u200e", "\ufeff", "\x00", "\u3164", "\u00a0"])
def test_item_6_invisible_characters_are_no_text(tokenizer: Tokenizer, text: str) -> None:
    with pytest.raises(ClaraError, match="nothing of this one is visible"):
        tokenizer(["rain", text])


def test_item_6_truncation_is_said_once(tokenizer: Tokenizer) -> None:
    text = "rain and wind " * 40
    with pytest.warns(UserWarning, match=r"'rain and wind .* longer than this model's 64 tokens"):
        tokenizer([text])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tokenizer([text])
        build_tokenizer(Spec("sentencepiece"))(["short"])


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("rain", "ra\u200bin"),
        ("wütend", unicodedata.normalize("NFD", "wütend")),
        ("don't", "don’t"),
        ("rain " * 80 + "and dogs", "rain " * 80 + "and cats"),
    ],
)
@pytest.mark.filterwarnings("ignore:The text that begins")
def test_item_6_labels_that_tie_are_refused(zoo: Embedder, one: str, two: str) -> None:
    with pytest.raises(ClaraError, match="the same to the model"):
        Classifier(zoo, [one, "wind", two])


def test_item_6_labels_of_the_language_files_differ(tokenizer: Tokenizer) -> None:
    """No task of ours is refused for its own words."""
    for code in ("en", "de", "ja", "fa", "ru", "hu"):
        for task in ("emotion", "speaker", "voice", "arousal"):
            ids = [str(tokenizer.token_ids(texts)) for texts in prompts(task, task_labels(task), code)]
            assert len(set(ids)) == len(ids), (code, task)


def test_item_6_other_tokenizers_normalise_too(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Rust
    from tokenizers import models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {token: i for i, token in enumerate(["<pad>", "<unk>", "rain", "a", "dog's", "dog", "engine"])}
    rust = Rust(models.WordLevel(vocab, "<unk>"))
    rust.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=rust, pad_token="<pad>", unk_token="<unk>")
    fast.save_pretrained(tmp_path / "own")
    tokenizer = build_tokenizer(Spec("hf", {"name": "own"}), tmp_path)
    assert tokenizer.token_ids(["ra\u00adin\u200e a dog’s"]) == [[2, 3, 4]]
