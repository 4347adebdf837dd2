"""Every corpus file reads its official layout; the layouts are data, in layouts.py, and written by the test."""

from __future__ import annotations

import csv
import dataclasses
import re
import tarfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from layouts import LAYOUTS, write_clip, write_table
from typer.testing import CliRunner

from clara.cli import app
from clara.data.corpora import find_corpus, layout_of, shard_rows, take_inventory
from clara.data.manifest import Row, corpus_names, load_corpus, rows_from_corpus, split_audio
from clara.data.shards import ShardConfig, write_shards
from clara.errors import ClaraError
from clara.text.captions import facts_of
from clara.text.prompts import task_labels

Wav = Callable[..., Path]
FREE = {"csv", "packed", "shards"}  # whoever's own
NAMED = ["ravdess", "crema_d", "tess", "emodb", "cafe", "emovo", "urdu", "shemo", "subesco", "turev_db", "baved"]
NAMED += ["ased", "emov_db", "esd", "fsdd", "vocalsound", "speech_commands"]


@pytest.fixture
def clips(tmp_path: Path, wav: Wav) -> Callable[..., Path]:
    """clips("a/b.wav", …) writes tones below the test's folder and returns the folder."""

    def write(*names: str) -> Path:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            wav(0.05, name=name)
        return tmp_path

    return write


