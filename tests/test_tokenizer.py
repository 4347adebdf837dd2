"""Tokenizers: padded to the longest, truncated with their end token kept, in every script."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from clara.config import Spec, arch_config, arch_names
from clara.errors import ClaraError
from clara.text.tokenizer import ASSETS, TOKENIZERS, Tokenizer, build_tokenizer

TEXTS = ["a dog barks", "ein wütender Sprecher", "怒っている話し手", "رجل غاضب", "नाराज़ आवाज़", "x", "😀 ♫"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return build_tokenizer(Spec("sentencepiece", {"file": "test.model", "context_length": 24}))


@pytest.fixture(scope="module")
def hf_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny byte-level transformers tokenizer, saved."""
    from tokenizers import Tokenizer as Rust
    from tokenizers import models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", *alphabet])}
    rust = Rust(models.BPE(vocab, []))
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rust.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    folder = tmp_path_factory.mktemp("checkpoint")
    fast = PreTrainedTokenizerFast(tokenizer_object=rust, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    fast.save_pretrained(folder / "tokenizer")
    return folder


def check(tokenizer: Tokenizer) -> None:
    """What every tokenizer gives."""
    ids_BL, mask_BL = tokenizer(TEXTS)
    assert ids_BL.dtype == torch.long
    assert mask_BL.dtype == torch.bool
    assert ids_BL.shape == mask_BL.shape
    assert ids_BL.shape[1] == mask_BL.sum(1).max() <= tokenizer.context_length
    assert (ids_BL[~mask_BL] == tokenizer.pad_id).all()
    assert (ids_BL[mask_BL] != tokenizer.pad_id).all()
    assert 0 <= ids_BL.min() <= ids_BL.max() < tokenizer.vocab_size
    assert len({tuple(row.tolist()) for row in ids_BL}) == len(TEXTS), "every text has its own ids"
    for text, ids_L, mask_L in zip(TEXTS, ids_BL, mask_BL):
        alone_1L, _ = tokenizer([text])
        assert alone_1L[0].tolist() == ids_L[mask_L].tolist()


def test_sentencepiece(tokenizer: Tokenizer) -> None:
    check(tokenizer)
    ids = tokenizer.encode("a dog barks")
    assert (ids[0], ids[-1]) == (tokenizer.processor.bos_id(), tokenizer.processor.eos_id())
    assert tokenizer.encode("a  dog\n barks ") == ids, "spacing does not count"


def test_our_vocabulary_folds_case_and_width() -> None:
    if not (ASSETS / "clara.model").is_file():
        pytest.skip("the vocabulary travels with a checkpoint")
    tokenizer = build_tokenizer(Spec("sentencepiece"))
    check(tokenizer)
    assert tokenizer.encode("Ein WÜTENDER Sprecher") == tokenizer.encode("ein wütender sprecher")
    assert tokenizer.encode("ＡＢＣ １２") == tokenizer.encode("abc 12")


def test_hf(hf_folder: Path) -> None:
    tokenizer = build_tokenizer(Spec("hf", {"name": "tokenizer", "context_length": 24}), hf_folder)
    check(tokenizer)
    assert tokenizer.files == [hf_folder / "tokenizer"]
    assert tokenizer.encode("ab")[0] == 1


def test_hf_texts_have_their_prefix_and_suffix(hf_folder: Path) -> None:
    plain = build_tokenizer(Spec("hf", {"name": "tokenizer"}), hf_folder)
    marked = build_tokenizer(Spec("hf", {"name": "tokenizer", "prefix": "query: ", "suffix": "!"}), hf_folder)
    assert marked.encode("a dog") == plain.encode("query: a dog!") != plain.encode("a dog")


def test_long_texts_keep_their_end(tokenizer: Tokenizer) -> None:
    for text in ("dog " * 2500, "x" * 10_000, "क" * 10_000):
        ids_BL, mask_BL = tokenizer([text, "a dog"])
        assert ids_BL.shape == (2, 24)
        assert ids_BL[0, -1] == tokenizer.processor.eos_id()
        assert ids_BL[0, :-1].tolist() == tokenizer.encode(text)[:23]
        assert mask_BL[0].all()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("a dog", "expected a list of texts"),
        ([], "Got no texts"),
        ([""], "expected a text that is not empty"),
        (["a", "  \n"], "expected a text that is not empty"),
        (["a", None], "Got None"),
        ([3], "Got 3"),
        (["a", "caf\udce9"], "UTF-8"),
    ],
)
def test_bad_texts_are_refused(tokenizer: Tokenizer, texts: object, message: str) -> None:
    with pytest.raises(ClaraError, match=message):
        tokenizer(texts)


