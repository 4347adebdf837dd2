"""Reports of users about tables and shards: each test is a fault that somebody met, with the value that is right."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from clara.data.clip_tables import read_rows
from clara.data.entries import scan
from clara.data.loader import DataConfig
from clara.data.manifest import Row, numbered_table, read_table, rows_from_corpus
from clara.data.samples import read_shard, row_from_meta, verify_shards
from clara.errors import ClaraError
from clara.text.captions import facts_of


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


# Item 5: shards


def flac() -> bytes:
    buffer = io.BytesIO()
    sf.write(buffer, 0.1 * np.random.default_rng(0).standard_normal(1600), 16000, format="FLAC")
    return buffer.getvalue()


def shard(path: Path, samples: list[dict[str, Any]]) -> Path:
    """Samples {suffix: bytes, text or JSON} as a tar; each has a clip."""
    with tarfile.open(path, "w") as tar:
        for i, sample in enumerate(samples):
            for suffix, data in {"flac": flac(), **sample}.items():
                data = json.dumps(data).encode() if isinstance(data, dict) else data
                data = data.encode() if isinstance(data, str) else data
                member = tarfile.TarInfo(f"{i}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


RAIN = [
    {"json": {"text": "rain"}},  # LAION
    {"json": {"text": ["rain"], "tag": ["weather"]}},
    {"json": {"caption": "rain", "id": "1", "duration": 0.1}},  # WavCaps, AudioSetCaps
    {"json": {"captions": ["rain"]}},
    {"json": {"captions": [{"caption": "rain", "id": 3}]}},
    {"json": {"text": {"en": ["rain"]}}},  # nested
    {"json": {"meta": {"caption": "rain"}}},
    {"json": {"original_data": {"title": "rain"}}},
    {"json": {"raw_text": "rain", "split": "Train"}},
    {"json": {"caption_1": "rain", "caption_2": "rain"}},  # Clotho
    {"json": {"labels": ["the rains of Castamere"]}},  # no key of ours
    {"txt": "rain\n"},  # webdataset
    {"json": {"id": 4}, "txt": "rain"},
]


@pytest.mark.parametrize("sample", RAIN)
def test_item_5_captions_under_the_keys_of_the_field(tmp_path: Path, sample: dict[str, Any]) -> None:
    path = shard(tmp_path / "0.tar", [sample])
    (read,) = read_shard(path)
    assert read.row.text in (("rain",), ("the rains of castamere",)) and read.row.split == "train"
    (entry,) = scan(DataConfig((str(path),), 1))
    assert entry.meta["text"] == read.row.text
    assert verify_shards(tmp_path) == []


def test_item_5_several_labels_are_a_caption() -> None:
    assert row_from_meta({"tag": ["dog", "heavy_rain"]}, "a.tar::0.flac").text == ("dog, heavy rain",)
    assert row_from_meta({"class_names": ["dog", "rain"]}, "a.tar::0.flac").text == ("dog, rain",)
    row = row_from_meta({"label": "dog"}, "a.tar::0.flac")
    assert (row.label, row.text) == ("dog", ())  # said in every language


@pytest.mark.parametrize(
    ("given", "split"), [("Train", "train"), ("TEST", "test"), ("training", "train"), ("S1", "S1")]
)
def test_item_5_splits_are_told_by_any_case(given: str, split: str) -> None:
    assert row_from_meta({"text": "x", "split": given}, "a.tar::0.flac").split == split


def test_item_5_what_is_left_out_is_counted(tmp_path: Path) -> None:
    samples = [
        {"json": {"text": "rain"}},
        {"json": {"id": 7}},
        {"json": {"url": "x"}},
        {"json": {"text": "x", "split": "fold9"}},
    ]
    path = shard(tmp_path / "0.tar", samples)
    with pytest.warns(UserWarning, match=r"Of 4 samples some are left out: 2 without a text .*'1'.*1 of 'fold9'"):
        assert len(scan(DataConfig((str(path),), 1))) == 1
    assert [p.key for p in verify_shards(tmp_path)] == ["1", "2"]
    assert "nothing to learn from: no text under text, caption" in verify_shards(tmp_path)[0].what


def test_item_5_brace_patterns(tmp_path: Path) -> None:
    for i in range(3):
        shard(tmp_path / f"s-{i:03d}.tar", RAIN[:1])
    assert len(scan(DataConfig((f"{tmp_path}/s-{{000..002}}.tar",), 1))) == 3
    assert len(scan(DataConfig((f"{tmp_path}/{{s-000,s-002}}.tar",), 1))) == 2
    assert len(scan(DataConfig((f"{tmp_path}/s-{{000..001}}*.tar", f"{tmp_path}/s-*.tar"), 1))) == 3
    with pytest.raises(ClaraError, match=r"2 of 5 are missing: .*s-003\.tar, .*s-004\.tar"):
        scan(DataConfig((f"{tmp_path}/s-{{000..004}}.tar",), 1))
    odd = shard(tmp_path / "run[2]{a,b}.tar", RAIN[:1])
    assert len(scan(DataConfig((str(odd),), 1))) == 1  # what is there by that name is meant


def test_item_5_compressed_and_remote_shards_are_named(tmp_path: Path) -> None:
    packed = tmp_path / "0.tar.gz"
    packed.write_bytes(gzip.compress(shard(tmp_path / "0.tar", RAIN[:1]).read_bytes()))
    with pytest.raises(ClaraError, match=r"0\.tar\.gz is compressed \(gzip\).*`gunzip`"):
        scan(DataConfig((str(packed),), 1))
    for attempt in (verify_shards, lambda folder: list(rows_from_corpus("shards", folder))):
        with pytest.raises(ClaraError, match=r"1 compressed tars \(0\.tar\.gz"):
            attempt(tmp_path)
    for address in ("https://a.org/0.tar", "s3://bucket/{0..9}.tar", "pipe:aws s3 cp s3://x -"):
        with pytest.raises(ClaraError, match="are not fetched"):
            scan(DataConfig((address,), 1))
