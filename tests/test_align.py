"""The text stage: two texts of one meaning come closer, and onto the anchors that audio was trained against."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
import yaml
from torch.nn.functional import normalize

import clara
from clara.data.manifest import Row
from clara.data.shards import write_shards
from clara.errors import ClaraError
from clara.text.captions import EXCLUDES, CaptionConfig, Captioner, over, verbalize
from clara.text.prompts import load_language
from clara.train.align import AlignConfig, Aligner, align, encode, loss_of
from clara.train.anchors import Goals
from clara.train.heard import HeardConfig, heard
from clara.train.texts import LooseConfig, Names, NamesConfig, Pair, Sayer, draw, facts_of_task
from clara.zoo.factory import create_model, get_tokenizer

RECIPE = {
    "model": "clara-small", "steps": 25, "counts": {"emotion": 9, "sound": 20}, "pairs": 2, "threads": 2,
    "captions": {"languages": ["en", "de"]}, "optim": {"lr": 1.0e-3, "warmup_steps": 2},
}  # fmt: skip
FACTS = ["emotion/anger", "emotion/calm", "sound/dog", "sound/rain", "word/zh:hello"]


def drawn(counts: dict[str, int], pairs: int = 0, seed: int = 0, known: dict | None = None, names: Names | None = None,
          joints: int = 0):  # fmt: skip
    return draw(
        counts,
        (pairs, joints),
        Sayer(Captioner(CaptionConfig(), {}), LooseConfig()),
        np.random.default_rng(seed),
        known or {},
        names,
    )


def test_batches_are_seeded() -> None:
    pairs = drawn({"emotion": 9, "word": 5}, pairs=3, seed=4)
    assert pairs == drawn({"emotion": 9, "word": 5}, pairs=3, seed=4) != drawn({"emotion": 9, "word": 5}, 3, seed=5)
    assert [p.task for p in pairs].count("emotion") == 9 and 9 + 5 < len(pairs) <= 9 + 5 + 3
    assert any(p.one != p.two for p in pairs)


def test_a_far_language_is_never_drawn_to_an_anchor(anchored: tuple[Path, Goals], tmp_path: Path, monkeypatch) -> None:
    seen: list[frozenset] = []
    monkeypatch.setattr(Goals, "loss", lambda self, text_UD, facts, scale: seen.extend(facts) or text_UD.sum() * 0)
    recipe = {**RECIPE, "steps": 1, "anchors": f"dir:{anchored[0]}", "out": str(tmp_path / "out"), "pairs": 0}
    for far, share in (([], 1.0), (["de"], None), (["en", "de"], 0.0)):
        out = str(tmp_path / f"out{len(far)}")
        (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe | {"far_languages": far, "out": out}))
        align(tmp_path / "r.yaml")
        drawn, seen[:] = sum(map(bool, seen)) / len(seen), []
        assert drawn == share or (share is None and 0 < drawn < 1)


def test_a_far_text_is_drawn_to_its_twin_and_the_twin_is_not_drawn_to_it(
    anchored: tuple[Path, Goals], tmp_path: Path
) -> None:
    far = AlignConfig("clara-small", 1, str(tmp_path), anchors=f"dir:{anchored[0]}", far_languages=("de",))
    rain = frozenset({("sound", "rain")})
    pairs = [Pair("rain", "Regen", "sound", rain, ("en", "de")), Pair("Regen", "Regen", "sound", rain, ("de", "de"))]
    text_UD = normalize(torch.randn(4, 256, generator=torch.Generator().manual_seed(0)), dim=-1).requires_grad_()
    near, lone, german, lone_too = torch.autograd.grad(Aligner(far).pull(text_UD, pairs), text_UD)[0]
    assert torch.allclose(german, -4.0 * text_UD[0].detach(), atol=1e-6)
    assert not lone.any() and not lone_too.any()
    goal = Aligner(far).goals.loss(text_UD, [rain, *[frozenset()] * 3], Aligner(far).model.scale)
    assert torch.allclose(near, torch.autograd.grad(goal, text_UD)[0][0], atol=1e-6)


def test_texts_sorted_by_length_have_the_embeddings_that_they_have_alone() -> None:
    model, tokenizer = create_model("clara-small.base"), get_tokenizer("clara-small.base")
    texts = ["rain", "a long sentence about rain that falls on a roof of tin in the night", "dog", "κουδούνι", "rain"]
    with torch.inference_mode():
        together, alone = encode(model, tokenizer, texts), torch.cat([encode(model, tokenizer, [t]) for t in texts])
    assert (together * alone).sum(1).min() > 0.999 and together[0] @ together[2] < 0.9


def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(yaml.safe_dump({**RECIPE, "steps": 4, "save_every": 2, "out": str(tmp_path / "whole")}))
    whole = create_model(f"dir:{align(recipe)}").state_dict()
    part = [f"out={tmp_path / 'part'}"]
    step = Aligner.step

    def interrupted(self: Aligner) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGINT)
        return step(self)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(Aligner, "step", interrupted)
        align(recipe, part)
    assert stopped.value.code == 130 and (tmp_path / "part" / "step-1").is_dir()
    resumed = create_model(f"dir:{align(recipe, part)}").state_dict()
    assert all(torch.equal(t, resumed[n]) for n, t in whole.items())
    assert [json.loads(x)["step"] for x in (tmp_path / "part" / "metrics.jsonl").read_text().splitlines()] == [4]


def test_of_words_only_those_with_an_anchor_are_drawn_where_there_are_anchors() -> None:
    hello = ("word", "zh:你好")
    assert {p.facts for p in drawn({"word": 3}, known={"word": [hello]})} == {frozenset({hello})}
    assert len({p.facts for p in drawn({"word": 3})}) == 3


def test_few_facts_are_said_several_times_and_are_no_negatives_of_each_other() -> None:
    pairs = drawn({"emotion": 20})
    assert len(pairs) == 20 and len({p.facts for p in pairs}) == 9
    by_fact = normalize(torch.randn(9, 16), dim=-1)
    order = sorted({p.facts for p in pairs}, key=sorted)
    same_UD = by_fact[[order.index(p.facts) for p in pairs]]
    scale = torch.tensor(200.0)
    counts = torch.tensor([sum(q.facts == p.facts for q in pairs) for p in pairs]).float()
    assert loss_of(same_UD, same_UD, pairs, {}, scale) == pytest.approx(2 * float(counts.log().mean()), abs=1e-3)


def test_loose_texts_hold_the_word_among_words_of_the_language() -> None:
    loose = LooseConfig(share=1.0, tasks=("emotion",), most=3, fillers={"en": ("zork",)})
    sayer, rng = Sayer(Captioner(CaptionConfig(languages=("en",)), {}), loose), np.random.default_rng(0)
    anger = [sayer.say(frozenset({("emotion", "anger")}), rng)[0] for _ in range(300)]
    names = [n for form in load_language("en").terms["emotion"]["anger"].forms.values() for n in form]
    assert all(any(n in text for n in names) for text in anger) and set(names) <= set(anger)
    assert any("zork" in text for text in anger) and not any("{" in text for text in anger)
    assert max(len(text.split()) for text in anger) <= 5
    assert sayer.say(frozenset({("sound", "dog")}), rng)[0] in {
        verbalize(("sound", "dog"), "en", np.random.default_rng(i)) for i in range(99)
    }
    with pytest.raises(ClaraError, match=r"loose\.fillers"):
        Sayer(sayer.captioner, LooseConfig(fillers={"xx": ("a",)}))
    for wrong in ({"tasks": ("word",)}, {"tasks": ("emotoin",)}, {"share": 2.0}, {"most": -1}):
        with pytest.raises(ClaraError, match=next(iter(wrong))):
            LooseConfig(**wrong)
    with pytest.raises(ClaraError, match="below 0"):
        drawn({"emotion": -1})


def test_sentences_of_several_facts_are_of_one_clip_and_told_apart_among_themselves() -> None:
    pairs = drawn({"emotion": 9}, pairs=5, joints=300)
    several = [p for p in pairs if len({task for task, _ in p.facts}) > 1 or p.task == "voice"]
    assert {"joint", "voice", "sound", "emotion"} == {p.task for p in pairs}
    assert all(len(p.facts) == 1 for p in pairs if p.task == "emotion")
    for group in EXCLUDES["voice"]:
        assert all(len({("voice", key) for key in group} & p.facts) < 2 for p in several)
    behind = [p for p in several if any(task == "sound" for task, _ in p.facts)]
    assert behind and all(len(p.facts) == 2 for p in behind) and max(len(p.facts) for p in several) == 4
    english = Sayer(Captioner(CaptionConfig(languages=("en",)), {}), LooseConfig())
    facts, rng = frozenset({("emotion", "anger"), ("sound", "rain")}), np.random.default_rng(0)
    said = {english.say(facts, rng)[0] for _ in range(200)}
    assert said & {over(("emotion", "anger"), ("sound", "rain"), "en", np.random.default_rng(i)) for i in range(200)}
    with pytest.raises(ClaraError, match="below 0"):
        drawn({}, joints=-1)


def test_a_word_is_another_fact_in_every_language() -> None:
    facts = facts_of_task("word")
    assert ("word", "ar:zero") in facts and ("word", "lt:zero") in facts
    with pytest.raises(ClaraError, match="'emotion'"):
        facts_of_task("emotoin")


@pytest.mark.slow
def test_translations_come_closer(tmp_path: Path) -> None:
    def closeness(steps: int) -> float:
        recipe = tmp_path / f"{steps}.yaml"
        recipe.write_text(yaml.safe_dump({**RECIPE, "steps": steps, "out": str(tmp_path / f"out{steps}")}))
        zoo = clara.load(f"dir:{align(recipe)}")
        english = zoo.embed_text(["someone speaks angrily", "the sound of rain", "the sound of a siren"])
        german = zoo.embed_text(["jemand spricht wütend", "das Geräusch: Regen", "das Geräusch: Sirene"])
        cosine = english @ german.T
        return float(cosine.diagonal().mean() - cosine[~torch.eye(3, dtype=torch.bool)].mean())

    assert closeness(25) > closeness(1) + 0.1


def test_names_are_two_locales_words_for_one_emoji(tmp_path: Path) -> None:
    for code, dog, cat in (("en", "dog face", "cat face"), ("de", "Hundegesicht", "Katzengesicht")):
        notes = {"🐶": [dog, [dog, "pet"]], "🐱": [cat, []]}
        (tmp_path / f"{code}.json").write_text(json.dumps({"annotations": notes, "languages": {}}))
    (tmp_path / "xx.json").write_text(json.dumps({"annotations": {"🐶": ["", []]}}))
    names = Names(NamesConfig(str(tmp_path), count=2))
    pairs = drawn({}, names=names)
    assert {p.task for p in pairs} == {"name"} and len(pairs) == 2
    assert all(("og" in p.one or "und" in p.one or p.one == "pet") == ("at" not in p.one) for p in pairs)
    with pytest.raises(ClaraError, match="holds no <locale>"):
        Names(NamesConfig(str(tmp_path / "none")))


@pytest.fixture
def anchored(tmp_path: Path) -> tuple[Path, Goals]:
    """A checkpoint of clara-small's audio side with five anchors, and those anchors."""
    from clara.config import Spec, arch_config, build, to_dict
    from clara.model import DualEncoder, ModelConfig
    from clara.text.tokenizer import FactsConfig, FactsTokenizer
    from clara.zoo.factory import save_checkpoint

    (tmp_path / "facts.txt").write_text("\n".join(FACTS) + "\n", encoding="utf-8")
    base = to_dict(arch_config("clara-small"))
    base |= {"text": {"kind": "anchors", "vocab_size": 5, "width": 256}, "text_head": {"kind": "identity"}}
    model = DualEncoder(build(ModelConfig, base | {"tokenizer": {"kind": "facts"}, "init_scale": 16.0}))
    tokenizer = FactsTokenizer(FactsConfig(), tmp_path)
    assert model.config.tokenizer == Spec("facts")
    folder = save_checkpoint(tmp_path / "anchored", model, tokenizer, "# x\n", torch.float32)
    return folder, Goals(model, FACTS, {})


