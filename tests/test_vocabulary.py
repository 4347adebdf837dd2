"""recipes/vocabulary.py on a tiny XLM-R: what is kept reads and embeds as before."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

from clara.config import Spec, arch_config
from clara.errors import ClaraError
from clara.model import DualEncoder
from clara.text.tokenizer import build_tokenizer
from clara.towers.base import TEXT_TOWERS
from clara.zoo.factory import load_checkpoint, save_checkpoint

WORDS = (
    "▁a",
    "▁dog",
    "▁barks",
    "▁the",
    "▁rain",
    "▁do",
    "g",
    "s",
    "▁query",
    "▁ein",
    "▁Hund",
    "▁bell",
    "t",
    "ing",
    "▁cat",
)
RECIPES = Path(__file__).parents[1] / "recipes"


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(RECIPES))
    import vocabulary

    return vocabulary


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Unigram tokenizer as XLM-R's, its model with more rows than pieces, as e5's."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

    letters = [c for c in "▁abcdefhijklmnopqruvwxyz:H" if c not in WORDS]
    pieces = [
        *((w, -2.0 - 0.1 * i) for i, w in enumerate(WORDS)),
        *((c, -9.0 - 0.01 * i) for i, c in enumerate(letters)),
    ]
    vocab = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *pieces, ("<mask>", 0.0)]
    rust = Tokenizer(models.Unigram(vocab, unk_id=3, byte_fallback=False))
    rust.pre_tokenizer = pre_tokenizers.Metaspace()
    rust.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=rust,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
    )
    out = tmp_path / "whole"
    fast.save_pretrained(out)
    config = AutoConfig.for_model(
        "xlm-roberta", vocab_size=len(vocab) + 5, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=40, pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    AutoModel.from_config(config).save_pretrained(out)
    return out


def embed(folder: Path, texts: list[str]) -> tuple[list[list[str]], torch.Tensor]:
    tokenizer = build_tokenizer(Spec("hf", {"name": "whole" if folder.name == "whole" else "cut"}), folder.parent)
    tower = TEXT_TOWERS.create(Spec("hf_text", {"name": str(folder)})).eval()
    with torch.no_grad():
        return [tokenizer.tokenizer.tokenize(t) for t in texts], tower(*tokenizer(texts))


def test_texts_of_kept_pieces_read_and_embed_as_before(folder: Path, recipe: ModuleType, tmp_path: Path) -> None:
    table = tmp_path / "captions_train.csv"
    table.write_text("file_name,caption_1\nrain.wav,a dog barks\n", encoding="utf-8")
    out, language = tmp_path / "cut", tmp_path / "de.yaml"
    language.write_text("terms: {sound: {dog: [ein Hund bellt]}}", encoding="utf-8")
    recipe.main(folder, out, [table], [language], best=0)
    pieces = [p for p, _ in json.loads((out / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]]
    assert {"<s>", "<mask>", "▁dog", "▁query", "▁Hund", "g", ":"} <= set(pieces)
    assert not {"▁rain", "▁cat", "▁the", "ing"} & set(pieces), "file names are no texts"
    rows = load_file(out / "model.safetensors")["embeddings.word_embeddings.weight"].shape[0]
    assert rows == len(pieces) == json.loads((out / "config.json").read_text())["vocab_size"]
    texts = ["a dog barks", "query: ein Hund bellt", "dogs", "a dog ξ barks", "a hund"]
    (whole, expected), (cut, got) = embed(folder, texts), embed(out, texts)
    assert cut == whole
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)
    (whole, _), (cut, _) = embed(folder, ["the rain"]), embed(out, ["the rain"])
    assert cut != whole
    assert "<unk>" not in cut[0]


def test_the_best_pieces_are_kept_too(folder: Path, recipe: ModuleType) -> None:
    vocab = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    few, more = (recipe.kept(folder, set(), best) for best in (0, 9))
    assert {vocab[i][0] for i in set(more) - set(few)} == {"▁a", "▁dog", "▁barks", "▁the"}  # after five special tokens
    assert few == sorted(few)


def test_room_that_is_left_is_filled_with_what_other_texts_use_most(
    folder: Path, recipe: ModuleType, tmp_path: Path
) -> None:
    texts, language, more = tmp_path / "texts.txt", tmp_path / "de.yaml", tmp_path / "names.json"
    texts.write_text("a dog\n", encoding="utf-8")
    language.write_text("{}", encoding="utf-8")
    more.write_text(json.dumps({"1": ["the rain", "the"], "2": "the cat rain"}), encoding="utf-8")
    room = len(recipe.kept(folder, recipe.used(folder, ["query: ", "passage: ", "a dog"]), 0)) + 2
    recipe.main(folder, tmp_path / "cut", [texts], [language], best=0, fill=[more], pieces=room)
    pieces = [p for p, _ in json.loads((tmp_path / "cut/tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]]
    assert len(pieces) == room
    assert {"▁the", "▁rain"} <= set(pieces)
    assert "▁cat" not in pieces


def test_another_kind_of_tokenizer_is_refused(folder: Path, recipe: ModuleType) -> None:
    data = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    data["model"]["type"] = "BPE"
    (folder / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ClaraError, match="type 'BPE'; expected 'Unigram'"):
        recipe.kept(folder, set(), 0)


def test_a_checkpoint_with_such_a_tower_needs_no_folder(folder: Path, tmp_path: Path) -> None:
    options = {"name": str(folder), "prefix": "query: "}
    base = arch_config("test-conv")
    config = {"text": Spec("hf_text", {"name": str(folder)}), "tokenizer": Spec("hf", options)}

    model = DualEncoder(dataclasses.replace(base, **config)).eval()
    tokenizer = build_tokenizer(model.config.tokenizer)
    saved = save_checkpoint(tmp_path / "saved", model, tokenizer, "# x\n", torch.float32)
    folder.rename(tmp_path / "gone")
    loaded = load_checkpoint(saved)
    assert (saved / "tokenizer" / "tokenizer.json").is_file()
    assert (
        loaded.tokenizer.encode("a dog")
        == tokenizer.encode("a dog")
        == tokenizer.tokenizer("query: a dog")["input_ids"]
    )
    with torch.no_grad():
        torch.testing.assert_close(
            loaded.model.encode_text(*loaded.tokenizer(["a dog"])), model.encode_text(*tokenizer(["a dog"]))
        )
