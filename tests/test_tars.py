"""Tars of samples: one rule of keys for every reader, webdataset's, and no reader that ends early in silence."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import webdataset

from clara.data.corpora import shard_rows
from clara.data.entries import scan_tar
from clara.data.samples import read_shard, verify_shards
from clara.data.shards import read_member
from clara.data.tars import groups, split_name, writer
from clara.errors import ClaraError

READERS: dict[str, Callable[[Path], object]] = {
    "training": lambda path: list(scan_tar(str(path))),
    "samples": lambda path: list(read_shard(path)),
    "corpus": lambda path: list(shard_rows(path.parent)),
    "member": lambda path: read_member(str(path), "a/0.flac"),
}
JSON = json.dumps({"text": "rain", "seconds": 0.1}).encode()


@pytest.fixture
def flac() -> bytes:
    buffer = io.BytesIO()
    sf.write(buffer, np.zeros(1600), 16000, format="FLAC")
    return buffer.getvalue()


def write(path: Path, members: list[tuple[str, bytes]]) -> list[tarfile.TarInfo]:
    """The tar's members, with where each lies in it."""
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        folder = tarfile.TarInfo("folder.of.none")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    with tarfile.open(path) as tar:
        return tar.getmembers()


def clips(flac: bytes, keys: list[str]) -> list[tuple[str, bytes]]:
    return [(f"{key}{suffix}", data) for key in keys for suffix, data in ((".flac", flac), (".json", JSON))]


def test_samples_are_those_of_webdataset(tmp_path: Path, flac: bytes) -> None:
    names = ["v1.0/a.flac", "v1.0/a.JSON", "v1.0/a.seg.1.png", "b.v2.json", "b.v2.flac", "b.v3.json", "c.tar.json"]
    names += ["__meta__/x.json", "__info__", "dotless", "._c.json", "d/e/f.cls", "d/e.f/f.cls", "./g.TXT", "ü ü.x"]
    write(tmp_path / "0.tar", [(name, name.encode()) for name in names])
    own = [{k: v for k, v in group.items() if k != "__url__"} for group in groups(tmp_path / "0.tar")]
    theirs = list(webdataset.WebDataset(str(tmp_path / "0.tar"), shardshuffle=False))
    kept = [{k: v for k, v in s.items() if k in ("__key__",) or k[:2] != "__"} for s in theirs]
    assert own == kept
    assert split_name("v1.0/a.seg.1.PNG") == webdataset.tariterators.base_plus_ext("v1.0/a.seg.1.png")


@pytest.mark.parametrize("reader", ["training", "samples", "corpus"])
def test_a_key_with_dots_is_no_key_to_any_reader(tmp_path: Path, flac: bytes, reader: str) -> None:
    write(tmp_path / "0.tar", clips(flac, ["clip.v2"]))
    with pytest.raises(ClaraError, match=r"0\.tar sample 'clip': no audio .*v2\.flac.*first dot"):
        READERS[reader](tmp_path / "0.tar")
    (problem,) = verify_shards(tmp_path)
    assert "first dot" in problem.what


@pytest.mark.parametrize("reader", ["training", "samples", "corpus"])
def test_members_apart_are_no_sample_to_any_reader(tmp_path: Path, flac: bytes, reader: str) -> None:
    write(tmp_path / "0.tar", [("0.flac", flac), ("1.flac", flac), ("0.json", JSON), ("1.json", JSON)])
    with pytest.raises(ClaraError, match=r"sample '0': no JSON .*side by side"):
        READERS[reader](tmp_path / "0.tar")
    assert verify_shards(tmp_path)


def test_more_members_with_dots_and_folders_with_dots_are_read_by_all(tmp_path: Path, flac: bytes) -> None:
    write(
        tmp_path / "0.tar",
        [*clips(flac, ["a.b/0"]), ("a.b/0.whisper.json", b"[]"), ("a.b/1.FLAC", flac), ("a.b/1.JSON", JSON)],
    )
    entries, samples, rows = (READERS[reader](tmp_path / "0.tar") for reader in ("training", "samples", "corpus"))
    assert [e.key for e in entries] == [s.key for s in samples] == ["a.b/0", "a.b/1"]
    assert [s.suffix for s in samples] == ["flac", "flac"] and [s.row for s in samples] == rows
    assert [r.audio.split("::")[1] for r in rows] == ["a.b/0.flac", "a.b/1.FLAC"]
    assert all(read_member(*r.audio.split("::")) == flac for r in rows)
    assert verify_shards(tmp_path) == []


@pytest.mark.parametrize("key", ["clip.v2", "", "a/.hidden", "a/"])
def test_a_key_that_would_be_read_back_as_another_is_not_written(tmp_path: Path, key: str) -> None:
    with writer(tmp_path / "0.tar") as tar:
        tar.write({"__key__": "v1.0/0", "txt": b"x"})
        with pytest.raises(ClaraError, match=rf"The key '{key}' cannot be read back"):
            tar.write({"__key__": key, "txt": b"x"})
    assert [g["__key__"] for g in groups(tmp_path / "0.tar")] == ["v1.0/0"]


def damaged(whole: bytes, at: int) -> Iterator[bytes]:
    """A tar whose header `at` is no header, is lost, or is the end of the file."""
    yield whole[: at + 150] + b"99" + whole[at + 152 :]  # in the checksum
    yield whole[:at] + bytes(512) + whole[at + 512 :]
    yield whole[:at] + whole[:512].translate(bytes(range(256))[::-1]) + whole[at + 512 :]
    yield whole[:at]
    yield whole[: at + 100]


@pytest.mark.parametrize("reader", READERS)
def test_a_header_that_is_none_ends_no_reading_in_silence(tmp_path: Path, flac: bytes, reader: str) -> None:
    path = tmp_path / "0.tar"
    at = write(path, clips(flac, ["a/0", "a/1", "a/2"]))[2].offset  # where the second sample begins
    READERS[reader](path)
    for data in damaged(path.read_bytes(), at):
        path.write_bytes(data)
        with pytest.raises(ClaraError, match=rf"0\.tar .*truncated or damaged at byte {at} of {len(data)}"):
            READERS[reader](path)
        assert any(f"at byte {at}" in p.what for p in verify_shards(tmp_path))


def test_one_tar_behind_another_is_not_read_as_one(tmp_path: Path, flac: bytes) -> None:
    write(tmp_path / "0.tar", clips(flac, ["0"]))
    whole = (tmp_path / "0.tar").read_bytes()
    (tmp_path / "0.tar").write_bytes(whole + whole)
    with pytest.raises(ClaraError, match="more data behind it"):
        list(scan_tar(str(tmp_path / "0.tar")))


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["hard", "soft", "sparse"])
def test_members_whose_bytes_lie_elsewhere_are_refused(tmp_path: Path, flac: bytes, reader: str, kind: str) -> None:
    """Two hard links of one file vanished as a sample, and a sparse file gave bytes that were not its own."""
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in (("a/0.flac", flac), ("a/0.json", JSON)):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for name in ("b/1.flac", "b/1.json"):
            member = tarfile.TarInfo(name)
            member.linkname = name.replace("b/1", "a/0")
            member.type = tarfile.LNKTYPE if kind == "hard" else tarfile.SYMTYPE
            if kind == "sparse":
                member.type, member.linkname = tarfile.GNUTYPE_SPARSE, ""
            tar.addfile(member)
    with pytest.raises(ClaraError, match=r"b/1\.flac is a link"):
        READERS[reader](path)