@pytest.mark.slow
def test_texts_are_drawn_onto_anchors_and_audio_comes_along(anchored: tuple[Path, Goals], tmp_path: Path) -> None:
    folder, goals = anchored
    recipe = tmp_path / "r.yaml"
    unheard = {"emotion/boredom": ["emotion/calm", "sound/rain"]}
    recipe.write_text(
        yaml.safe_dump(
            {**RECIPE, "init": "clara-small.base", "counts": {"emotion": 9, "sound": 99}, "steps": 15, "pull": 3.0}
            | {"anchors": f"dir:{folder}", "unheard": unheard, "out": str(tmp_path / "out")}
            | {"captions": {"languages": ["en"]}}
        )
    )
    out = f"dir:{align(recipe)}"
    zoo, before = clara.load(out), create_model(f"dir:{folder}")
    text_TD = zoo.embed_text(["the sound of rain", "dog barking", "a recording of rain", "someone speaks angrily"])
    nearest = (text_TD @ goals.vector_KD.T).argmax(1)
    assert [FACTS[i] for i in nearest.tolist()] == ["sound/rain", "sound/dog", "sound/rain", "emotion/anger"]
    between = normalize(goals.vector_KD[1] + goals.vector_KD[3], dim=0)
    assert zoo.embed_text(["someone speaks with boredom"])[0] @ between > 0.4
    after = create_model(out).state_dict()
    assert all(torch.equal(after[n], t) for n, t in before.state_dict().items() if n.startswith("audio"))


