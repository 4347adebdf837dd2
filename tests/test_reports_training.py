"""Reports about training: derivatives that forget what was heard (item 8), broken clips and lost steps (13)."""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
import soundfile as sf
import torch
from test_reports_verbs import QUICK, write_table
from tiny import save_tiny
from tones import tone, tone_config, write_tones

from clara.config import arch_config
from clara.data.loader import MixConfig, TrainBatches, make_loader
from clara.data.states import StateBatches, StatesConfig, StateStore
from clara.errors import ClaraError
from clara.eval.contamination import judge, training_of
from clara.text.tokenizer import build_tokenizer
from clara.train.average import average
from clara.train.finetune import finetune
from clara.train.recipe import TrainConfig
from clara.train.trainer import Trainer, run
from clara.zoo.factory import create_model
from clara.zoo.lineage import front_matter, inherited, statement, with_front

CARD = {
    "license": "CC BY-NC-SA 4.0",
    "trained_on": [
        {"corpus": "esc50", "folds": [1, 2, 3], "license": "CC BY-NC 3.0", "clips": 1200},
        {"corpus": "nemo", "splits": ["train"]},
    ],
    "held_out": {"emodb": "by choice"},
}


def with_card(folder: Path, front: dict[str, Any]) -> str:
    save_tiny(folder)
    (folder / "README.md").write_text(with_front(front, "# start\n"))
    return f"dir:{folder}"


def test_8_a_fine_tuned_checkpoint_knows_what_its_start_had_heard(tmp_path: Path) -> None:
    start, table = with_card(tmp_path / "start", CARD), write_table(tmp_path / "clips")
    quick = tuple("data.workers=0" if q.startswith("data.workers") else q for q in QUICK)
    name = f"dir:{finetune(table, start, tmp_path / 'out', quick)}"
    said = statement(name)
    assert said.license == "CC BY-NC-SA 4.0"
    assert {t.corpus: t.clips for t in said.trained_on} == {"esc50": 1200, "nemo": "not published", "t": 4}
    training = training_of(name)
    assert judge("nemo", training).status == "seen" and judge("t", training).status == "seen"
    assert judge("esc50", training, ["fold5"]).status == "same-source"
    assert judge("emodb", training).status == "unseen"
    before = (tmp_path / "out" / "checkpoint" / "README.md").read_text()
    finetune(table, start, tmp_path / "out", quick)  # done: the same card again
    assert (tmp_path / "out" / "checkpoint" / "README.md").read_text() == before
    again = f"dir:{finetune(table, name, tmp_path / 'second', quick)}"  # and from generation to generation
    assert {t.corpus for t in statement(again).trained_on} == {"esc50", "nemo", "t"}


def test_8_what_a_start_does_not_say_stays_unsaid(tmp_path: Path) -> None:
    silent = f"dir:{save_tiny(tmp_path / 'silent')}"
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "README.md").write_text(with_front(inherited([silent]), ""))
    assert judge("emodb", training_of(f"dir:{tmp_path / 'made'}")).status == "unknown"


def test_8_a_start_that_heard_nothing_adds_nothing(tmp_path: Path) -> None:
    deaf = with_card(tmp_path / "deaf", {"trained_on": []})
    assert statement(deaf).trained_on == () and judge("emodb", training_of(deaf)).status == "unseen"
    assert inherited([deaf])["trained_on"] == []


def test_8_an_average_heard_all_that_its_parts_heard(tmp_path: Path) -> None:
    one = with_card(tmp_path / "one", CARD)
    two = with_card(tmp_path / "two", {"license": "CC0", "trained_on": [{"corpus": "emodb"}]})
    said = statement(f"dir:{average([one, two], [0.5, 0.5], tmp_path / 'out')}")
    assert said.license == "CC BY-NC-SA 4.0 AND CC0"
    assert {t.corpus for t in said.trained_on} == {"esc50", "nemo", "emodb"} and not said.held_out


def test_8_a_trained_checkpoint_names_its_corpora(tmp_path: Path) -> None:
    folder = run(tone_config(write_tones(tmp_path / "tones-0.tar"), tmp_path / "out", steps=1))
    front = front_matter(folder / "README.md")
    assert [(t["corpus"], t["clips"]) for t in front["trained_on"]] == [("tones", 32)] and "license" not in front
    assert judge("tones", training_of(f"dir:{folder}")).status == "seen"


def test_8_folds_that_were_trained_on_since_are_no_excuse(tmp_path: Path) -> None:
    front = dict(CARD, trained_on=[*CARD["trained_on"], {"corpus": "esc50"}])
    name = with_card(tmp_path / "a", front)
    assert judge("esc50", training_of(name), ["fold5"]).status == "seen"


def test_8_a_repository_of_the_table_is_known_by_its_row() -> None:
    assert training_of("hf:laion/clap-htsat-unfused") == training_of("hf:laion/clap-htsat-unfused@main")
    assert "laion_630k" in {t.corpus for t in training_of("hf:laion/clap-htsat-unfused").trained_on}
    assert training_of("hf:org/unknown") is None


