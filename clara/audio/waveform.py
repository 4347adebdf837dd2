"""The only reader of audio: file, bytes or array, also as `plain` finds them -> mono float32 at one rate.

Stereo is averaged, never concatenated. Any sample rate is resampled here (soxr, HQ) and nowhere else. Files are read by
soundfile; containers it does not know (m4a, mp4, webm …) by torchcodec where that is installed.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import soxr

from clara.audio.bounds import check_header
from clara.audio.files import BLOCK_SECONDS, AudioFile
from clara.errors import ClaraError

CONTAINERS = (".m4a", ".mp4", ".webm", ".mkv", ".aac")
EXTENSIONS = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au", *CONTAINERS)
URL = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # a Path has one slash left; one letter is a drive


@dataclass(frozen=True)
class AudioInfo:
    """Length in seconds, sample rate in Hz and channel count of a source as it is stored."""

    seconds: float
    sample_rate: int
    channels: int


def read(source: Any, sample_rate: int, *, start: float = 0.0, seconds: float | None = None) -> np.ndarray:
    """Read `source` as mono float32 (T,) at `sample_rate` Hz, from `start` seconds for at most `seconds`.

    Raises:
        ClaraError: missing or empty file, not audio, less audio than the header states (`clara.audio.files`), NaN or
            infinite samples, no samples in the span, a bare array.
    """
    name, source = describe(source), plain(source)
    wave, rate = _decode(source, start, seconds)
    return _finish(wave, rate, sample_rate, name)


def info(source: Any) -> AudioInfo:
    """Length, rate and channels, without decoding the samples where the header states them. Raises ClaraError as `read`
    does."""
    source = plain(source)
    if isinstance(source, tuple):
        wave, rate = _array(source)
        return AudioInfo(wave.shape[0] / rate, rate, wave.shape[1])
    try:
        with AudioFile(_handle(source), describe(source)) as file:
            return AudioInfo(file.length() / file.rate, file.rate, file.channels)
    except (sf.LibsndfileError, TypeError) as e:
        decoder = _torchcodec(source, e)
        meta, seconds = decoder.metadata, decoder.metadata.duration_seconds_from_header
        if seconds is None or _is_adts(source):  # Matroska states how long the film is, ADTS nothing: FFmpeg guesses
            seconds = sum(len(block) for block in _spans(decoder, describe(source))) / meta.sample_rate
        return AudioInfo(float(seconds), meta.sample_rate, meta.num_channels)


def stream(source: Any, sample_rate: int, *, window: float, hop: float) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (start in seconds, mono float32 window at `sample_rate`) in bounded memory, whatever the length.

    The last window may be shorter; a tail already covered by the window before it is not yielded again.
    """
    if window <= 0 or hop <= 0:
        raise ClaraError(f"window={window} and hop={hop} must both be above 0 seconds.")
    size, step = int(round(window * sample_rate)), max(1, int(round(hop * sample_rate)))
    buffer, offset, yielded = np.zeros(0, np.float32), 0, False
    for block in _resampled_blocks(source, sample_rate):
        buffer = np.concatenate([buffer, block])
        while len(buffer) > size:
            yield offset / sample_rate, buffer[:size].copy()
            yielded = True
            buffer, offset = buffer[step:], offset + step
    covered = size - step if yielded else 0
    if len(buffer) > max(0, covered) or not yielded:
        # shorter than one output sample: keep one, as `read` does
        yield offset / sample_rate, buffer if len(buffer) else np.zeros(1, np.float32)


