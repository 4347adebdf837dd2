"""Containers and codecs that libsndfile does not know (m4a, mp4, mov, 3gp, webm, mkv, aac, wma, amr …), by PyAV, whose
wheels carry FFmpeg."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from clara.audio.decoder import BLOCK_SECONDS, Decoder, check_format
from clara.audio.sniff import refuse_cut
from clara.errors import ClaraError, MissingDependency

# FFmpeg also knows playlists and scripts, which open other files: only containers that hold their samples are read
FORMATS = (
    "aac,ac3,adts,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dts,eac3,flac,flv,loas,matroska,mov,mp3,mp4,mpeg,mpegts,ogg,"
    "rm,tak,tta,w64,wav,webm,wv"
)
CONTAINERS_ALONE = {"format_whitelist": FORMATS}
SEEKABLE = ("mp4", "matroska")  # others tell the time of a frame by guessing
EXPECTED = "Expected wav, flac, ogg, opus, mp3, m4a or another common kind of file."
MOST_PLANES = 8  # AV_NUM_DATA_POINTERS
PREROLL = 1.0  # seconds decoded before a span: codecs need some frames to settle


class Unreadable(ClaraError):
    """FFmpeg knows no such thing."""


class Film(Decoder):
    """The best sound track of a film, or of a container that holds nothing else; `frames` is never known.

    Raises:
        ClaraError: nothing that FFmpeg can decode, no sound track, a copy that broke off, PyAV missing.
    """

    def __init__(self, file: Any, name: str, kind: str) -> None:
        try:
            import av
        except ImportError as e:
            raise MissingDependency(
                f"{name}: PyAV, which decodes m4a, mp4, webm and others, cannot be imported ({e}): pip install -U av, "
                "or save it as wav or flac."
            ) from e
        self.av, self.file, self.name, self.kind, self.frames = av, file, name, kind, None
        refuse_cut(file, kind, name)
        first = next(self._decoded(0.0), None)
        if first is None:
            raise ClaraError(f"{name} holds no samples.")
        self.begin, wave_TC, self.rate = first
        self.channels, self.lead = wave_TC.shape[1], len(wave_TC)
        check_format(self.rate, self.channels, name)

    def close(self) -> None:
        self.file.close()

    def length(self) -> int:
        """How many frames there are: as the track's header states where that can be trusted, else by decoding."""
        if self.kind == "mp4":
            with self._open() as film:
                track = film.streams.best("audio")
                if track.duration and track.time_base:
                    return round(float(track.duration * track.time_base) * self.rate)
        return super().length()

    def blocks(self, start: int = 0) -> Iterator[np.ndarray]:
        """(T, C) float32, about `BLOCK_SECONDS` at a time, from frame `start` to the end."""
        held: list[np.ndarray] = []
        for wave_TC in self._from(start):
            held.append(wave_TC)
            if sum(map(len, held)) >= BLOCK_SECONDS * self.rate:
                yield np.concatenate(held)
                held = []
        if held:
            yield np.concatenate(held)

    def _from(self, start: int) -> Iterator[np.ndarray]:
        near, at = max(0.0, start / self.rate - PREROLL), 0
        if near and self.kind in SEEKABLE and self.begin is not None:
            pieces = self._decoded(self.begin + near)
            next(pieces, None)  # of the first one FFmpeg leaves out what begins a track
            first = next(pieces, None)
            if first is None or first[0] is None or (at := self._place(first)) > start:
                pieces, at = self._decoded(0.0), 0  # it went elsewhere: from the beginning, then
            else:
                yield from self._cut(first, at, start)
                at += len(first[1])
        else:
            pieces = self._decoded(0.0)
        for piece in pieces:
            yield from self._cut(piece, at, start)
            at += len(piece[1])

    def _place(self, piece: tuple[float | None, np.ndarray, int]) -> int:
        """The number of a frame's first sample. Matroska's times are whole milliseconds; where packets are of one
        length, behind the first of them, the samples before this one can be counted."""
        time, wave_TC, _ = piece
        assert time is not None and self.begin is not None  # the caller has looked
        at = round((time - self.begin) * self.rate)
        even = self.lead + round((at - self.lead) / len(wave_TC)) * len(wave_TC)
        return even if abs(even - at) <= 0.001 * self.rate else at

    def _cut(self, piece: tuple[float | None, np.ndarray, int], at: int, start: int) -> Iterator[np.ndarray]:
        _, wave_TC, rate = piece
        if (rate, wave_TC.shape[1]) != (self.rate, self.channels):
            raise ClaraError(
                f"{self.name} changes from {self.channels} channels at {self.rate} Hz to {wave_TC.shape[1]} at {rate} "
                "Hz: `ffmpeg -i OLD NEW` writes it at one rate."
            )
        if at + len(wave_TC) > start:
            yield wave_TC[max(0, start - at) :]

    def _open(self) -> Any:
        self.file.seek(0)
        options = {**CONTAINERS_ALONE, "protocol_whitelist": "none"}
        try:
            film = self.av.open(self.file, container_options=options, metadata_errors="ignore")
        except (self.av.FFmpegError, ValueError, OSError) as e:
            raise self._refused(e) from e
        try:
            track = film.streams.best("audio")
            if track is None and not film.streams.video:
                raise self._refused(ValueError("it holds no sound"))
            if track is None:
                raise ClaraError(f"{self.name} holds pictures and no sound.")
            if track.codec_context is None:
                raise ClaraError(f"{self.name}: this FFmpeg has no decoder of its sound: save it as wav or flac.")
        except BaseException:
            film.close()
            raise
        return film

    def _refused(self, error: Exception) -> ClaraError:
        why = str(getattr(error, "strerror", None) or error).partition("\n")[0].rstrip(".")
        return Unreadable(f"{self.name} cannot be decoded as audio ({why}). {EXPECTED}")

    def _decoded(self, at: float) -> Iterator[tuple[float | None, np.ndarray, int]]:
        """(time of its first sample, (T, C), rate) of each frame from about `at` seconds of the film on.

        A packet that cannot be decoded is passed over where no samples came before it, or none come after it: MP3 and
        AAC are cut out of streams. Between others it is damage.
        """
        with self._open() as film:
            track, begun, broken = film.streams.best("audio"), False, None
            try:
                if at:
                    film.seek(int(at / track.time_base), stream=track)
                for packet in film.demux(track):
                    try:
                        found = packet.decode()
                    except self.av.FFmpegError as e:
                        broken = e if begun else None
                        continue
                    for frame in found:
                        if broken is not None:
                            raise self._damaged(broken, frame.time)
                        begun = True
                        self._refuse_planes(frame)
                        yield frame.time, _samples(frame), frame.sample_rate
            except (self.av.FFmpegError, OSError) as e:
                raise (self._damaged(e, None) if begun else self._refused(e)) from e

    def _refuse_planes(self, frame: Any) -> None:
        """PyAV reads past the list of a frame's planes where there are more of them than FFmpeg keeps in it."""
        if frame.format.is_planar and frame.layout.nb_channels > MOST_PLANES:
            raise ClaraError(
                f"{self.name} has {frame.layout.nb_channels} channels: expected at most {MOST_PLANES} of this kind of "
                "sound. Its header is damaged, or `ffmpeg -i OLD -ac 1 NEW` makes one channel of them."
            )

    def _damaged(self, error: Exception, time: float | None) -> ClaraError:
        where = "" if time is None else f" before {time:.1f} s"
        return ClaraError(
            f"{self.name} is damaged{where} ({error}). Copy it again, or `ffmpeg -i OLD NEW` writes it anew."
        )


def _samples(frame: Any) -> np.ndarray:
    """(T, C) float32 of a frame of any sample format."""
    wave = frame.to_ndarray()
    channels = frame.layout.nb_channels
    wave_TC = wave.T if frame.format.is_planar else wave.reshape(-1, channels)
    if wave_TC.dtype == np.uint8:
        return (wave_TC.astype(np.float32) - 128) / 128
    if np.issubdtype(wave_TC.dtype, np.integer):
        return wave_TC.astype(np.float32) / -float(np.iinfo(wave_TC.dtype).min)
    return wave_TC.astype(np.float32)
