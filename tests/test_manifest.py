"""One row schema: what is written is read back, and what is wrong is named with its line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from clara.data import manifest
from clara.data.manifest import Row, load_corpus, read_manifest, rows_from_corpus, split_audio, write_manifest
from clara.errors import ClaraError

FULL = Row(
    "/a/b.tar::c d.wav",
    "toy",
    "valid",
    1.5,
    "sw",
    ("one", "zwei"),
    ("drei",),
    ("a dog",),
    "anger",
    "dog",
    "emotion",
    "s1",
    "female",
    "33",
    "habari “ya” asubuhi",
    "CC0",
    {"take": 2},
)
PLUGIN = """
from clara.data.manifest import Corpus, Row
INFO = Corpus("toy", "CC0", "nowhere", "sound")
def rows(folder):
    yield from [Row(str(p), "toy", task="sound") for p in sorted(folder.glob("*.wav"))]
"""


def test_rows_survive_the_file(tmp_path: Path) -> None:
    rows = [FULL, Row("/x.wav", "toy"), Row("/y.wav", "toy", text=("x" * 10_000,))]
    assert write_manifest(tmp_path / "m.jsonl", rows) == 3
    assert list(read_manifest(tmp_path / "m.jsonl")) == rows
    assert os.listdir(tmp_path) == ["m.jsonl"]


def test_relative_audio_stays_beside_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_manifest("out/m.jsonl", [Row("clips/a.wav", "toy"), Row("clips/b.tar::a.wav", "toy")])
    assert '"../clips/a.wav"' in Path("out/m.jsonl").read_text()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    read = [r.audio for r in read_manifest("../out/m.jsonl")]
    assert read == ["../clips/a.wav", "../clips/b.tar::a.wav"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"audio": "a.wav", "corpus": "x"', ":2: not valid JSON"),
        ('["a.wav"]', ":2: got list, expected an object"),
        ('{"corpus": "x"}', ":2: 'audio' is missing"),
        ('{"audio": "a.wav", "corpus": "x", "langauge": "de"}', "Did you mean 'language'"),
        ('{"audio": "a.wav", "corpus": "x", "text": "a dog"}', ":2: 'text' is 'a dog', expected a list"),
        ('{"audio": "a.wav", "corpus": "x", "seconds": "3"}', ":2: 'seconds' is '3', expected a number"),
        ('{"audio": "a.wav", "corpus": "x", "split": null}', ":2: 'split' is None"),
        ('{"audio": "a.wav", "corpus": "x", "label": 3}', ":2: 'label' is 3 (int), expected text"),
        ('{"audio": "a.wav", "corpus": "x", "original": []}', ":2: 'original' is []"),
        ('{"audio": "a.wav", "corpus": "x", "task": "emotoin"}', "Did you mean 'emotion'"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(f'{{"audio": "a.wav", "corpus": "x"}}\n{line}\n', encoding="utf-8")
    with pytest.raises(ClaraError) as e:
        list(read_manifest(path))
    assert message in str(e.value)
    assert str(path) in str(e.value)


def test_a_file_that_is_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(ClaraError, match="No such manifest"):
        read_manifest(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ClaraError, match="holds no rows"):
        list(read_manifest(tmp_path / "empty.jsonl"))
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ClaraError, match="not UTF-8"):
        list(read_manifest(tmp_path / "b.jsonl"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("audio,text\na.wav,un café\n".encode("latin-1"), "is not UTF-8 (invalid continuation byte): save the table"),
        (b"audio;text\na.wav;x\n", "found audio;text. Its cells are parted by ';'"),
        (b"audio\ttext\na.wav\tx\n", r"parted by '\t': save it with ','"),
        (b"", "no column audio; found nothing."),
    ],
)
def test_a_table_that_cannot_be_read_is_told_in_one_line(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(ClaraError) as e:
        list(manifest.read_table(tmp_path / "t.csv", ["audio"]))
    assert message in str(e.value)
    assert "\n" not in str(e.value)


def test_a_table_given_as_a_manifest_is_told_the_way(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("audio,text\n")
    with pytest.raises(ClaraError, match="--corpus csv --data"):
        read_manifest(tmp_path / "t.csv")


def test_a_bad_row_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ClaraError, match="row 2: 'seconds' is -1"):
        write_manifest(tmp_path / "m.jsonl", [Row("/a.wav", "toy"), Row("/b.wav", "toy", seconds=-1)])
    assert not (tmp_path / "m.jsonl").exists()


def test_split_audio() -> None:
    assert split_audio("x/a.tar::b/c.wav") == ("x/a.tar", "b/c.wav")
    assert split_audio("x/a::b.wav") == ("x/a::b.wav", None)


def test_a_plugin_is_found_by_path_and_beside_the_recipe(tmp_path: Path, wav: Callable[..., Path]) -> None:
    (tmp_path / "recipes" / "corpora").mkdir(parents=True)
    plugin = tmp_path / "recipes" / "corpora" / "toy.py"
    plugin.write_text(PLUGIN)
    clip = wav(0.1)
    expected = [Row(str(clip), "toy", task="sound", license="CC0")]
    assert list(rows_from_corpus(plugin, tmp_path)) == expected
    for recipe in (tmp_path / "recipes" / "r.yaml", tmp_path / "recipes" / "train" / "r.yaml"):
        assert list(rows_from_corpus("toy", tmp_path, near=recipe)) == expected
    with pytest.raises(ClaraError, match=r"Unknown corpus 'toy'.*packed"):
        load_corpus("toy")
    with pytest.raises(ClaraError, match="Unknown corpus"):
        load_corpus("../corpora/toy", near=tmp_path / "recipes" / "r.yaml")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def rows(folder):\n    return 1 +", "does not load: SyntaxError"),
        ("import no_such_module_at_all", "does not load: ModuleNotFoundError"),
        ("INFO = 3\ndef rows(folder): ...", "not a corpus file"),
        (PLUGIN.replace('task="sound")', 'task="sond")'), "Did you mean 'sound'"),
        (PLUGIN.replace("*.wav", "*.mp3"), "holds no clip of 'toy'"),
    ],
)
def test_a_broken_plugin_is_named(tmp_path: Path, wav: Callable[..., Path], code: str, message: str) -> None:
    wav(0.1)
    (tmp_path / "toy.py").write_text(code)
    with pytest.raises(ClaraError) as e:
        list(rows_from_corpus(tmp_path / "toy.py", tmp_path))
    assert message in str(e.value)


def test_missing_folder_and_file(tmp_path: Path) -> None:
    with pytest.raises(ClaraError, match="No such corpus file"):
        load_corpus(tmp_path / "no.py")
    with pytest.raises(ClaraError, match=r"No such folder.*esc50"):
        rows_from_corpus("esc50", tmp_path / "none")


def test_names_are_those_of_the_shipped_files() -> None:
    assert "packed" in manifest.corpus_names()
    assert manifest.WHEEL_CORPORA.is_dir()
