"""What is measured of the voices of a corpus -> words that are clearly true of them ("low", "quiet", "slow").

A word is given where a clip lies in an outer quantile of its speaker's clips, or its corpus', and far enough from
their middle to be heard; in between nothing is said, and captions that claim it are undecided (clara.text.captions).
They are kept with the numbers in a row's `original.acoustics`, and spoken in every language by the task `voice`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from clara.audio import acoustics
from clara.audio.waveform import read
from clara.data.manifest import Row, read_manifest, split_audio, write_manifest
from clara.data.parallel import run_jobs
from clara.data.samples import read_index, read_shard, sha256_of
from clara.data.shards import add_member, read_member
from clara.errors import ClaraError

SECONDS = 30.0  # of a clip are measured
CHUNK = 32
SPEECH = ("emotion", "word", "language", "speaker", "arousal")
LOWEST_HIGH_HZ, HIGHEST_LOW_HZ = 160.0, 190.0  # nobody calls a voice high below, or low above
Measured = dict[str, Any]


@dataclass(frozen=True)
class Scale:
    """One measure and the words for its ends. `of_speaker`: compared with the speaker's other clips, where there are
    enough; `least`: distance from their median that can be heard."""

    measure: str
    low: str | None
    high: str | None
    of_speaker: bool
    least: float


# A raised voice and haste are heard against a person's own; that a voice is high or bright, against other people's.
SCALES = (
    Scale("semitones", "low", "high", False, 2.0),
    Scale("effort_db", "quiet", "loud", True, 0.7),
    Scale("rate", "slow", "fast", True, 0.5),
    Scale("brightness_db", "dark", "bright", False, 1.5),
    Scale("pitch_range", "monotonous", "lively", False, 0.7),
    Scale("jitter", None, "trembling", False, 0.08),
)


@dataclass(frozen=True)
class AcousticConfig:
    """`outer`: share of clips at each end that may get a word; `least_clips`: a speaker or corpus with fewer says
    nothing about what is usual."""

    outer: float = 0.2
    least_clips: int = 20
    workers: int = 1

    def __post_init__(self) -> None:
        if not 0.0 < self.outer < 0.5 or self.least_clips < 2 or self.workers < 1:
            raise ClaraError(f"{self}: expected 0 < outer < 0.5, at least 2 clips and 1 worker.")


def annotate(source: str | Path, out: str | Path, config: AcousticConfig = AcousticConfig()) -> dict[str, int]:
    """Measure the voices of a manifest (.jsonl) or a folder of shards and write it again, with the words, to `out`.

    What is measured is kept in `OUT.measured.jsonl`: the same call after an interruption goes on from there. Audio of
    shards is copied as it is.

    Returns:
        How many clips were measured ("clips") and got each word.

    Raises:
        ClaraError: nothing to read, no speech in it, a clip that cannot be decoded, or `out` is `source`.
    """
    source, out = Path(source), Path(out)
    if source.resolve() == out.resolve():
        raise ClaraError(f"{out} would be written over while it is read: choose another place.")
    cache = out.with_name(out.name + ".measured.jsonl")
    cache.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shards = sorted(source.rglob("*.tar"))
        rows = {str(p): [s.row for s in read_shard(p)] for p in tqdm(shards, unit="shard", desc="labels", disable=None)}
        speech = [r for part in rows.values() for r in part if is_speech(r)]
    else:
        everything = list(read_manifest(source))
        speech = [r for r in everything if is_speech(r)]
    if not speech:
        raise ClaraError(f"{source} holds no speech: no row names an emotion, a language, a word or a speaker.")
    measured = _measure_all(speech, cache, config.workers)
    words = voices(speech, measured, config)
    found = {key: {**_rounded(measured[key]), "voice": list(words[key])} for key in measured}
    if source.is_dir():
        for path in shards:
            _rewrite(path, out / path.relative_to(source), found)
        _copy_index(source, out)
    else:
        write_manifest(out, (_with(r, found.get(r.audio)) for r in everything))
    cache.unlink()
    return {"clips": len(speech), **Counter(w for r in speech for w in words[r.audio])}


def is_speech(row: Row) -> bool:
    """Whether a row's labels say that a voice is heard."""
    return bool(row.emotion or row.language or row.transcript or row.task in SPEECH)


def voices(
    rows: Sequence[Row], measured: Mapping[str, Measured], config: AcousticConfig = AcousticConfig()
) -> dict[str, tuple[str, ...]]:
    """The words of each clip, by its `audio`. `measured`: fields of `Acoustics`, by the same."""
    values = {r.audio: measured[r.audio] | {"semitones": _semitones(measured[r.audio])} for r in rows}
    groups: dict[Any, list[str]] = defaultdict(list)
    for r in rows:
        groups[r.corpus, r.language].append(r.audio)
        if r.speaker:
            groups[r.corpus, r.language, r.speaker].append(r.audio)
    ends = {
        (key, scale.measure): _ends([values[a][scale.measure] for a in clips], config)
        for key, clips in groups.items()
        for scale in (*SCALES, Scale("loudness_db", None, None, True, 0.0))
    }
    words = {}
    for r in rows:
        said = []
        for scale in SCALES:
            own, everyone = (r.corpus, r.language, r.speaker), (r.corpus, r.language)
            use = own if scale.of_speaker and ends.get((own, scale.measure)) else everyone
            word = _word(scale, values[r.audio], ends[use, scale.measure], ends[use, "loudness_db"])
            said += [word] if word else []
        words[r.audio] = tuple(said)
    return words


