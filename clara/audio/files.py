"""A file as libsndfile opens it, made to hold what its header states: a copy that broke off is no shorter clip.

libsndfile cuts a stated length to what is there, and says so in its log alone (so do librosa and torchaudio, which read
by it; scipy warns). Here such a file is refused: nobody notices that a label was learnt from half a clip. Files that
state no length, as programs write into a pipe, are read as far as they go: WAV of size 0 or of about 2 or 4 GiB, FLAC
without a count of samples, MP3 without a Xing or Info mark. Ogg states none either: what is cut there is not seen.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import soundfile as sf

from clara.audio.bounds import check_header
from clara.errors import ClaraError

UNKNOWN = 0x7FFFF000  # sizes from here on stand for "until the end": 2 GiB less a page, 2 GiB, 4 GiB
SLACK_SECONDS = 0.05  # headers round
BLOCK_SECONDS = 30.0
COUNT_MAX = 0x7FFFFFFFFFFFFFFF  # libsndfile's frames of a FLAC that states none
# libsndfile's log on the chunk that holds the samples; RF64 and W64 have theirs checked as a whole
CUT = re.compile(r"^ *(?:data|SSND|Data Size|Riff size|riff) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
MP3_LENGTH, MP3_FIRST = re.compile(rb"Xing|Info"), 4096


class _Onward(sf.SoundFile):
    """soundfile asks a seekable file how many frames are left, and seeks after each reading: neither is possible where
    the length is not known."""

    def seekable(self) -> bool:
        return False


class _Patched:
    """A file with some of its bytes read as others."""

    def __init__(self, file: BinaryIO, at: int, value: bytes) -> None:
        self.file, self.at, self.value = file, at, value

    def read(self, count: int = -1) -> bytes:
        start = self.file.tell()
        data = bytearray(self.file.read(count))
        for i, byte in enumerate(self.value, self.at - start):
            if 0 <= i < len(data):
                data[i] = byte
        return bytes(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()


class AudioFile:
    """An open file. `frames` is None where its header states no length.

    Raises:
        ClaraError: less is there than the header states, on opening or where decoding ends; a rate or a number of
            channels that no recording has.
        soundfile.LibsndfileError, TypeError: nothing that libsndfile knows.
    """

    def __init__(self, handle: str | bytes | io.BytesIO, name: str) -> None:
        self.name = name
        self.raw: BinaryIO | None = handle if isinstance(handle, io.BytesIO) else None
        self.file = _Onward(handle)
        stated = self.file.frames < COUNT_MAX
        try:
            if self.file.format == "MP3" or not self.file.frames:  # look at the bytes themselves
                self.file.close()
                self.raw = self.raw or open(handle, "rb")  # noqa: SIM115 - closed with self
                at, stated = _zero_size(self.raw), _states_length(self.raw)
                self.raw.seek(0)
                self.file = _Onward(self.raw if at is None else _Patched(self.raw, at, b"\xff" * 4))
            self.rate, self.channels = self.file.samplerate, self.file.channels
            check_header(self.rate, self.channels, name)
            self.frames: int | None = self.file.frames if stated else None
            self._refuse_cut()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> AudioFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.file.close()
        if self.raw is not None:
            self.raw.close()

    def length(self) -> int:
        """How many frames there are. The file is decoded where it does not state them."""
        return self.frames if self.frames is not None else sum(len(block) for block in self.blocks())

    def read(self, start: int, count: int | None) -> np.ndarray:
        """(T, C) float32 from frame `start` on: `count` frames, fewer where the file ends; None: all that are left."""
        if start:
            try:
                self.file.seek(start if self.frames is None else min(start, self.frames))
            except sf.LibsndfileError:  # behind an end that nobody knew
                return np.zeros((0, self.channels), np.float32)
        if self.frames is None:
            return self._onward(start, count)
        left = max(0, self.frames - start)
        count = left if count is None else min(count, left)
        wave_TC = self.file.read(count, dtype="float32", always_2d=True)
        self._check(self.frames, self.frames - count + len(wave_TC))
        if count == left:
            self._refuse_rest()
        return wave_TC

    def _onward(self, start: int, count: int | None) -> np.ndarray:
        blocks, left = [np.zeros((0, self.channels), np.float32)], count
        for block in self.blocks(start):
            blocks.append(block[:left])
            left = None if left is None else left - len(blocks[-1])
            if left == 0:
                break
        return np.concatenate(blocks)

    def blocks(self, start: int = 0) -> Iterator[np.ndarray]:
        """(T, C) float32, `BLOCK_SECONDS` at a time, to the end of the file, which stands at frame `start`."""
        total, size = start, int(BLOCK_SECONDS * self.rate)
        try:
            # what libsndfile decodes beyond its own count it sets to zero
            while (count := min(size, self.file.frames - total)) > 0:
                block_TC = self.file.read(count, dtype="float32", always_2d=True)
                if not len(block_TC):
                    break
                total += len(block_TC)
                yield block_TC
        except sf.LibsndfileError as e:
            raise ClaraError(f"{self.name} breaks off after {total / self.rate:.1f} s ({e}).") from e
        if self.frames is not None:
            self._check(self.frames, total)
        self._refuse_rest()

    def _refuse_cut(self) -> None:
        for stated, there in CUT.findall(self.file.extra_info):
            if int(stated) < UNKNOWN and int(there) > 0:
                self._check(self.file.frames * int(stated) // int(there), self.file.frames)

    def _check(self, stated: int, found: int) -> None:
        if stated - found > SLACK_SECONDS * self.rate:
            raise ClaraError(
                f"{self.name} breaks off: its header states {stated / self.rate:.2f} s, and it holds "
                f"{found / self.rate:.2f} s. Copy it again; if there is no more of it, `ffmpeg -i OLD NEW` writes a "
                "header that is true."
            )

    def _refuse_rest(self) -> None:
        """libsndfile reads no MP3 beyond its header's length, or the one that its first frame leads it to expect."""
        if self.file.format != "MP3" or self.raw is None:
            return
        read, size = self.raw.tell(), self.raw.seek(0, io.SEEK_END)
        self.raw.seek(read)
        if size - read > 0.05 * size and b"APETAGEX" not in self.raw.read():
            seconds = self.file.frames / self.rate
            raise ClaraError(
                f"{self.name} goes on after the {seconds:.2f} s it seems to have, {read} of {size} bytes: several "
                "MP3s in one, or one of variable bit rate without a Xing header. `ffmpeg -i OLD NEW` writes it anew."
            )


def _zero_size(file: BinaryIO) -> int | None:
    """Where a WAV says that its samples are 0 bytes, if more follows than its header counts: it was written into a
    pipe, or its writer was killed."""
    file.seek(0)
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return None
    counted = 8 + int.from_bytes(head[4:8], "little")
    while len(chunk := file.read(8)) == 8:
        at, size = file.tell(), int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"data":
            more = file.seek(0, io.SEEK_END) > at and not at < counted < UNKNOWN
            return at - 4 if more and not size else None
        file.seek(size + size % 2, io.SEEK_CUR)
    return None


def _states_length(file: BinaryIO) -> bool:
    """Whether an MP3 has the mark of a length in its first frame, which lies behind its tags; True for other files."""
    file.seek(0)
    head = file.read(10)
    if head[:4] == b"RIFF":
        return True
    tags = 10 + sum((byte & 127) << 7 * i for i, byte in enumerate(head[:5:-1])) if head[:3] == b"ID3" else 0
    file.seek(tags)
    return MP3_LENGTH.search(file.read(MP3_FIRST)) is not None