def table(path: Path, lines: Sequence[Sequence[object]], delimiter: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(lines)


def rows_of(name: str, folder: Path) -> list[Row]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that some listed clips are not there
        return list(rows_from_corpus(name, folder))


def test_every_corpus_file_loads_says_what_it_is_and_has_a_layout() -> None:
    names = corpus_names()
    assert set(names) == FREE | set(LAYOUTS)
    for name in names:
        info = load_corpus(name).INFO
        assert info.name == name
        assert info.license
        assert info.source_url
        assert name in FREE or info.citation
        assert name in FREE or "Layout: " in load_corpus(name).__doc__


def test_every_corpus_asked_for_is_there() -> None:
    emotion = "ravdess crema_d tess emodb nemo iemocap msp_podcast meld emov_db emns esd cafe emovo urdu shemo subesco"
    sound = "turev_db baved ased esc50 urbansound8k fsd50k audioset vggsound vocalsound audiocaps clotho macs wavcaps"
    words = "speech_commands mswc common_voice fleurs fsdd packed csv shards"
    assert set(f"{emotion} {sound} {words}".split()) == set(corpus_names())


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_official_layout(name: str, tmp_path: Path) -> None:
    layout, info = LAYOUTS[name], load_corpus(name).INFO
    rows = rows_of(name, layout.write(tmp_path))
    assert len(rows) == len(layout.rows)
    for row, expected in zip(rows, layout.rows):
        got = {k: row.original.get(k[2:]) if k.startswith("o.") else getattr(row, k) for k in expected}
        assert got == expected
        assert row.corpus == name
        assert row.license == info.license
        assert Path(split_audio(row.audio)[0]).is_file()
        assert row.emotion is None or row.emotion in task_labels("emotion")
        assert row.task != "arousal" or row.label in task_labels("arousal")
        assert row.task != "sound" or row.label in (None, *task_labels("sound")) or name == "vggsound"
        assert row.language in (None, *info.languages) or not info.languages


@pytest.mark.parametrize("name", [name for name, layout in LAYOUTS.items() if layout.bad])
def test_what_the_layout_does_not_know_is_refused(name: str, tmp_path: Path) -> None:
    folder, (path, text, words) = LAYOUTS[name].write(tmp_path), LAYOUTS[name].bad
    write_table(folder / path, text) if text else write_clip(folder / path)
    with pytest.raises(ClaraError) as e:
        rows_of(name, folder)
    assert words in str(e.value)


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_empty_folder_is_no_corpus(name: str, tmp_path: Path) -> None:
    with pytest.raises(ClaraError, match=r"No such file|nothing matches|none of|no |without|missing"):
        rows_of(name, tmp_path)


def test_clips_that_are_gone_are_counted(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="1 clips of audiocaps"):
        list(rows_from_corpus("audiocaps", LAYOUTS["audiocaps"].write(tmp_path)))


def test_the_real_validation_clips_of_audiocaps(shared_data: Path) -> None:
    rows = list(rows_from_corpus("audiocaps", shared_data / "audiocaps_val"))
    for split in ("valid", "valid-ja"):
        assert [len(r.text) for r in rows if r.split == split] == [5] * 43
    assert not (shared_data / "audiocaps_val" / "manifest.csv").exists()  # what is for scoring only is not packed


def test_tables_that_must_be_there(tmp_path: Path) -> None:
    for name, gone, words in (
        ("speech_commands", "validation_list.txt", "validation_list"),
        ("vocalsound", "meta/te_meta.json", "official split"),
        ("crema_d", "VideoDemographics.csv", "VideoDemographics"),
        ("clotho", "clotho_captions_evaluation.csv", "clotho_captions"),
    ):
        (LAYOUTS[name].write(tmp_path / name) / gone).unlink()
        with pytest.raises(ClaraError, match=words):
            rows_of(name, tmp_path / name)


# is all of it there?


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_inventory_counts_against_the_published_number(name: str, tmp_path: Path) -> None:
    found = take_inventory(name, LAYOUTS[name].write(tmp_path))
    published = load_corpus(name).INFO.clips
    assert {n for n, _, want in found.counts if want} == set(published)
    assert found.complete == (not published and not found.missing)
    assert all(str(want) in line for (_, _, want), line in zip(found.counts, found.lines()) if want)


def test_an_inventory_names_what_is_missing(tmp_path: Path) -> None:
    folder = LAYOUTS["esc50"].write(tmp_path)
    (folder / "audio" / "1-100032-A-0.wav").unlink()
    found = take_inventory("esc50", folder)
    assert found.counts == (("all", 1, 2000),)
    assert found.missing == ("1-100032-A-0.wav",)
    assert "missing: 1 files: 1-100032-A-0.wav" in found.lines()


def test_an_inventory_of_named_clips_tells_codes_and_speakers_that_are_not_there(tmp_path: Path) -> None:
    for speaker in ("f1", "f2", "m1"):
        for emotion in ("dis", "gio"):
            write_clip(tmp_path / speaker / f"{emotion}-{speaker}-b1.wav")
    (tmp_path / "m1" / "gio-m1-b1.wav").unlink()
    found = take_inventory("emovo", tmp_path)
    assert "emotion 'rab'" in found.unheard
    assert "person 'm2'" in found.unheard
    assert "speaker 'm1' beyond 1; the others have 2" in found.unheard
    assert not [u for u in found.unheard if "'f1'" in u]


def test_a_complete_corpus_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, module = LAYOUTS["ravdess"].write(tmp_path), load_corpus("ravdess")
    small = dataclasses.replace(module.INFO, clips={"vocal_channel=speech": 1, "vocal_channel=song": 1})
    monkeypatch.setattr(module, "INFO", small)
    monkeypatch.setattr("clara.data.corpora.load_corpus", lambda *_: module)
    assert take_inventory("ravdess", folder).complete
    (folder / "Actor_01").rename(folder / "elsewhere")  # the song part was not fetched at all
    assert take_inventory("ravdess", folder).complete
    monkeypatch.setattr(module, "INFO", dataclasses.replace(small, clips={"vocal_channel=speech": 2}))
    assert not take_inventory("ravdess", folder).complete


# finding a corpus


def test_a_corpus_is_found_by_its_name_whatever_the_folder_is_called(tmp_path: Path) -> None:
    LAYOUTS["crema_d"].write(tmp_path / "CREMA-D")
    found = find_corpus("crema_d", tmp_path, "crema_d")
    assert (len(found.rows), found.layout, found.folder.name) == (2, "official", "CREMA-D")
    assert len(find_corpus("crema_d", tmp_path / "CREMA-D", "crema_d").rows) == 2
    assert find_corpus("tess", tmp_path, "tess") is None
    assert find_corpus("tess", tmp_path / "nowhere", "tess") is None


def test_a_corpus_is_found_packed_and_in_shards(tmp_path: Path) -> None:
    for name in ("emodb", "esc50"):
        LAYOUTS[name].write(tmp_path / "official" / name)
        rows = rows_of(name, tmp_path / "official" / name)
        write_shards(rows, tmp_path / "shards", ShardConfig(samples_per_shard=1))
    assert layout_of(tmp_path / "shards") == "shards"
    found = find_corpus("emodb", tmp_path / "shards", "emodb")
    official = find_corpus("emodb", tmp_path / "official", "emodb")
    assert found.layout == "shards"
    assert sorted(r.emotion for r in found.rows) == sorted(r.emotion for r in official.rows) == ["boredom", "happiness"]
    assert find_corpus("tess", tmp_path / "shards", "tess") is None
    assert {r.corpus for r in shard_rows(tmp_path / "shards")} == {"emodb", "esc50"}
    assert len(rows_of("shards", tmp_path / "shards")) == 4
    pack(tmp_path / "baved", tmp_path / "official" / "emodb" / "wav" / "03a01Fa.wav", label="high arousal")
    found = find_corpus("baved", tmp_path, "baved")
    assert (found.layout, found.rows[0].label) == ("packed", "high")


def test_clips_that_a_table_names_and_that_are_gone(tmp_path: Path) -> None:
    found = find_corpus("vggsound", LAYOUTS["vggsound"].write(tmp_path), ".")
    assert (len(found.rows), [r.label for r in found.missing]) == (2, ["bird chirping, tweeting"])


# whoever's own


def test_csv(clips: Wav) -> None:
    folder = clips("clips/a.wav", "clips/b.wav")
    header = ["audio", "text", "language", "label", "split"]
    lines = [
        ["clips/a.wav", "ein Hund| a dog ", "de", "", ""],
        [str(folder / "clips" / "b.wav"), "", "", "rain", "test"],
    ]
    table(folder / "mine.csv", [header, *lines])
    for given in (folder, folder / "mine.csv"):
        first, second = rows_from_corpus("csv", given)
        assert (first.text, first.language, first.split, first.corpus) == (("ein Hund", "a dog"), "de", "train", "mine")
        assert (second.label, second.task, second.split) == ("rain", "sound", "test")
        assert Path(first.audio).is_file()
        assert Path(second.audio).is_file()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([["audio", "txet"], ["a.wav", "x"]], "Did you mean 'text'"),
        ([["path", "text"], ["a.wav", "x"]], "no column audio; found path, text"),
        ([["text"], ["x"]], "no column audio"),
        ([["audio", "text"], ["a.wav", ""]], ":2: expected a clip"),
        ([["audio", "text"], ["a.wav"]], ":2: expected 2 cells"),
        ([["audio", "text", "seconds"], ["a.wav", "x", "long"]], "seconds is 'long'"),
        ([["audio", "text", "task"], ["a.wav", "x", "soun"]], "Did you mean 'sound'"),
        ([["audio", "text"]], "holds no clip"),
    ],
)
def test_bad_csv(tmp_path: Path, lines: list[list[str]], message: str) -> None:
    table(tmp_path / "mine.csv", lines)
    with pytest.raises(ClaraError) as e:
        list(rows_from_corpus("csv", tmp_path))
    assert message in str(e.value)


