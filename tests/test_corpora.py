"""Every corpus file reads its official layout; the clips here are made by the test."""

from __future__ import annotations

import csv
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from clara.data.manifest import Row, corpus_names, load_corpus, rows_from_corpus, split_audio
from clara.errors import ClaraError
from clara.text.prompts import task_labels

Wav = Callable[..., Path]


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
    """The rows, after checks that hold for every corpus."""
    rows = list(rows_from_corpus(name, folder))
    for row in rows:
        assert row.corpus == name
        assert row.license == load_corpus(name).INFO.license
        assert Path(split_audio(row.audio)[0]).is_file()
        assert row.emotion is None or row.emotion in task_labels("emotion")
    return rows


def test_every_corpus_file_loads_and_says_what_it_is() -> None:
    names = corpus_names()
    assert len(names) >= 12
    for name in names:
        info = load_corpus(name).INFO
        assert info.name == name
        assert info.license
        assert info.source_url


def test_ravdess(clips: Wav) -> None:
    folder = clips("Audio_Speech_Actors_01-24/Actor_12/03-01-06-01-02-01-12.wav", "Actor_01/03-02-02-02-01-02-01.wav")
    song, speech = rows_of("ravdess", folder)
    assert (speech.emotion, speech.gender, speech.speaker, speech.split) == ("fear", "female", "12", "test")
    assert speech.transcript == "Dogs are sitting by the door"
    assert song.original == {"vocal_channel": "song", "intensity": "strong", "repetition": 2}
    assert (song.emotion, song.gender) == ("calm", "male")
    clips("Actor_02/03-01-09-01-02-01-02.wav")
    with pytest.raises(ClaraError, match="expected seven numbers"):
        list(rows_from_corpus("ravdess", folder))


def test_crema_d(clips: Wav) -> None:
    folder = clips("AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV/1002_IEO_HAP_HI.wav")
    people = [
        ["ActorID", "Age", "Sex", "Race", "Ethnicity"],
        [1001, 51, "Male", "x", "y"],
        [1002, 21, "Female", "x", "y"],
    ]
    table(folder / "VideoDemographics.csv", people)
    angry, happy = rows_of("crema_d", folder)
    assert (angry.emotion, angry.gender, angry.age) == ("anger", "male", "51")
    assert (happy.emotion, happy.gender, happy.original) == ("happiness", "female", {"level": "high"})
    assert angry.transcript == "Don't forget a jacket"
    clips("AudioWAV/1003_DFA_ANG_XX.wav")
    with pytest.raises(ClaraError, match="1003_DFA_ANG_XX"):
        list(rows_from_corpus("crema_d", folder))


def test_tess(clips: Wav) -> None:
    folder = clips("OAF_Fear/OAF_back_ps.wav", "YAF_angry/YAF_dog_angry.wav", "OAF_neutral/OA_bite_neutral.wav")
    surprised, bite, angry = rows_of("tess", folder)
    assert (bite.speaker, bite.emotion) == ("OAF", "neutral")
    assert (surprised.emotion, surprised.age, surprised.transcript) == ("surprise", "64", "Say the word back")
    assert (angry.emotion, angry.age) == ("anger", "26")


def test_emodb(clips: Wav) -> None:
    folder = clips("wav/03a01Fa.wav", "wav/16b10Lb.wav")
    happy, bored = rows_of("emodb", folder)
    assert (happy.emotion, happy.gender, happy.language) == ("happiness", "male", "de")
    assert (bored.emotion, bored.speaker, bored.original) == ("boredom", "16", {"version": "b"})
    clips("wav/99a01Fa.wav")
    with pytest.raises(ClaraError, match="99a01Fa"):
        list(rows_from_corpus("emodb", folder))


def test_nemo(clips: Wav) -> None:
    folder = clips("samples/WR0_surprised_64.wav", "samples/EB0_anger_1.wav")
    header = ["file_id", "emotion", "raw_text", "normalized_text", "speaker_id", "gender", "age"]
    first = ["WR0_surprised_64.wav", "surprised", "Ucho wykrywa.", "ucho wykrywa", "        WR0", "male", 23]
    second = ["EB0_anger_1.wav", "anger", "Lubię czytać.", "lubię czytać", "        EB0", "female", 27]
    table(folder / "data.tsv", [header, first, second], delimiter="\t")
    surprised, angry = rows_of("nemo", folder)
    assert (surprised.emotion, surprised.speaker, surprised.split) == ("surprise", "WR0", "valid")
    assert (angry.emotion, angry.split, angry.transcript) == ("anger", "train", "Lubię czytać.")
    table(folder / "data.tsv", [header, [*first[:1], "suprised", *first[2:]]], delimiter="\t")
    with pytest.raises(ClaraError, match="Did you mean 'surprised'"):
        list(rows_from_corpus("nemo", folder))