def plain(source: Any) -> Any:
    """An open binary file -> its bytes, from its beginning where it can go back; a cell of Hugging Face's datasets
    ({"array", "sampling_rate"}, {"bytes"} or {"path"}) -> what it holds. Paths, bytes and pairs stay as they are.

    Raises:
        ClaraError: a file opened as text, or one that is closed; a cell that holds none of these.
    """
    if isinstance(source, Mapping):
        if (wave := source.get("array")) is not None:
            return wave if hasattr(wave, "shape") else np.asarray(wave, np.float32), source.get("sampling_rate")
        if found := source.get("bytes") or source.get("path"):
            return found
        raise ClaraError(
            f"Audio as a dictionary of {sorted(map(str, source))}: expected 'array' and 'sampling_rate', 'bytes', or "
            "'path'."
        )
    if not hasattr(source, "read"):
        return source
    try:
        if source.seekable():
            source.seek(0)
        data = source.read()
    except (ValueError, AttributeError) as e:
        raise ClaraError(f"{describe(source)} cannot be read ({e}): expected an open binary file.") from e
    if not isinstance(data, bytes | bytearray):
        raise ClaraError(f"{describe(source)} gives {type(data).__name__}, not bytes: open it in mode 'rb'.")
    return data


def list_audio(folder: str | Path) -> list[Path]:
    """All audio files below `folder`, sorted, but hidden ones (macOS puts a `._name.wav` that is no audio beside each
    file of a foreign disk). ClaraError when there is no folder or no audio in it."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ClaraError(f"No such folder: {folder}.")
    wanted = (p for p in folder.rglob("*") if p.suffix.lower() in EXTENSIONS and not p.name.startswith("."))
    found = sorted(p for p in wanted if p.is_file())
    if not found:
        raise ClaraError(f"No audio below {folder}. Looked for {' '.join(EXTENSIONS)}.")
    return found


def describe(source: Any) -> str:
    """A short name of a source for messages."""
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, bytes | bytearray):
        return f"<{len(source)} bytes>"
    if isinstance(source, tuple) and len(source) == 2 and hasattr(source[0], "shape"):
        return f"<array {tuple(source[0].shape)} at {source[1]} Hz>"
    name = source.get("path") if isinstance(source, Mapping) else getattr(source, "name", None)
    return name if isinstance(name, str) and name else f"<{type(source).__name__}>"


def _handle(source: Any) -> Any:
    """What soundfile opens: a path string or a buffer. Checks what can be checked before decoding."""
    if isinstance(source, bytes | bytearray):
        if not source:
            raise ClaraError("Audio of 0 bytes: expected an encoded file (wav, flac, ogg, opus, mp3).")
        return io.BytesIO(source)
    if not isinstance(source, str | Path):
        raise ClaraError(
            f"Audio of type {type(source).__name__}: expected a path, encoded bytes, an open file, or (array, "
            "sample_rate). A bare array has no sample rate: pass (array, rate)."
        )
    path = Path(source)
    if path.is_dir():
        raise ClaraError(f"{path} is a folder: use clara.audio.waveform.list_audio(folder) or pass the files.")
    if not path.is_file():
        if URL.match(str(source)):
            raise ClaraError(f"{source}: addresses are not fetched. Download it, and pass the file or its bytes.")
        raise ClaraError(f"No such audio file: {path}.")
    if path.stat().st_size == 0:
        raise ClaraError(f"{path} is empty (0 bytes).")
    try:
        str(path).encode()
    except UnicodeEncodeError:  # a name in another encoding than the system's: soundfile encodes text strictly
        return os.fsencode(path)
    return str(path)


def _array(source: tuple) -> tuple[np.ndarray, int]:
    """(array, rate) -> float32 (T, C). (C, T) is recognised by its short first axis."""
    if len(source) != 2 or not hasattr(source[0], "shape") or isinstance(source[1], bool):
        raise ClaraError("Audio tuple: expected (array, sample_rate in Hz).")
    wave, rate = source
    if not isinstance(rate, int | np.integer) or rate <= 0:
        raise ClaraError(f"Sample rate {rate!r}: expected a whole number of Hz above 0.")
    if hasattr(wave, "detach"):
        wave = wave.detach().cpu()
        wave = (wave.float() if wave.is_floating_point() else wave).numpy()  # numpy has no bfloat16
    wave = np.asarray(wave)
    if wave.ndim == 1:
        wave = wave[:, None]
    elif wave.ndim == 2 and wave.shape[0] < wave.shape[1]:
        wave = wave.T
    elif wave.ndim != 2:
        raise ClaraError(f"Array of shape {wave.shape}: expected (T,) or (channels, T).")
    if wave.dtype == np.uint8:
        return (wave.astype(np.float32) - 128.0) / 128.0, int(rate)
    if np.issubdtype(wave.dtype, np.integer):
        return wave.astype(np.float32) / float(-np.iinfo(wave.dtype).min), int(rate)
    if not np.issubdtype(wave.dtype, np.floating):
        raise ClaraError(f"Array of dtype {wave.dtype}: expected floats in [-1, 1] or integers.")
    return wave.astype(np.float32), int(rate)


def _decode(source: Any, start: float, seconds: float | None) -> tuple[np.ndarray, int]:
    """Samples (T, C) of a span and their rate."""
    if start < 0 or (seconds is not None and seconds <= 0):
        raise ClaraError(f"Span start={start}, seconds={seconds}: expected start ≥ 0 and seconds > 0.")
    if isinstance(source, tuple):
        wave, rate = _array(source)
        first = int(round(start * rate))
        return wave[first : None if seconds is None else first + int(round(seconds * rate))], rate
    handle = _handle(source)
    try:
        with AudioFile(handle, describe(source)) as file:
            count = None if seconds is None else int(round(seconds * file.rate))
            return file.read(int(round(start * file.rate)), count), file.rate
    except (sf.LibsndfileError, TypeError) as e:
        decoder, name = _torchcodec(source, e), describe(source)
        if start or seconds is not None:  # a track may begin later than the film; time 0 is its first sample
            begin = max(0.0, decoder.metadata.begin_stream_seconds or 0.0)
            start += _played(decoder, begin, begin + 1.0, name).pts_seconds
        return _span(decoder, start, None if seconds is None else start + seconds, name)


def _torchcodec(source: Any, cause: Exception) -> Any:
    """An AudioDecoder for what soundfile cannot open, or the reason why this is no audio."""
    name, wants = describe(source), _is_container(source)
    if not wants:
        why = str(getattr(cause, "error_string", cause)).rstrip(".")  # without the name of a buffer in memory
        text = f"{name} cannot be decoded as audio ({why}). Expected wav, flac, ogg, opus or mp3."
        raise ClaraError(text) from cause
    try:
        from torchcodec.decoders import AudioDecoder
    except (ImportError, OSError, RuntimeError) as e:
        raise ClaraError(
            f"{name}: this container needs torchcodec and FFmpeg ({e}): "
            "pip install -U torchcodec, or save it as wav or flac."
        ) from e
    try:
        decoder = AudioDecoder(bytes(source) if isinstance(source, bytes | bytearray) else str(source))
        check_header(decoder.metadata.sample_rate or 0, decoder.metadata.num_channels or 0, name)
        return decoder
    except ClaraError:
        raise
    except (RuntimeError, ValueError) as e:
        if "best audio stream" in str(e):
            raise ClaraError(f"{name} holds pictures and no sound.") from e
        raise ClaraError(f"{name} cannot be decoded as audio ({_said(e)}).") from e


def _is_container(source: Any) -> bool:
    """Something for torchcodec: by its name, or as bytes by how MP4, Matroska and ADTS begin."""
    if isinstance(source, str | Path):
        return Path(source).suffix.lower() in CONTAINERS
    return bytes(source[4:8]) == b"ftyp" or bytes(source[:4]) == b"\x1aE\xdf\xa3" or _is_adts(source)


def _is_adts(source: Any) -> bool:
    """AAC without a container: frames that begin with 12 bits set, and a layer of 0."""
    if isinstance(source, str | Path):
        return Path(source).suffix.lower() == ".aac"
    return len(source) > 1 and source[0] == 0xFF and source[1] & 0xF6 == 0xF0


def _said(error: Exception) -> str:
    """What torchcodec says, without the place in its own sources; the first line."""
    return re.sub(r"^\w+, \S+:\d+, ", "", str(error).strip().partition("\n")[0])


def _played(decoder: Any, start: float, stop: float | None, name: str) -> Any:
    """What torchcodec decodes between two times of the film."""
    try:
        return decoder.get_samples_played_in_range(start, stop)
    except (RuntimeError, ValueError) as e:
        raise ClaraError(f"{name} cannot be decoded as audio from {start:.1f} s on ({_said(e)}).") from e


def _span(decoder: Any, start: float, stop: float | None, name: str) -> tuple[np.ndarray, int]:
    """Samples (T, C) between two times of the film, and their rate; none where it has no sound there."""
    try:
        samples = _played(decoder, start, stop, name)
    except ClaraError as e:
        if start > 0 and "No audio frames" in str(e):
            return np.zeros((0, decoder.metadata.num_channels), np.float32), decoder.metadata.sample_rate
        raise
    return samples.data.numpy().T, samples.sample_rate


def _finish(wave_TC: np.ndarray, rate: int, target: int, name: str) -> np.ndarray:
    if wave_TC.shape[0] == 0:
        raise ClaraError(f"{name} holds no samples in the span asked for.")
    wave = wave_TC.mean(axis=1, dtype=np.float32) if wave_TC.shape[1] > 1 else wave_TC[:, 0]
    _check_finite(wave, name)
    if rate != target:
        wave = soxr.resample(wave, rate, target)
        if len(wave) == 0:  # shorter than one output sample: keep one, so that a clip never vanishes
            wave = np.zeros(1, np.float32)
    return np.ascontiguousarray(wave, dtype=np.float32)


def _check_finite(wave: np.ndarray, name: str) -> None:
    bad = int(np.size(wave) - np.count_nonzero(np.isfinite(wave)))
    if bad:
        raise ClaraError(f"{name} holds {bad} NaN or infinite samples: repair the recording before embedding it.")


def _resampled_blocks(source: Any, target: int) -> Iterator[np.ndarray]:
    """Mono blocks at the target rate, decoding `BLOCK_SECONDS` at a time."""
    name, source = describe(source), plain(source)
    if isinstance(source, tuple):
        yield read(source, target)
        return
    handle = _handle(source)
    try:
        file = AudioFile(handle, name)
    except (sf.LibsndfileError, TypeError) as e:
        decoder = _torchcodec(source, e)
        yield from _resampled(_spans(decoder, name), decoder.metadata.sample_rate, target, name)
        return
    with file:
        yield from _resampled(file.blocks(), file.rate, target, name)


def _resampled(blocks: Iterator[np.ndarray], rate: int, target: int, name: str) -> Iterator[np.ndarray]:
    """Blocks (T, C) at `rate` -> mono blocks at `target`, one resampler running through all of them."""
    resampler, total = soxr.ResampleStream(rate, target, 1, dtype="float32") if rate != target else None, 0
    for block in blocks:
        mono = block.mean(axis=1, dtype=np.float32)
        _check_finite(mono, name)
        total += len(mono)
        yield resampler.resample_chunk(mono) if resampler else mono
    if total == 0:
        raise ClaraError(f"{name} holds no samples.")
    if resampler:
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def _spans(decoder: Any, name: str) -> Iterator[np.ndarray]:
    """As `AudioFile.blocks`, by torchcodec: a film is not decoded whole either, unless its container hides its length.
    torchcodec 0.11 decodes from the beginning of the file for each span, 0.17 from where it lies."""
    start, length = 0.0, decoder.metadata.duration_seconds or 0.0
    while start + 2 * BLOCK_SECONDS < length:
        span_TC, _ = _span(decoder, start, start + BLOCK_SECONDS, name)
        if not len(span_TC):  # the sound ends before the film, or makes a long pause
            break
        yield span_TC
        start += BLOCK_SECONDS
    yield _span(decoder, start, None, name)[0]  # to the end, wherever that is: headers round their lengths
