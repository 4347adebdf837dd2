"""Every recipe builds; every training recipe takes two steps on tiny shards."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import webdataset
from tiny import readout_spec, save_tiny
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, WhisperConfig, WhisperModel

from clara.config import build, load_yaml
from clara.eval.runner import load_recipe
from clara.train.align import AlignConfig
from clara.train.recipe import TrainConfig
from clara.train.trainer import run

RECIPES = Path(__file__).parents[1] / "recipes"
TRAIN = [p for p in sorted((RECIPES / "train").glob("*.yaml")) if "data" in load_yaml(p)]
ALIGN = [p for p in sorted((RECIPES / "train").glob("*.yaml")) if "data" not in load_yaml(p)]
METAS = [
    {"emotion": "anger", "language": "pl", "task": "emotion"},
    {"emotion": "fear", "language": "am", "gender": "female", "task": "emotion"},
    {"label": "dog", "task": "sound"},
    {"label": "zero", "language": "ar", "task": "word"},
    {"text": ["a factory whistle"]},
]


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> str:
    path, rng = tmp_path_factory.mktemp("shards") / "x.tar", np.random.default_rng(0)
    with webdataset.TarWriter(str(path)) as tar:
        for i, meta in enumerate(METAS * 2):
            data = io.BytesIO()
            sf.write(data, rng.uniform(-0.3, 0.3, 12000).astype("float32"), 16000, format="flac")
            body = json.dumps({"corpus": "tiny", "split": "train", **meta}).encode()
            tar.write({"__key__": str(i), "flac": data.getvalue(), "json": body})
    return str(path)


def test_there_are_recipes() -> None:
    assert TRAIN and ALIGN


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of random weights for what recipes start from, by the option that names it: model.`key`.name."""
    audio, text = (tmp_path_factory.mktemp(name) for name in ("whisper", "bert"))
    options = {"encoder_layers": 6, "encoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_layers": 1}
    options |= {"decoder_attention_heads": 2, "decoder_ffn_dim": 24, "vocab_size": 64, "pad_token_id": 0}
    special = {"bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3}
    WhisperModel(WhisperConfig(d_model=16, num_mel_bins=80, **options, **special)).save_pretrained(audio)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    rust = Tokenizer(models.BPE({token: i for i, token in enumerate(["<pad>", *alphabet])}, []))
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=rust, pad_token="<pad>")
    tokenizer.save_pretrained(text)
    sizes = {"hidden_size": 16, "num_hidden_layers": 12, "num_attention_heads": 2, "intermediate_size": 24}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(text)
    return {"audio": str(audio), "text": str(text), "tokenizer": str(text)}


@pytest.mark.parametrize("path", TRAIN, ids=lambda p: p.stem)
def test_a_training_recipe_takes_two_steps(
    path: Path, shard: str, pretrained: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(RECIPES.parent)  # a recipe's own paths begin there
    recipe = load_yaml(path)
    model = recipe.get("model")
    if isinstance(model, dict):
        for part, folder in pretrained.items():
            model[part] |= {"name": folder}
        if model["audio_head"]["kind"] == "readout":
            model["audio_head"]["statistics"] = 2 * 4 * 16
    start = readout_spec([1]) if recipe.get("readout") else "test-whisper-own"
    recipe |= {
        "model": model if isinstance(model, dict) or model is None else "test-conv",
        "init": f"dir:{save_tiny(tmp_path / 'init', start)}" if recipe.get("model") is None else None,
        "steps": 2,
        "out": str(tmp_path / "out"),
        "threads": 1,
        "log_every": 1,
    }
    if recipe.get("anchors"):
        recipe["anchors"] |= {"least_clips": 1, "fixed": False}  # there is nothing to start from here
    if recipe.get("states"):
        recipe["states"] |= {"folder": str(tmp_path / "states")}
    if recipe.get("distil"):
        recipe["distil"] |= {"teacher": f"dir:{save_tiny(tmp_path / 'teacher', 'test-whisper-own')}"}
    if recipe.get("readout"):
        recipe["readout"] = {"emotion": recipe["readout"]["emotion"] | {"least_takes": 1}}
    if loss := recipe.get("loss"):
        loss["tasks"] = {t: w for t, w in loss.get("tasks", {}).items() if t in ("sound", "emotion", "word")}
        loss["texts"] = 2
    recipe["data"] |= {"shards": [shard], "batch_size": 8, "workers": 0, "sampling": {}}
    folder = run(build(TrainConfig, recipe, where=path.name))
    losses = [json.loads(line)["loss"] for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 2 and np.isfinite(losses).all() and (folder / "model.safetensors").is_file()


@pytest.mark.parametrize("path", ALIGN, ids=lambda p: p.stem)
def test_a_text_recipe_builds(path: Path) -> None:
    assert build(AlignConfig, load_yaml(path), where=path.name).counts


@pytest.mark.parametrize("path", sorted((RECIPES / "eval").glob("*.yaml")), ids=lambda p: p.stem)
def test_an_evaluation_recipe_builds(path: Path) -> None:
    settings, configs = load_recipe(path)
    assert settings.evaluations.keys() == configs.keys()


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*/*.yaml")), ids=lambda p: p.stem)
def test_a_recipe_opens_with_its_command_and_cost(path: Path) -> None:
    head = path.read_text(encoding="utf-8").split("\n\n")[0]
    assert "#   clara " in head and "Cost:" in path.read_text(encoding="utf-8")