PACKED = [
    "file",
    "seconds",
    "split",
    "language",
    "speaker",
    "gender",
    "age",
    "emotion",
    "label",
    "transcript",
    "caption",
]


def pack(folder: Path, clip: Path, **cells: str) -> None:
    folder.mkdir()
    record = dict.fromkeys(PACKED, "") | {"file": "a.wav", "seconds": "0.05", "split": "train"} | cells
    table(folder / "manifest.csv", [PACKED, [record[c] for c in PACKED]])
    with tarfile.open(folder / "audio.tar", "w") as tar:
        tar.add(clip, "a.wav")


def test_packed(tmp_path: Path, wav: Wav) -> None:
    data = tmp_path / "data"
    data.mkdir()
    pack(data / "baved", wav(0.05), label="high arousal", language="ar", transcript="x")
    pack(data / "emospeech_in", wav(0.05), label="unknown", emotion="calm", language="en")
    pack(data / "korean_emotional", wav(0.05), label="plain-to-emotional", emotion="anger", language="ko")
    pack(data / "philharmonia", wav(0.05), label="cello", caption="forte arco normal")
    pack(data / "sound_effects", wav(0.05), label="minetest", caption="default grass footstep")
    baved, indian, korean, cello, effect = rows_from_corpus("packed", data)
    assert (baved.label, baved.task, baved.audio) == ("high", "arousal", f"{data}/baved/audio.tar::a.wav")
    assert (indian.label, indian.emotion, indian.task) == (None, "calm", "word")
    assert (korean.label, korean.emotion, korean.original["label"]) == (None, "sadness", "plain-to-emotional")
    assert korean.original["emotion"] == "anger"
    assert (cello.label, cello.text, cello.split) == ("cello", ("cello, forte arco",), "train")
    assert (effect.label, effect.text) == (None, ("grass footstep",))
    assert [r.corpus for r in rows_from_corpus("packed", data / "baved")] == ["baved"]
    pack(data / "unheard_of", wav(0.05))
    with pytest.raises(ClaraError, match="add its licence"):
        list(rows_from_corpus("packed", data))
    (data / "baved" / "audio.tar").unlink()
    with pytest.raises(ClaraError, match=r"without audio\.tar"):
        list(rows_from_corpus("packed", data / "baved"))