def test_texts_of_two_facts_alone_have_a_finite_goal(anchored: tuple[Path, Goals]) -> None:
    goals, both = anchored[1], frozenset({("sound", "dog"), ("sound", "rain")})
    between = normalize(goals.vector_KD[2] + goals.vector_KD[3], dim=0)
    scale = torch.tensor(16.0)
    assert float(goals.loss(between[None], [both], scale)) == pytest.approx(0.0, abs=1e-5)
    assert float(goals.loss(-between[None], [both], scale)) == pytest.approx(8.0, abs=1e-5)


def test_what_audio_was_not_trained_on_lies_where_its_clips_do(anchored: tuple[Path, Goals], tmp_path: Path) -> None:
    rows, waves, rng = [], [], np.random.default_rng(0)
    for i in range(8):
        pitch = (150.0, 400.0)[i % 2]
        wave = np.sin(np.arange(8000 + 800 * i) * 2 * np.pi * pitch / 16000) + rng.normal(0, 0.1, 8000 + 800 * i)
        waves.append((0.2 * wave).astype(np.float32))
        sf.write(tmp_path / f"{i}.wav", waves[-1], 16000, subtype="FLOAT")
        heard_of = {"acoustics": {"voice": ["low" if i % 2 == 0 else "high"]}}
        word = "zero" if i < 4 else "你好"
        about = {"language": "zh", "label": word, "task": "word", "gender": "female", "original": heard_of}
        rows.append(Row(str(tmp_path / f"{i}.wav"), "espeak", split="train", **about))
    write_shards(rows, tmp_path / "shards")
    zoo = clara.load(f"dir:{anchored[0]}", device="cpu")
    config = HeardConfig((str(tmp_path / "shards" / "*.tar"),), least=4)
    found = heard(zoo, config, FACTS)
    assert set(found) == {"word/zh:zero", "voice/low", "voice/high"}  # one word has an anchor; who speaks is left out
    audio_8D = zoo.embed_audio([(w, 16000) for w in waves])
    assert torch.allclose(found["word/zh:zero"], normalize(audio_8D[:4].mean(0), dim=0), atol=1e-4)
    nearer = audio_8D @ (found["voice/high"] - found["voice/low"])
    assert (nearer[1::2] > nearer[::2].max()).all()
    speech = normalize(audio_8D.mean(0), dim=0)
    assert float(found["voice/low"] @ speech) == pytest.approx(0.5 / math.sqrt(1.25), abs=1e-3)
    assert not heard(zoo, dataclasses.replace(config, least=5), FACTS)
    goals = Goals(zoo.model, FACTS, {}, more=found)
    assert sorted(goals.by_task()["word"]) == [("word", "zh:hello"), ("word", "zh:zero")]
    assert torch.equal(goals.vector_KD[goals.row["voice", "low"]], found["voice/low"])
    with pytest.raises(ClaraError, match="No shards"):
        heard(zoo, HeardConfig(("none/*.tar",)), FACTS)
    with pytest.raises(ClaraError, match="least"):
        HeardConfig((), least=0)