def test_esc50(clips: Wav) -> None:
    folder = clips("audio/1-100032-A-0.wav", "audio/5-9032-A-30.wav")
    header = ["filename", "fold", "target", "category", "esc10", "src_file", "take"]
    lines = [["1-100032-A-0.wav", 1, 0, "dog", True, 100032, "A"]]
    lines += [["5-9032-A-30.wav", 5, 30, "door_wood_knock", False, 9032, "A"]]
    table(folder / "meta" / "esc50.csv", [header, *lines])
    dog, knock = rows_of("esc50", folder)
    assert (dog.label, dog.split, dog.task) == ("dog", "train", "sound")
    assert (knock.label, knock.split, knock.speaker) == ("door wood knock", "test", "fold5")
    assert knock.label in task_labels("sound")


def test_urbansound8k(clips: Wav) -> None:
    folder = clips("audio/fold5/100032-3-0-0.wav")
    header = ["slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class"]
    table(folder / "metadata" / "UrbanSound8K.csv", [header, ["100032-3-0-0.wav", 100032, 0, 0.3, 1, 5, 3, "dog_bark"]])
    (bark,) = rows_of("urbansound8k", folder)
    assert (bark.label, bark.speaker, bark.original["foreground"]) == ("dog bark", "fold5", True)


def test_audiocaps(clips: Wav) -> None:
    folder = clips("audio/train/AAA.wav", "audio/test/YBBB.wav", "audio/test/CCC_30.wav")
    header = ["audiocap_id", "youtube_id", "start_time", "caption"]
    table(folder / "train.csv", [header, [1, "AAA", 10, "A dog barks"], [2, "gone", 0, "Rain falls"]])
    lines = [[3, "BBB", 30, "A man talks"], [4, "CCC", 30, "Wind"], [5, "BBB", 30, "Someone, speaking"]]
    table(folder / "test.csv", [header, *lines])
    with pytest.warns(UserWarning, match="1 clips of AudioCaps"):
        dog, man, wind = rows_of("audiocaps", folder)
    assert (dog.split, dog.text) == ("train", ("A dog barks",))
    assert (man.split, man.text) == ("test", ("A man talks", "Someone, speaking"))
    assert Path(wind.audio).name == "CCC_30.wav"


def test_clotho(clips: Wav) -> None:
    folder = clips("evaluation/Santa Motor.wav")
    with pytest.raises(ClaraError, match="clotho_captions"):
        list(rows_from_corpus("clotho", folder))
    header = ["file_name", *(f"caption_{i}" for i in range(1, 6))]
    table(folder / "clotho_captions_evaluation.csv", [header, ["Santa Motor.wav", *"abcde"]])
    (row,) = rows_of("clotho", folder)
    assert (row.split, row.text) == ("test", tuple("abcde"))


def test_speech_commands(clips: Wav) -> None:
    names = ("yes/0a7c2a8d_nohash_0.wav", "no/1b7c2a8d_nohash_1.wav", "no/2b7c2a8d_nohash_0.wav")
    folder = clips(*names, "_background_noise_/pink_nohash_.wav")
    with pytest.raises(ClaraError, match="validation_list"):
        list(rows_from_corpus("speech_commands", folder))
    (folder / "validation_list.txt").write_text("no/1b7c2a8d_nohash_1.wav\n")
    (folder / "testing_list.txt").write_text("yes/0a7c2a8d_nohash_0.wav\n")
    rows = rows_of("speech_commands", folder)
    assert [(r.label, r.split, r.speaker) for r in rows] == [
        ("no", "valid", "1b7c2a8d"),
        ("no", "train", "2b7c2a8d"),
        ("yes", "test", "0a7c2a8d"),
    ]


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
        ([["path", "text"], ["a.wav", "x"]], "Unknown column"),
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
    assert (korean.label, korean.emotion, korean.original["label"]) == (None, "anger", "plain-to-emotional")
    assert (cello.label, cello.text, cello.split) == ("cello", ("cello, forte arco",), "train")
    assert (effect.label, effect.text) == (None, ("grass footstep",))
    assert [r.corpus for r in rows_from_corpus("packed", data / "baved")] == ["baved"]
    pack(data / "unheard_of", wav(0.05))
    with pytest.raises(ClaraError, match="add its licence"):
        list(rows_from_corpus("packed", data))
    (data / "baved" / "audio.tar").unlink()
    with pytest.raises(ClaraError, match=r"without audio\.tar"):
        list(rows_from_corpus("packed", data / "baved"))


def test_the_real_packed_sets(shared_data: Path) -> None:
    rows = list(rows_from_corpus("packed", shared_data))
    assert {r.corpus for r in rows} == set(load_corpus("packed").INFOS)
    assert len(rows) == 28441
    for task in ("sound", "instrument", "arousal"):
        labels = {r.label for r in rows if r.task == task and r.label}
        assert labels <= set(task_labels(task)), f"{task} labels without a term"
    assert {r.emotion for r in rows if r.emotion} == set(task_labels("emotion"))
    assert {r.label for r in rows if r.corpus == "arabic_speech_commands"} <= set(task_labels("word"))
