"""Reports of users about tables and shards: each test is a fault that somebody met, with the value that is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from clara.data.manifest import Row, numbered_table, read_table, rows_from_corpus
from clara.errors import ClaraError
from clara.text.captions import facts_of
from clara.train.finetune import read_rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in "abcd":
        (tmp_path / f"{name}.wav").touch()
    return tmp_path


def read(folder: Path, table: str, by: str) -> list[Row]:
    (folder / "t.csv").write_text(table, encoding="utf-8")
    return read_rows(folder / "t.csv") if by == "finetune" else list(rows_from_corpus("csv", folder / "t.csv"))


BOTH = pytest.mark.parametrize("by", ["finetune", "csv"])


@BOTH
@pytest.mark.parametrize(
    ("table", "line"),
    [
        ('audio,text\na.wav,rain\nb.wav,"a dog\nc.wav,wind\nd.wav,"a cat"\n', 3),
        ('audio,text\na.wav,rain\nb.wav,"a dog\nc.wav,wind\n', 3),  # to the end of the file
        ('audio,text\na.wav,"rain\nb.wav,a dog\nc.wav,wind"\nd.wav,a cat\n', 2),  # closed two rows later
        ('audio,text\na.wav,"rain"fall\n', 2),
    ],
)
def test_item_4_an_unclosed_quote_swallows_no_rows(folder: Path, by: str, table: str, line: int) -> None:
    with pytest.raises(ClaraError, match=rf"t\.csv:{line}: .*Is a quote not closed"):
        read(folder, table, by)


@BOTH
def test_item_4_a_caption_may_have_two_lines(folder: Path, by: str) -> None:
    (row,) = read(folder, 'audio,text\na.wav,"rain\nand ""wind"""\n', by)
    assert row.text == ('rain\nand "wind"',)


@BOTH
def test_item_4_long_cells(folder: Path, by: str) -> None:
    (row,) = read(folder, f"audio,text\na.wav,{'rain ' * 40_000}\n", by)
    assert len(row.text[0]) == 199_999
    (folder / "t.csv").write_text("audio,text\na.wav,rain\nb.wav," + "x" * (1 << 24) + "y\n")
    with pytest.raises(ClaraError, match=r"t\.csv:3: .*at most 16,777,216 characters"):
        list(read_table(folder / "t.csv", ["audio"]))


@BOTH
@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("audio,emotion\na.wav,anger\n\n\nb.wav,angr\n", 5),
        ('audio,text,emotion\na.wav,"two\nlines",anger\nb.wav,x,angr\n', 4),
    ],
)
def test_item_4_errors_name_the_line_of_the_editor(folder: Path, by: str, table: str, line: int) -> None:
    if by == "finetune":
        with pytest.raises(ClaraError, match=rf"emotion at .*t\.csv:{line}"):
            read(folder, table, by)
    (folder / "t.csv").write_text(table)
    assert [at for at, _ in numbered_table(folder / "t.csv", ["audio"])][-1] == line


@BOTH
@pytest.mark.parametrize(
    ("header", "one", "two"),
    [
        ("emotion", "anger", "fear"),
        ("language", "de", "en"),
        ("split", "train", "test"),
        ("task,label", "sound,dog", "instrument,piano"),
    ],
)
def test_item_4_records_of_one_clip_that_contradict_are_refused(
    folder: Path, by: str, header: str, one: str, two: str
) -> None:
    table = f"audio,text,{header}\na.wav,x,{one}\n\nb.wav,y,{one}\n./a.wav,z,{two}\n"
    name, value = header.partition(",")[0], one.partition(",")[0]
    with pytest.raises(
        ClaraError, match=rf"t\.csv:5: {name} is '.*', and '{value}' on line 2, of the same clip a\.wav"
    ):
        read(folder, table, by)


@BOTH
def test_item_4_records_of_one_clip_are_put_together(folder: Path, by: str) -> None:
    header = "audio,text,emotion,language,split\n"
    rows = read(folder, header + "a.wav,x,,,\nb.wav,y,fear,,\na.wav,z,anger,de,test\na.wav,x,,,\n", by)
    assert [Path(row.audio).name for row in rows] == ["a.wav", "b.wav"]
    assert (rows[0].text, rows[0].emotion, rows[0].language, rows[0].split) == (("x", "z"), "anger", "de", "test")
    assert rows[1].split == "train"


@BOTH
def test_item_4_several_labels_a_clip(folder: Path, by: str) -> None:
    (row,) = read(folder, "audio,task,label\na.wav,sound,dog\na.wav,sound,rain\n", by)
    assert row.label is None and row.original == {"labels": ["dog", "rain"]}
    assert facts_of(vars(row)) == {("sound", "dog"), ("sound", "rain")}
    if by == "csv":
        assert read(folder, "audio,label\na.wav,dog | rain\n", by) == [row]
    else:
        assert read(folder, "audio,label\na.wav,a dog\na.wav,heavy_rain\n", by)[0].text == ("a dog", "heavy rain")
        with pytest.raises(ClaraError, match=r"Unknown sound at .*t\.csv:2.* 'dgo'"):
            read(folder, "audio,task,label\na.wav,sound,dog\na.wav,sound,dgo\n", by)


def test_item_4_a_column_named_twice_is_refused(folder: Path) -> None:
    with pytest.raises(ClaraError, match="'text' is there twice"):
        read(folder, "audio,text,text\na.wav,x,y\n", "finetune")