def _semitones(measured: Measured) -> float | None:
    hz = measured["pitch_hz"]
    return 12 * math.log2(hz / acoustics.LOWEST_HZ) if hz else None


def _ends(values: Iterable[float | None], config: AcousticConfig) -> tuple[float, float, float] | None:
    """Lower quantile, median and upper quantile; None where too few clips have a value."""
    known = [v for v in values if v is not None]
    if len(known) < config.least_clips:
        return None
    return tuple(float(q) for q in np.quantile(known, (config.outer, 0.5, 1 - config.outer)))


def _word(scale: Scale, clip: Measured, ends: tuple | None, loudness: tuple | None) -> str | None:
    value = clip[scale.measure]
    if ends is None or value is None:
        return None
    low, middle, high = ends
    up = value >= high and value - middle >= scale.least
    down = value <= low and middle - value >= scale.least
    if scale.measure == "semitones":
        up, down = up and clip["pitch_hz"] >= LOWEST_HIGH_HZ, down and clip["pitch_hz"] <= HIGHEST_LOW_HZ
    if scale.measure == "effort_db" and loudness:  # its level must not say the opposite
        up, down = up and clip["loudness_db"] >= loudness[1], down and clip["loudness_db"] <= loudness[1]
    return scale.high if up else scale.low if down else None


def _measure_all(rows: Sequence[Row], cache: Path, workers: int) -> dict[str, Measured]:
    """The measurements of all rows; those of a former run are read from `cache`, new ones are added to it."""
    done: dict[str, Measured] = {}
    if cache.is_file():
        whole = [line for line in cache.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
        done = dict(json.loads(line) for line in whole)
        cache.write_text("".join(whole), encoding="utf-8")  # the last line may have been cut off
    wanted = {r.audio for r in rows}
    left = [r.audio for r in rows if r.audio not in done]
    chunks = iter([left[i : i + CHUNK] for i in range(0, len(left), CHUNK)])
    bar = tqdm(total=len(rows), initial=len(rows) - len(left), unit="clip", desc="voices", disable=None)
    with bar, cache.open("a", encoding="utf-8") as file:
        for part in run_jobs(_measure_chunk, chunks, workers):
            file.writelines(json.dumps(item) + "\n" for item in part)
            file.flush()
            done.update(part)
            bar.update(len(part))
    return {key: value for key, value in done.items() if key in wanted}


def _measure_chunk(chunk: Sequence[str]) -> list[tuple[str, Measured]]:
    out = []
    for audio in chunk:
        path, member = split_audio(audio)
        try:
            wave_T = read(path if member is None else read_member(path, member), acoustics.RATE, seconds=SECONDS)
        except ClaraError as e:
            raise ClaraError(f"{audio}: {e}") from e
        out.append((audio, dataclasses.asdict(acoustics.measure(wave_T, acoustics.RATE))))
    return out


def _rounded(measured: Measured) -> Measured:
    return {k: None if v is None else round(v, 3) for k, v in measured.items()}


def _with(row: Row, found: Measured | None) -> Row:
    return row if found is None else dataclasses.replace(row, original={**row.original, "acoustics": found})


def _rewrite(path: Path, out: Path, found: Mapping[str, Measured]) -> None:
    """Copy one shard, `original_data.acoustics` added to the JSON of its voices."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".tmp")
    audio = {audio.rpartition(".")[0]: m for audio, m in found.items() if audio.startswith(f"{path}::")}
    with tarfile.open(path, "r:") as old, tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as new:
        for member, data in _members(old):
            stem, _, suffix = member.rpartition(".")
            if suffix == "json" and (measured := audio.get(f"{path}::{stem}")):
                meta = json.loads(data)
                original = meta.get("original_data")
                original = original if isinstance(original, dict) else {} if original is None else {"value": original}
                data = json.dumps(
                    meta | {"original_data": original | {"acoustics": measured}}, ensure_ascii=False
                ).encode()
            add_member(new, member, data)
    part.replace(out)


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in tar:
        if member.isfile():
            yield member.name, tar.extractfile(member).read()


def _copy_index(source: Path, out: Path) -> None:
    """The index of the copies: as before, with their own checksums."""
    if not (source / "index.json").is_file():
        return
    index = read_index(source)
    for entry in index["shards"]:
        entry["sha256"] = sha256_of(out / entry["name"])
    part = out / "index.json.tmp"
    part.write_text(json.dumps(index, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    shutil.move(part, out / "index.json")
