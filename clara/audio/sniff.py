"""What a file is by its first bytes, whatever its name says, and whether its container was copied whole.

libsndfile tells its own formats apart; here are those that it cannot read, or reads short.
"""

from __future__ import annotations

import io
import re
from typing import Any, BinaryIO

from clara.errors import ClaraError

MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp")
MP4_NEEDED = (b"moov", b"mdat", b"moof")  # boxes without which something is missing
MATROSKA, SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"
JUNK_BYTES = 1 << 16  # how far into a file the first frame of an MP3 is looked for
# known by their beginnings to libsndfile, to FFmpeg, or to both; not to be searched for MP3 frames
KNOWN = (b"RIFF", b"RIFX", b"RF64", b"FORM", b".snd", b"dns.", b"caff", b"fLaC", b"OggS", b"riff", b"NIST", b"#!AMR",
         b"0&\xb2u", b"FLV", b"MAC ", b"wvpk", b"TTA", b"MThd")  # fmt: skip
BIT_RATES = {  # kbit/s by (MPEG-1 or later, layer): ISO/IEC 11172-3 and 13818-3
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
SYNC = re.compile(rb"\xff[\xe2-\xff]")


class Slice:
    """Bytes `start` to `end` of an open file, as a file that libsndfile or FFmpeg reads. Several share one file."""

    def __init__(self, file: Any, start: int, end: int) -> None:
        self.file, self.start, self.size, self.at = file, start, end - start, 0

    def read(self, count: int = -1) -> bytes:
        left = max(0, self.size - self.at)
        self.file.seek(self.start + self.at)
        data = self.file.read(left if count < 0 else min(count, left))
        self.at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = max(0, offset + (0, self.at, self.size)[whence])
        return self.at

    def tell(self) -> int:
        return self.at

    def close(self) -> None:
        """The file belongs to whoever opened it."""


def size_of(file: Any) -> int:
    """Bytes of an open file; it is left at its beginning."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    return size


def kind_of(file: Any) -> str:
    """'ogg', 'mp4', 'matroska', 'adts' or 'mp3' (also behind an ID3 tag), '' for all that libsndfile tells itself."""
    file.seek(0)
    head = file.read(12)
    if head[:4] == b"OggS":
        return "ogg"
    if head[4:8] in MP4_BOXES:
        return "mp4"
    if head[:4] == MATROSKA:
        return "matroska"
    file.seek(_behind_id3(file))
    sync = file.read(2)
    if len(sync) == 2 and sync[0] == 0xFF and sync[1] & 0xF6 == 0xF0:
        return "adts"  # AAC without a container: frames that begin with 12 bits set, and a layer of 0
    if _frame_bytes(sync + file.read(2)):
        return "mp3"
    return ""


def first_mp3_frame(file: Any) -> int | None:
    """Where the frames of an MP3 begin behind bytes that are none of its own, such as the head of a web page; None
    where there are no three frames in a row among the first bytes."""
    file.seek(0)
    data = file.read(JUNK_BYTES + 8192)
    if data.startswith(KNOWN) or data[4:8] in MP4_BOXES or data.startswith(MATROSKA):
        return None
    for found in SYNC.finditer(data, 0, JUNK_BYTES):
        at, count = found.start(), 0
        while count < 3 and (size := _frame_bytes(data[at : at + 4])):
            at, count = at + size, count + 1
        if count == 3:
            return found.start()
    return None


def _frame_bytes(head: bytes) -> int:
    """Length of the MPEG audio frame with this header of 4 bytes; 0 if it is none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer, rate, pitch = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3), head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or rate in (0, 15) or pitch == 3:
        return 0
    first = version == 3
    kbit = BIT_RATES[first, layer][rate - 1]
    hertz = (44100, 48000, 32000)[pitch] >> (0 if first else 1 if version == 2 else 2)
    padding = head[2] >> 1 & 1
    if layer == 1:
        return 4 * (12000 * kbit // hertz + padding)
    return (72000 if layer == 3 and not first else 144000) * kbit // hertz + padding


def _behind_id3(file: Any) -> int:
    file.seek(0)
    head = file.read(10)
    if head[:3] != b"ID3":
        return 0
    return 10 + sum((byte & 127) << 7 * i for i, byte in enumerate(head[:5:-1]))


def refuse_cut(file: Any, kind: str, name: str) -> None:
    """ClaraError when an MP4 or Matroska ends before one of its parts does."""
    end = {"mp4": _end_of_mp4, "matroska": _end_of_matroska}.get(kind)
    stated, size = end(file) if end else 0, size_of(file)
    if stated > size:
        raise cut_short(name, f"its container states {stated:,} bytes, and it holds {size:,}")


def cut_short(name: str, why: str) -> ClaraError:
    """The error (not raised) of a copy that broke off."""
    return ClaraError(f"{name} breaks off: {why}. Copy it again; what there is of it, `ffmpeg -i OLD NEW` can save.")


def _end_of_mp4(file: Any) -> int:
    at, size = 0, size_of(file)
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length, begins = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, begins = int.from_bytes(head[8:16], "big"), 16
        if length < begins:  # 0: to the end of the file
            return 0
        if at + length > size:
            return at + length if head[4:8] in MP4_NEEDED else 0
        at += length
    return 0


def _end_of_matroska(file: Any) -> int:
    file.seek(4)
    head = _vint(file)
    if head is None:
        return 0
    file.seek(file.tell() + head)
    if file.read(4) != SEGMENT or (length := _vint(file)) is None:
        return 0  # written into a pipe, as browsers record: it states no length
    return file.tell() + length


def _vint(file: BinaryIO) -> int | None:
    """EBML's number of 1 to 8 bytes (RFC 8794, section 4); None for "not known"."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    value = first[0] & (0x7F >> more)
    value = int.from_bytes(bytes([value]) + file.read(more), "big")
    return None if value == (1 << 7 * (more + 1)) - 1 else value


def ogg_links(file: Any, name: str) -> list[tuple[int, int]]:
    """Where each link of a chain lies, (first byte, end). Ogg files are chained by writing them one after the other,
    as radio streams and voice recorders do.

    Raises:
        ClaraError: the last page is not whole.
    """
    at, size, starts, opening = 0, size_of(file), [], False
    while at < size:
        file.seek(at)
        head = file.read(27)
        if head[:4] != b"OggS"[: len(head)]:
            if (found := _next_page(file, at, size)) is None:
                break  # something is appended that is not Ogg
            at = found
            continue
        table = file.read(head[26]) if len(head) == 27 else b""
        end = at + 27 + len(table) + sum(table)
        if len(head) < 27 or len(table) < head[26] or end > size:
            raise cut_short(name, f"its last page of Ogg, at byte {at:,} of {size:,}, is not whole")
        first = bool(head[5] & 2)
        if first and not opening:
            starts.append(at)
        opening, at = first, end
    return list(zip(starts, [*starts[1:], size]))


def _next_page(file: Any, at: int, size: int) -> int | None:
    block = 1 << 16
    while at < size:
        file.seek(at)
        if (found := file.read(block + 3).find(b"OggS")) >= 0:
            return at + found
        at += block
    return None
