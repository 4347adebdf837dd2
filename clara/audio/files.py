"""A file as libsndfile opens it, made to hold what its header states: an incomplete copy is not a shorter clip.

libsndfile cuts a stated length to what is there, and says so in its log alone (so do librosa and torchaudio, which read
by it; scipy warns). Here such a file is refused: nobody notices that a label was learnt from half a clip. Files that
state no length, as programs write into a pipe, are read as far as they go: WAV of size 0 or of about 2 or 4 GiB, FLAC
without a count of samples, MP3 without a Xing or Info mark, bare AAC (ADTS) and AMR. Ogg states none either; its last
page must be whole.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import soundfile as sf

from clara.audio.decoder import BLOCK_SECONDS, Decoder, check_format
from clara.audio.film import EXPECTED, Film, Unreadable
from clara.audio.sniff import Slice, first_mp3_frame, kind_of, ogg_links, size_of
from clara.errors import ClaraError

UNKNOWN = 0x7FFFF000  # sizes from here on stand for "until the end": 2 GiB less a page, 2 GiB, 4 GiB
MOST_AT_ONCE = 1 << 26  # samples; room for more is made as they come, whatever a header states
SLACK_SECONDS = 0.05  # headers round
LAST_MP3_FRAMES = 2  # a frame that broke off, and the one whose bits began in it
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


class AudioFile(Decoder):
    """A file as libsndfile reads it. `frames` is None where its header states no length.

    Raises:
        ClaraError: less is there than the header states, on opening or where decoding ends.
        soundfile.LibsndfileError, TypeError: nothing that libsndfile knows.
    """

    def __init__(self, handle: str | bytes | Any, name: str) -> None:
        self.name = name
        self.raw: Any = None if isinstance(handle, str | bytes) else handle
        self.owned = self.raw is None
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
            self.frames: int | None = self.file.frames if stated else None
            check_format(self.rate, self.channels, name)
            self._refuse_cut()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.file.close()
        if self.owned and self.raw is not None:
            self.raw.close()

    def read(self, start: int, count: int | None) -> np.ndarray:
        """As Decoder.read; one call of libsndfile where the length is known."""
        if self.frames is None:
            return super().read(start, count)
        left = max(0, self.frames - start)
        if (left if count is None else min(count, left)) * self.channels > MOST_AT_ONCE:
            return super().read(start, count)
        count = left if count is None else min(count, left)
        try:
            if start:
                self.file.seek(min(start, self.frames))
            wave_TC = self.file.read(count, dtype="float32", always_2d=True)
        except sf.LibsndfileError as e:
            raise ClaraError(f"{self.name} is damaged after {start / self.rate:.1f} s ({e}).") from e
        self._check(self.frames, self.frames - count + len(wave_TC))
        if count == left:
            self._refuse_rest()
        return wave_TC

    def blocks(self, start: int = 0) -> Iterator[np.ndarray]:
        """(T, C) float32, `BLOCK_SECONDS` at a time, from frame `start` to the end of the file."""
        total, size = start, int(BLOCK_SECONDS * self.rate)
        try:
            if start:
                self.file.seek(start)
        except sf.LibsndfileError:  # behind an end that nobody knew
            return
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
        slack = SLACK_SECONDS + (LAST_MP3_FRAMES * 1152 / self.rate if self.file.format == "MP3" else 0)
        if stated - found > slack * self.rate:
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


class Chain(Decoder):
    """Links of one Ogg file, each a file of its own, one after the other.

    Raises:
        ClaraError: links of different rates or channels.
    """

    def __init__(self, file: Any, links: list[tuple[int, int]], name: str) -> None:
        self.file, self.links, self.name, self.frames = file, links, name, None
        formats = set()
        for start, end in links:
            with AudioFile(Slice(file, start, end), name) as link:
                formats.add((link.rate, link.channels))
        if len(formats) > 1:
            raise ClaraError(
                f"{name} is a chain of {len(links)} Ogg files of different rates or channels, "
                f"{sorted(formats)}: `ffmpeg -i OLD NEW` writes it at one rate."
            )
        ((self.rate, self.channels),) = formats

    def close(self) -> None:
        self.file.close()

    def blocks(self, start: int = 0) -> Iterator[np.ndarray]:
        """(T, C) float32, at most `BLOCK_SECONDS` at a time, from frame `start` of the whole to its end."""
        for begin, end in self.links:
            with AudioFile(Slice(self.file, begin, end), self.name) as link:
                if start >= (length := link.length()):
                    start -= length
                    continue
                yield from link.blocks(start)
                start = 0


def open_audio(handle: str | bytes | io.BytesIO, name: str) -> Decoder:
    """The decoder of an encoded file, given its path or its bytes; it is chosen by what the file holds.

    Raises:
        MissingDependency: FFmpeg is needed, and PyAV cannot be imported.
        ClaraError: no audio, or a copy that broke off.
    """
    file: Any = handle if isinstance(handle, io.BytesIO) else open(handle, "rb")  # noqa: SIM115 - closed below
    try:
        kind = kind_of(file)
        if kind in ("mp4", "matroska", "adts"):
            return Film(file, name, kind)
        links = ogg_links(file, name) if kind == "ogg" else []
        try:
            if len(links) > 1:
                return Chain(file, links, name)
            file.seek(0)
            decoder = AudioFile(handle, name)
        except (sf.LibsndfileError, TypeError) as e:
            return _otherwise(file, name, kind, e)
    except BaseException:
        file.close()
        raise
    if file is not handle:
        file.close()
    return decoder


def _otherwise(file: Any, name: str, kind: str, cause: Exception) -> Decoder:
    """What libsndfile cannot open: an MP3 behind other bytes, or something for FFmpeg."""
    at = first_mp3_frame(file)
    if at:
        try:
            return AudioFile(Slice(file, at, size_of(file)), name)
        except (sf.LibsndfileError, TypeError):
            pass  # FFmpeg is more lenient
    try:
        return Film(file, name, kind or ("mp3" if at is not None else ""))
    except Unreadable as e:
        why = str(getattr(cause, "error_string", cause)).rstrip(".")  # without the name of a buffer in memory
        raise ClaraError(f"{name} cannot be decoded as audio ({why}). {EXPECTED}") from e


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