def broken_tones(path: Path, broken: int, clips: int = 16, **more: str) -> str:
    """A shard of tones of which the first `broken` hold no audio."""
    with tarfile.open(path, "w") as tar:
        for i in range(clips):
            wave = io.BytesIO()
            sf.write(wave, tone(200.0 + 50 * i), 16000, format="WAV")
            meta = {"text": [f"tone {i % 4}"], "corpus": "tones", "split": "train", "seconds": 0.4, **more}
            audio = b"no audio" if i < broken else wave.getvalue()
            for name, data in ((f"{i:03d}.wav", audio), (f"{i:03d}.json", json.dumps(meta).encode())):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return str(path)


def config_of(shard: str, out: Path, most: int, **changes: Any) -> TrainConfig:
    config = tone_config(shard, out, **{"steps": 4, **changes})
    return dataclasses.replace(config, data=dataclasses.replace(config.data, broken_most=most))


def test_13_broken_clips_are_replaced_by_choice_counted_and_bounded(tmp_path: Path, capfd: Any) -> None:
    shard = broken_tones(tmp_path / "a.tar", 2)
    with pytest.raises(ClaraError, match=r"sample '00\d'.*data\.broken_most=N replaces"):
        run(config_of(shard, tmp_path / "none", 0))
    run(config_of(shard, tmp_path / "two", 2))
    told = capfd.readouterr().err
    assert all(told.count(f"left out: {shard}: sample '{k}'") == 1 for k in ("000", "001"))
    many = broken_tones(tmp_path / "b.tar", 8)
    with pytest.raises(ClaraError, match=r"(clips cannot be read|broken_most)"):
        run(config_of(many, tmp_path / "many", 2, steps=40))


def test_13_the_replacement_follows_from_seed_and_step(tmp_path: Path) -> None:
    shard = broken_tones(tmp_path / "a.tar", 3)

    tokenizer = build_tokenizer(arch_config("test-conv").tokenizer)
    data = config_of(shard, tmp_path, 8).data
    alone = TrainBatches(data, tokenizer, 16000, 0, (0, 1))
    parts = [TrainBatches(data, tokenizer, 16000, 0, (rank, 2)) for rank in (0, 1)]
    for step, batch in enumerate(make_loader(alone, steps=range(6))):
        halves = [part[step] for part in parts]
        assert batch.keys == halves[0].keys + halves[1].keys and not {"000", "001", "002"} & set(batch.keys)
        assert halves[0].broken == halves[1].broken == batch.broken
        assert torch.equal(batch.positive_BU, halves[0].positive_BU[:, : batch.positive_BU.shape[1]])


def test_13_broken_clips_are_left_out_of_stored_states(tmp_path: Path) -> None:
    """By choice, counted and bounded as in training on waves; a clip that was mended since is taken."""
    torch.manual_seed(0)
    model, tokenizer = create_model("test-whisper-own").eval(), build_tokenizer(arch_config("test-conv").tokenizer)
    shard, place = broken_tones(tmp_path / "a.tar", 2, label="dog", task="sound"), tmp_path / "states"
    data = dataclasses.replace(config_of(shard, tmp_path, 0).data, mix=MixConfig(1.0, background=1.0))

    def fill(most: int) -> list[str]:
        store = StateStore(StatesConfig(str(place), 2))
        return list(store.fill(model, dataclasses.replace(data, broken_most=most), False, lambda: False))

    def batches(most: int) -> StateBatches:
        store = StateStore(StatesConfig(str(place), 2))
        return StateBatches(dataclasses.replace(data, broken_most=most), tokenizer, 16000, 0, (0, 1), store)

    with pytest.raises(ClaraError, match=r"sample '00\d'.*data\.broken_most=0"):
        fill(0)
    with pytest.raises(ClaraError, match=r"sample '00\d'.*data\.broken_most=1"):
        fill(1)
    told = [line for line in fill(2) if line.startswith("left out")]
    assert len(told) == 2 and all(f"sample '{key}'" in line for key, line in zip(("000", "001"), sorted(told)))
    found = batches(2)
    assert {e.key for e in found.entries} == {f"{i:03d}" for i in range(2, 16)}
    assert not {"000", "001"} & {key for step in range(8) for key in found[step].keys}
    with pytest.raises(ClaraError, match="2 clips that cannot be read"):
        batches(1)
    assert any(take.partner for take in found.store.takes.values())
    broken_tones(tmp_path / "a.tar", 0, label="dog", task="sound")
    fill(0)
    assert len(batches(0).entries) == 16


def test_13_a_kill_loses_minutes_and_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard, now = write_tones(tmp_path / "tones-0.tar"), [0.0]
    real = time.monotonic
    monkeypatch.setattr("clara.train.trainer.time.monotonic", lambda: real() + now[0])
    step = Trainer.step

    def slow(self: Trainer, batch: Any) -> Any:
        now[0] += 240.0  # four minutes a step
        return step(self, batch)

    monkeypatch.setattr(Trainer, "step", slow)
    run(tone_config(shard, tmp_path / "out", steps=8, save_every=1000, keep=10))
    assert sorted(p.name for p in (tmp_path / "out").glob("step-*")) == ["step-3", "step-6", "step-8"]