def test_anchors_must_be_anchors(anchored: tuple[Path, Goals], tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(yaml.safe_dump({**RECIPE, "anchors": "clara-small.base", "out": "x"}))
    with pytest.raises(ClaraError, match="has no anchors"):
        align(recipe)
    recipe.write_text(
        yaml.safe_dump({**RECIPE, "anchors": f"dir:{anchored[0]}", "out": "x", "unheard": {"a/b": ["c"]}})
    )
    with pytest.raises(ClaraError, match="unheard"):
        align(recipe)


def test_the_two_losses_of_a_goal() -> None:
    """On its anchor a text's distance term is 0; two facts in one text aim between theirs."""
    from types import SimpleNamespace

    eye = torch.eye(4)
    source = SimpleNamespace(text=SimpleNamespace(vectors=SimpleNamespace(weight=eye)))
    goals = Goals(source, FACTS[:4], {})
    both = frozenset({("sound", "dog"), ("sound", "rain")})
    facts = [frozenset({("sound", "dog")}), both, frozenset({("sound", "unheard of")})]
    there = torch.stack([eye[2], normalize(eye[2] + eye[3], dim=0), eye[0]])
    away = torch.stack([eye[2], normalize(eye[0] + eye[3], dim=0), eye[1]])
    scale = torch.tensor(50.0)
    assert goals.loss(there, facts, scale) == pytest.approx(0.0, abs=1e-5)
    assert goals.loss(away, facts, scale) == pytest.approx(4 * 0.5 / 2, abs=1e-5)


def test_a_point_between_anchors_need_not_swallow_them() -> None:
    """A clip a third of the way from one anchor to the other is nearest to that one, with a share below 1."""
    from types import SimpleNamespace

    eye = torch.eye(16)
    source = SimpleNamespace(text=SimpleNamespace(vectors=SimpleNamespace(weight=eye[:4])))
    unheard = {"emotion/boredom": ("emotion/anger", "emotion/calm")}
    clip = normalize(0.7 * eye[0] + 0.3 * eye[1], dim=0)
    for share, nearest in ((1.0, "boredom"), (0.85, "anger")):
        goals = Goals(source, FACTS[:4], unheard, share)
        assert goals.facts[int((goals.vector_KD @ clip).argmax())] == ("emotion", nearest)
        torch.testing.assert_close(goals.vector_KD.norm(dim=1), torch.ones(5))
        assert goals.vector_KD[4] @ normalize(eye[0] + eye[1], dim=0) == pytest.approx(share, abs=1e-5)
    with pytest.raises(ClaraError, match="at most 1"):
        Goals(source, FACTS[:4], unheard, 1.5)


def test_embeddings_are_carried_over_to_another_vocabulary() -> None:
    from clara.text.tokenizer import ASSETS, SentencePiece, SentencePieceConfig
    from clara.train.align import carried_over

    small, large = (SentencePiece(SentencePieceConfig(f), ASSETS) for f in ("test.model", "clara.model"))
    table_VW = torch.arange(small.vocab_size, dtype=torch.float32)[:, None]
    carried = carried_over(table_VW, small, large)
    pieces = {small.processor.id_to_piece(i): i for i in range(small.vocab_size)}
    shared = [i for i in range(large.vocab_size) if large.processor.id_to_piece(i) in pieces]
    assert len(carried) == large.vocab_size and len(shared) > 50
    assert [carried[i, 0].item() for i in shared] == [pieces[large.processor.id_to_piece(i)] for i in shared]
    i = large.processor.piece_to_id("▁dog")
    assert carried[i, 0] == pytest.approx(sum(small.processor.encode("dog")) / len(small.processor.encode("dog")))
    same = carried_over(table_VW, small, small)
    assert torch.equal(same, table_VW)