def test_files_are_looked_up_in_the_checkpoint_first(tmp_path: Path) -> None:
    spec = Spec("sentencepiece", {"file": "test.model"})
    assert build_tokenizer(spec, tmp_path).files == [ASSETS / "test.model"]
    (tmp_path / "test.model").write_bytes((ASSETS / "test.model").read_bytes())
    assert build_tokenizer(spec, tmp_path).files == [tmp_path / "test.model"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (Spec("sentencepeice"), "Unknown tokenizer 'sentencepeice'. Did you mean 'sentencepiece'"),
        (Spec("sentencepiece", {"file": "none.model"}), "No tokenizer file 'none.model'"),
        (Spec("sentencepiece", {"files": "x"}), "Did you mean 'file'"),
        (Spec("hf", {"name": "no/such-tokenizer"}), "'no/such-tokenizer' cannot be loaded"),
    ],
)
def test_wrong_specs_are_refused(spec: Spec, message: str, tmp_path: Path) -> None:
    with pytest.raises(ClaraError, match=message):
        build_tokenizer(spec, tmp_path)


@pytest.mark.parametrize("name", ["org/name", "name", "/no/such/folder", "./nowhere", "a/b/c"])
def test_a_name_out_of_reach_is_one_line_after_one_question(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers would ask for file after file, and for each five times."""
    import huggingface_hub
    import transformers
    from huggingface_hub.errors import LocalEntryNotFoundError

    from clara.towers import hf_audio, hf_text

    asked = []

    def unreachable(repo: str, **options: object) -> None:
        asked.append(repo)
        raise LocalEntryNotFoundError("Got: ConnectError\nAn error happened while trying to locate the files")

    def never(*args: object, **options: object) -> None:
        raise AssertionError("transformers was asked for what is not here")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    for auto in (transformers.AutoTokenizer, hf_audio.AutoConfig, hf_audio.AutoModel):
        monkeypatch.setattr(auto, "from_pretrained", never)
    on_hub = name in ("org/name", "name")
    remedy = "connect once and load it, or give a local folder" if on_hub else "no hub id is written so"
    for ask in (
        lambda: build_tokenizer(Spec("hf", {"name": name}), tmp_path),
        lambda: hf_text.HFTextTower(hf_text.HFTextConfig(name=name)),
        lambda: hf_audio.load_weights(name, None),
    ):
        asked.clear()
        with pytest.raises(ClaraError, match=remedy) as caught:
            ask()
        assert name in str(caught.value) and "\n" not in str(caught.value)
        assert asked == [name] * on_hub


def test_a_folder_that_is_no_tokenizer_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ClaraError, match=r"Tokenizer 'empty' cannot be loaded from .*empty: ") as caught:
        build_tokenizer(Spec("hf", {"name": "empty"}), tmp_path)
    assert "\n" not in str(caught.value)


def test_every_tokenizer_is_tested() -> None:
    """The others beside the model they belong to: test_zoo_clara, test_anchors, test_glap."""
    assert TOKENIZERS.names() == ["clara_bpe", "facts", "hf", "nllb", "sentencepiece"]


def test_facts_are_ids_by_line(tmp_path: Path) -> None:
    (tmp_path / "facts.txt").write_text("emotion/anger\nsound/dog\nsound/rain\n")
    tokenizer = build_tokenizer(Spec("facts"), tmp_path)
    ids_BL, mask_BL = tokenizer(["sound/rain", "sound/dog + sound/rain"])
    assert ids_BL.tolist() == [[2, 0], [1, 2]] and mask_BL.tolist() == [[True, False], [True, True]]
    with pytest.raises(ClaraError, match="Did you mean 'sound/rain'"):
        tokenizer(["sound/rian"])
    with pytest.raises(ClaraError, match="No file of facts"):
        build_tokenizer(Spec("facts"), tmp_path / "empty")


@pytest.mark.parametrize("name", [n for n in arch_names() if arch_config(n).tokenizer.kind == "sentencepiece"])
def test_architectures_fit_their_tokenizer(name: str) -> None:
    config = arch_config(name)
    if not (ASSETS / config.tokenizer.options["file"]).is_file():
        pytest.skip("its tokenizer travels with a checkpoint")
    tokenizer, text = build_tokenizer(config.tokenizer), config.text.options
    assert tokenizer.vocab_size == text.get("vocab_size", text.get("config", {}).get("vocab_size"))
    assert tokenizer.context_length <= text.get("context_length", 64)


def test_every_file_of_a_tokenizer_is_asked_of_the_hub() -> None:
    from huggingface_hub.utils import filter_repo_objects

    from clara import hub

    names = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "config.json"]
    names += ["vocab.json", "vocab.txt", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "normalizer.json"]
    names += ["source.spm", "target.spm"]  # Marian's
    others = ["model.safetensors", "pytorch_model.bin", "README.md", "onnx/model.onnx"]
    assert list(filter_repo_objects([*names, *others], allow_patterns=hub.TOKENIZER)) == names


def test_a_sentencepiece_model_without_its_control_tokens_is_refused(tmp_path: Path) -> None:
    """sentencepiece itself notices at the first text."""
    data = (ASSETS / "test.model").read_bytes()
    at = data.index(b"<s>")
    assert data[at + 8 : at + 10] == b"\x18\x03"  # the type of this piece: control
    (tmp_path / "m.model").write_bytes(data[: at + 9] + b"\x01" + data[at + 10 :])
    with pytest.raises(ClaraError, match=r"m\.model lacks what begins and ends a text"):
        build_tokenizer(Spec("sentencepiece", {"file": "m.model"}), tmp_path)
