"""The text stage, and audio that is drawn to what is said of each fact."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tones import tone, tone_config
from torch.nn.functional import normalize

import clara
from clara.config import Spec
from clara.data.fact_texts import FactTexts, FactTextsConfig, fact_vectors
from clara.data.loader import DataConfig
from clara.data.manifest import Row
from clara.data.shards import ShardConfig, write_shards
from clara.errors import ClaraError
from clara.text.captions import CaptionConfig, Captioner
from clara.text.prompts import prompts
from clara.text.tokenizer import build_tokenizer
from clara.train.optim import GroupConfig, OptimConfig
from clara.train.recipe import LossConfig
from clara.train.trainer import run

LANGUAGES = ("en", "de")
AUDIO_FROZEN = OptimConfig(lr=3e-3, warmup_steps=2, groups=(GroupConfig("audio*", 0.0),))
TEXT_FROZEN = OptimConfig(lr=3e-3, warmup_steps=2, groups=(GroupConfig("text*", 0.0),))
SOUNDS = {"dog": 200, "rain": 5000}


def data(**changes: object) -> DataConfig:
    captions = CaptionConfig(languages=LANGUAGES, prompts=0, bank=0)
    return DataConfig(**{"shards": (), "batch_size": 8, "workers": 0, "captions": captions, "augment": None, **changes})


def texts(config: FactTextsConfig) -> FactTexts:
    return FactTexts(config, data(), build_tokenizer(Spec("sentencepiece")), 0)


def test_a_batch_says_every_fact_of_a_task_so_many_times() -> None:
    batch = texts(FactTextsConfig(counts={"emotion": 3, "arousal": 2}))[4]
    _, counts = batch.fact_U.unique(return_counts=True)
    assert counts.tolist() == [3] * 9 + [2] * 3 and len(batch.texts) == len(batch.ids_UL) == 33
    assert len(batch.task_U.unique()) == 2
    assert batch.texts == texts(FactTextsConfig(counts={"emotion": 3, "arousal": 2}))[4].texts
    assert batch.texts != texts(FactTextsConfig(counts={"emotion": 3, "arousal": 2}))[5].texts


def test_captions_of_equal_sounds_and_of_one_clip_are_pairs(tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    rows = [("a dog", ["sound", "dog"]), ("a hound", ["sound", "dog", "loud"]), ("wind", ["sound", "wind"])]
    events.write_text("".join(json.dumps({"text": t, "events": [e]}) + "\n" for t, e in rows))
    table = tmp_path / "clotho.csv"
    table.write_text("caption_1,caption_2,caption_3,caption_4,caption_5\na,b,,,\n")
    batch = texts(FactTextsConfig(counts={"arousal": 2}, events=str(events), pairs=(str(table),)))[0]
    said = {}
    for text, fact, task in zip(batch.texts, batch.fact_U.tolist(), batch.task_U.tolist()):
        if task < 0:
            said.setdefault(fact, set()).add(text)
    assert sorted(map(sorted, said.values())) == [["a", "b"], ["a dog", "a hound"]]


@pytest.mark.parametrize("counts", [{"smell": 2}, {"sound": 1}])
def test_counts_that_cannot_be_are_refused(counts: dict[str, int]) -> None:
    with pytest.raises(ClaraError, match=r"texts\.counts"):
        FactTextsConfig(counts=counts)


def test_a_file_of_events_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"caption": "a dog"}\n')
    with pytest.raises(ClaraError, match=r"captions_match\.py"):
        texts(FactTextsConfig(counts={"sound": 2}, events=str(tmp_path / "x.jsonl")))


def agreement(name: str) -> float:
    """Mean cosine between the English and the German prompts of one emotion, less that of different emotions."""
    zoo = clara.load(name, device="cpu")
    keys = ["anger", "happiness", "sadness", "fear"]
    en, de = (
        normalize(torch.stack([zoo.embed_text(p).mean(0) for p in prompts("emotion", keys, code)]), dim=1)
        for code in LANGUAGES
    )
    cosine = en @ de.T
    return float(cosine.diagonal().mean() - cosine[~torch.eye(len(keys), dtype=torch.bool)].mean())


@pytest.fixture(scope="module")
def text_stage(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("text")
    config = FactTextsConfig(counts={"emotion": 6, "sound": 2}, captions=0)
    recipe = tone_config("", out / "run", data=data(), texts=config, steps=80, optim=AUDIO_FROZEN)
    return out, f"dir:{run(recipe)}"


def test_the_text_stage_brings_languages_together(text_stage: tuple[Path, str], tmp_path: Path) -> None:
    out, trained = text_stage
    config = FactTextsConfig(counts={"emotion": 2}, captions=0)
    first = run(tone_config("", tmp_path, data=data(), texts=config, steps=1, optim=AUDIO_FROZEN))
    assert agreement(trained) > agreement(f"dir:{first}") + 0.1
    values = [json.loads(line) for line in (out / "run" / "metrics.jsonl").read_text().splitlines()]
    assert values[-1]["loss"] < 0.7 * values[0]["loss"] and values[-1]["clips_per_second"] > 0


def write_sounds(folder: Path) -> str:
    """A shard of two labelled sounds, made of tones."""
    import soundfile as sf

    rng, rows = np.random.default_rng(0), []
    for i in range(24):
        label, pitch = list(SOUNDS.items())[i % 2]
        path = folder / f"{label}{i}.wav"
        sf.write(path, tone(pitch * rng.uniform(0.9, 1.1)), 16000)
        rows.append(Row(str(path), corpus="two", split="train", seconds=0.4, task="sound", label=label))
    write_shards(rows, folder / "shards", ShardConfig(samples_per_shard=100))
    return str(folder / "shards" / "*.tar")


def test_audio_is_drawn_to_what_is_said_of_its_facts(text_stage: tuple[Path, str], tmp_path: Path) -> None:
    shards = write_sounds(tmp_path)
    loss = LossConfig(weight=0.0, tasks={"sound": 1.0}, facts=0.2, texts=4)
    changes = {"data": data(shards=(shards,)), "optim": TEXT_FROZEN, "init": text_stage[1], "model": None, "loss": loss}
    model = clara.load(f"dir:{run(tone_config('', tmp_path / 'run', steps=30, **changes))}", device="cpu")
    text_KD = torch.stack([model.embed_text(p).mean(0) for p in prompts("sound", list(SOUNDS), "de")])
    audio_BD = torch.cat([model.embed_audio((tone(pitch), 16000)) for pitch in SOUNDS.values()])
    assert (audio_BD @ text_KD.T).argmax(1).tolist() == [0, 1]
    with pytest.raises(ClaraError, match="text side must be frozen"):
        run(tone_config("", tmp_path / "thawed", **{**changes, "optim": OptimConfig()}))
    with pytest.raises(ClaraError, match="emotion"):
        run(tone_config("", tmp_path / "none", **{**changes, "loss": LossConfig(tasks={"emotion": 1.0})}))


def test_the_vector_of_a_fact_is_the_mean_of_its_texts() -> None:
    tokenizer = build_tokenizer(Spec("sentencepiece"))
    seen: list[str] = []

    def encode(ids_UL: torch.Tensor, mask_UL: torch.Tensor) -> torch.Tensor:
        seen.extend(str(ids[mask].tolist()) for ids, mask in zip(ids_UL, mask_UL))
        return normalize(torch.stack([ids[mask].float()[:2] for ids, mask in zip(ids_UL, mask_UL)]), dim=1)

    facts = [("sound", "dog"), ("sound", "rain")]
    captioner = Captioner(CaptionConfig(languages=("en",)), {})
    vectors = fact_vectors(encode, tokenizer, captioner, facts, 5, torch.device("cpu"))
    assert vectors.shape == (2, 2) and len(seen) == 10
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))