@pytest.mark.parametrize(
    ("language", "found", "label", "text"),
    [
        ("ca", "ball", None, ("the word for “ball” in Catalan", "someone says the Catalan word for “ball”")),
        ("nn", "tv fireengine", None, ("the word for “fire engine” in Norwegian",
                                       "someone says the Norwegian word for “fire engine”")),
        ("gl", "moon sign", None, ()),
        ("en", "egypt palmtree", "palm tree", ()),
        ("en", "moon moonwalker", None, ()),
    ],
)  # fmt: skip
def test_a_word_of_ktuberling_is_claimed_in_english_alone(
    tmp_path: Path, wav: Wav, language: str, found: str, label: str | None, text: tuple[str, ...]
) -> None:
    pack(tmp_path / "ktuberling_words", wav(0.05), label=found, language=language)
    (row,) = rows_from_corpus("packed", tmp_path / "ktuberling_words")
    assert (row.label, row.text, row.task, row.original["concept"]) == (label, text, "word", found)
    assert row.language == ("nb" if language == "nn" else language)
    assert {key for task, key in facts_of(dataclasses.asdict(row)) if task == "word"} == (
        {f"en:{label}"} if label else set()
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plmove walk grass", "footsteps on grass"),
        ("environment weather WEATHER RAINSTORM inside", "a rainstorm heard from inside"),
        ("smash fail wood furn", "wooden furniture being hit without breaking"),
        ("melee hit flesh big cutting", "a big blade hitting flesh"),
        ("a new name", "a new name"),
    ],
)
def test_names_of_cc_sounds_are_readable(tmp_path: Path, wav: Wav, name: str, text: str) -> None:
    pack(tmp_path / "cc_sounds", wav(0.05), label="cc_sounds", caption=name)
    (row,) = rows_from_corpus("packed", tmp_path / "cc_sounds")
    assert (row.label, row.text, row.original["label"]) == (None, (text,), "cc_sounds")


def test_the_real_packed_sets(shared_data: Path) -> None:
    rows = list(rows_from_corpus("packed", shared_data))
    fetched = {"crema_d_more", "eyase"}  # from elsewhere, as their source says
    assert {r.corpus for r in rows} - fetched == set(load_corpus("packed").INFOS) - fetched
    for folder in sorted(p.parent for p in shared_data.glob("*/manifest.csv")):
        with (folder / "manifest.csv").open(encoding="utf-8", newline="") as table:
            listed = [f"{folder / 'audio.tar'}::{record['file']}" for record in csv.DictReader(table)]
        assert [r.audio for r in rows if r.corpus == folder.name] == listed, folder.name
    for task in ("sound", "instrument", "arousal"):
        labels = {r.label for r in rows if r.task == task and r.label}
        assert labels <= set(task_labels(task)), f"{task} labels without a term"
    assert {r.emotion for r in rows if r.emotion} == set(task_labels("emotion"))
    assert {r.label for r in rows if r.corpus == "arabic_speech_commands"} <= set(task_labels("word"))
    for row in rows:  # a word is claimed only in the language that the label is written in
        assert row.corpus != "ktuberling_words" or row.label is None or row.language == "en", row
    effects = {r.text for r in rows if r.corpus == "cc_sounds"}
    names = r"\b(a a|plmove|melee|ferals|smash|mon|fire gun|environment|WEATHER)\b"
    assert all(text and not re.search(names, text[0]) for text in effects)


def test_the_verb(tmp_path: Path) -> None:
    def call(*arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["corpus", *map(str, arguments)])
        return result.exit_code, result.output

    status, text = call()
    assert status == 0
    assert all(name in text for name in LAYOUTS)
    status, text = call("emodb")
    assert status == 0
    assert "bilderbar" in text
    assert "all 535" in text
    folder = LAYOUTS["emodb"].write(tmp_path)
    assert call("emodb", "--data", folder)[0] == 0
    status, text = call("emodb", "--data", folder, "--check")
    assert status == 1
    assert "all: 2 clips of 535 published" in text
    assert "no clip with emotion 'W'" in text
    assert call("emodb", "--check")[0] == 2
    assert call("emodb", "--data", tmp_path / "nowhere", "--check")[0] == 2
    assert "Did you mean 'emodb'" in call("emobd")[1]
