"""Captions with the events that they name -> scenes: clips of those events mixed into one, captioned, as shards.

A line of events is what `recipes/captions_match.py` writes: {"text": caption, "events": [["sound", "dog"], ["speaker",
"female"], …], "stages": [0, 1]}. Events of one stage are heard together, stages one after the other. A scene states
what its clips are labelled with (`original.facts`, see clara.text.captions.facts_of), so that other sounds are false of
it. Clips and mixture of a scene are drawn from (seed, caption) and the clips there are.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from clara.audio.augment import active_power, add_noise, crop
from clara.data.entries import Entry, read_entry, scan
from clara.data.loader import DataConfig
from clara.data.manifest import Row
from clara.data.parallel import run_jobs, sole_writer
from clara.data.samples import read_index
from clara.data.shards import ShardConfig, encode, meta_from_row, write_index
from clara.data.tars import tars_below, writer
from clara.errors import ClaraError
from clara.parsing import parse_json
from clara.saving import sha256_of
from clara.text.captions import SOUND_TASKS, Fact

# Sounds that go on: a shorter clip is repeated. Others happen once.
CONTINUOUS = frozenset(
    ("rain", "wind", "sea waves", "crackling fire", "crickets", "insects", "chirping birds", "engine", "train", "frog",
     "airplane", "helicopter", "siren", "washing machine", "vacuum cleaner", "chainsaw", "hand saw", "drilling",
     "clock tick", "keyboard typing", "footsteps", "pouring water", "water drops", "brushing teeth", "snoring",
     "breathing", "crowd chatter", "clapping")
)  # fmt: skip
SPEECH_SECONDS = 1.5  # a shorter clip is a word, and nobody who "talks"
STAGE_SECONDS = 3.0  # of a stage, where the longest scene has room for it
EDGE_SECONDS = 0.02  # fades at both ends of a clip, and between its repetitions
LEVEL = 0.06  # root mean square of each clip's louder half, before its gain
PEAK = 0.9
SILENCE_DB = -50.0  # below a clip's loudest frame: trimmed at its ends
TRIES = 20  # draws of another voice
WHO = frozenset({"male", "female", "child"})


@dataclass(frozen=True)
class SceneConfig:
    """Scenes mixed from labelled clips to fit a caption."""

    splits: tuple[str, ...] = ("train",)
    """Splits of the clips, as in the loader."""
    exclude_corpora: tuple[str, ...] = ()
    """Corpora whose clips are left out."""
    seconds: tuple[float, float] = (5.0, 10.0)
    """Shortest and longest scene, seconds; at least 1."""
    overlap: float = 0.3
    """Overlap of consecutive stages, seconds, below 1."""
    snr_db: float = 6.0
    """Largest difference in level between two clips, dB."""
    floor_db: tuple[float, float] = (35.0, 55.0)
    """Range of the distance of the noise floor below the scene, dB."""
    most_events: int = 4
    """Captions with more events are left out."""
    counts: tuple[int, ...] = ()
    """Most scenes with one event, with two, and so on; empty = all."""
    corpus: str = "scenes"
    """Corpus name of the samples."""
    seed: int = 0
    """Seed of all draws."""
    audio: ShardConfig = ShardConfig(samples_per_shard=256)
    """How the scenes are stored."""

    def __post_init__(self) -> None:
        least, most = self.seconds
        if not 1.0 <= least <= most or not 0 <= self.overlap < 1.0 or self.snr_db < 0 or self.most_events < 1:
            raise ClaraError(
                f"seconds={self.seconds}, overlap={self.overlap}, snr_db={self.snr_db}, most_events={self.most_events}"
                ": expected scenes of a second or more, the least first, an overlap below a second, at least one event."
            )


@dataclass(frozen=True)
class Line:
    """A caption, its events, and the stage of each."""

    text: str
    events: tuple[tuple[str, ...], ...]
    stages: tuple[int, ...]
    source: str | None = None


@dataclass(frozen=True)
class Part:
    """A clip of a scene, its stage, and whether it goes on for all of that."""

    entry: Entry
    stage: int
    continuous: bool = False


@dataclass(frozen=True)
class _Job:
    out: Path
    name: str
    scenes: tuple[tuple[Line, tuple[Part, ...]], ...]
    config: SceneConfig
    source: str


def mix_scenes(events: str | Path, shards: str | Path, out: str | Path, config: SceneConfig) -> dict[str, Any]:
    """Write a scene for each line of `events` whose every event has a clip below the folder `shards`, as
    `CORPUS-train-NNNNNN.tar` plus `index.json`, into `out`. Shards that a former call finished are kept.

    Returns:
        "scenes", "hours", "lacking": {event: lines left out for want of a clip}, "facts": {fact: scenes}.

    Raises:
        ClaraError: a line that is none, no clip of the splits, no line that can be mixed, `out` holds shards of
            another, longer run, or another process is writing to it.
    """
    out = Path(out)
    paths = tuple(map(str, tars_below(Path(shards)))) or (str(shards),)
    pool = Pool(scan(DataConfig(paths, 1, splits=config.splits, exclude_corpora=config.exclude_corpora)))
    chosen, lacking = choose(read_lines(events), pool, config)
    if not chosen:
        raise ClaraError(f"None of the captions in {events} can be mixed: clips are lacking for {dict(lacking)}.")
    out.mkdir(parents=True, exist_ok=True)
    with sole_writer(out):
        index = _write(chosen, out, config)
    facts = Counter("/".join(f) for _, parts in chosen for f in facts_of_parts(parts))
    return {"scenes": index["count"], "hours": index["hours"], "lacking": lacking, "facts": facts}


def read_lines(path: str | Path) -> list[Line]:
    """The lines of a file of events. ClaraError: no such file, or a line without text, events and as many stages."""
    path = Path(path)
    if not path.is_file():
        raise ClaraError(f"No such file: {path}. Expected JSON Lines, as recipes/captions_match.py writes them.")
    lines = []
    for number, text in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if text.strip():
            lines.append(_line(text, f"{path}:{number}"))
    return lines


def _line(text: str, where: str) -> Line:
    try:
        data = parse_json(text)
        events, stages = tuple(tuple(map(str, e)) for e in data["events"]), tuple(map(int, data["stages"]))
        if data["text"] and events and len(events) == len(stages) and all(len(e) in (2, 3) for e in events):
            return Line(str(data["text"]), events, stages, data.get("source"))
        reason = "no text, no event, an event without two or three items, or another number of stages"
    except (ValueError, KeyError, TypeError) as e:
        reason = repr(e)
    raise ClaraError(f'{where}: {reason}. Expected {{"text": "…", "events": [["sound", "dog"], …], "stages": [0, …]}}.')


class Pool:
    """Clips by event and corpus. Mixed clips, which several sounds are labelled with, serve for none."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.clips: dict[Fact, dict[str, list[Entry]]] = {}
        for e in entries:
            sounds = [f for f in e.facts if f[0] in SOUND_TASKS]
            speech = not sounds and any(t == "language" for t, _ in e.facts)
            if speech and float(e.meta.get("seconds") or 0.0) >= SPEECH_SECONDS:
                child = ("speaker", "child")  # a boy of five is male, and no man
                keys = [
                    ("speech", "one"),
                    *([child] if child in e.facts else (f for f in e.facts if f[0] == "speaker")),
                ]
            else:
                keys = sounds if len(sounds) == 1 else []
            for key in keys:
                self.clips.setdefault(key, {}).setdefault(str(e.meta["corpus"]), []).append(e)

    def draw(self, key: Fact, rng: np.random.Generator, who: str | None = None) -> Entry | None:
        """A clip of one event, every corpus that has some equally likely; None without any. `who`: its speaker."""
        found = self.clips.get(key, {})
        if who is not None:
            found = {c: own for c, es in found.items() if (own := [e for e in es if ("speaker", who) in e.facts])}
        if not found:
            return None
        clips = found[sorted(found)[rng.integers(len(found))]]
        return clips[rng.integers(len(clips))]


def choose(
    lines: Sequence[Line], pool: Pool, config: SceneConfig
) -> tuple[list[tuple[Line, tuple[Part, ...]]], Counter[str]]:
    """Lines with the clips drawn for them, as many as `counts` says, drawn evenly from the file and in its order; and
    the events that have no clip, with how many lines lack them."""
    lacking: Counter[str] = Counter()
    cast: dict[int, tuple[Part, ...]] = {}
    left = Counter(dict(enumerate(config.counts, start=1)))
    for i in np.random.default_rng(config.seed).permutation(len(lines)):
        line = lines[i]
        size = len(line.events)
        if size > config.most_events or (config.counts and not left[size]):
            continue
        parts = cast_line(line, pool, scene_rng(line, config.seed, "clips"))
        if isinstance(parts, str):
            lacking[parts] += 1
        else:
            cast[int(i)] = parts
            left[size] -= 1
    return [(lines[i], cast[i]) for i in sorted(cast)], lacking


def scene_rng(line: Line, seed: int, use: str) -> np.random.Generator:
    """What draws one scene: of the seed and its caption alone, whatever other captions there are."""
    return np.random.default_rng(list(hashlib.sha256(f"{seed}|{use}|{line.text}".encode()).digest()))


def cast_line(line: Line, pool: Pool, rng: np.random.Generator) -> tuple[Part, ...] | str:
    """A clip for each event; the event as text where there is none. Voices are of different people. Who makes a vocal
    sound must be known of its clip, unless it is people."""
    parts: list[Part] = []
    people: set[tuple[str, str]] = set()
    for event, stage in zip(line.events, line.stages, strict=True):
        task, key, *who = event
        if task in SOUND_TASKS:
            entry = pool.draw((task, key), rng, next((w for w in who if w in WHO), None))
            if entry is None:
                return "/".join(event)
            parts.append(Part(entry, stage, key in CONTINUOUS))
            continue
        fact = ("speech", "one") if task == "speech" else (task, key)
        for _ in range(2 if event == ("speech", "many") else 1):
            drawn = (pool.draw(fact, rng) for _ in range(TRIES))
            entry = next((e for e in drawn if e is not None and _person(e) not in people), None)
            if entry is None:
                return "/".join(event)
            people.add(_person(entry))
            parts.append(Part(entry, stage))
    return tuple(parts)


def _person(entry: Entry) -> tuple[str, str]:
    """Clips of unknown speakers may be of one."""
    return str(entry.meta["corpus"]), str(entry.meta.get("speaker") or "")


def facts_of_parts(parts: Sequence[Part]) -> list[Fact]:
    """What is true of a mixture: its sounds and the languages spoken in it; who speaks, where that is known of every
    voice, for knowing of a man does not rule out a woman."""
    facts = {f for p in parts for f in p.entry.facts if f[0] in (*SOUND_TASKS, "language")}
    voices = [p.entry for p in parts if any(t == "language" for t, _ in p.entry.facts)]
    speakers = [{f for f in e.facts if f in {("speaker", w) for w in WHO}} for e in voices]
    return sorted(facts.union(*speakers) if all(speakers) else facts)


def render_scene(parts: Sequence[Part], config: SceneConfig, rng: np.random.Generator) -> np.ndarray:
    """The mixture of the parts: float32 (T,) at `config.audio.sample_rate`, no sample beyond PEAK."""
    rate = config.audio.sample_rate
    stages = sorted({p.stage for p in parts})
    least, most = config.seconds
    least = min(most, max(least, STAGE_SECONDS * len(stages)))
    total = int(rng.uniform(least, most) * rate)
    scene = np.zeros(total, np.float32)
    for part in parts:
        place = stages.index(part.stage)
        start = max(0, place * total // len(stages) - (int(config.overlap * rate) if place else 0))
        size = (place + 1) * total // len(stages) - start
        wave = trim(read_entry(part.entry, rate), rate)
        if part.continuous:
            wave = repeat(wave, size, int(EDGE_SECONDS * rate))
        wave = faded(crop(wave, size, rng), int(EDGE_SECONDS * rate))
        # half the range each: two clips differ by no more than all of it
        gain = LEVEL / np.sqrt(active_power(wave)) * 10 ** (rng.uniform(-0.5, 0.5) * config.snr_db / 20)
        offset = start + int(rng.integers(0, size - len(wave) + 1))
        scene[offset : offset + len(wave)] += np.float32(gain) * wave
    scene = add_noise(scene, rng.uniform(*config.floor_db), rng)
    return scene * np.float32(min(1.0, PEAK / max(1e-6, float(np.abs(scene).max()))))


def trim(wave_T: np.ndarray, rate: int) -> np.ndarray:
    """Without the silence before and after: many sets pad their clips with zeros. A silent clip is left as it is."""
    frame = rate // 100
    count = len(wave_T) // frame
    power = np.square(wave_T[: count * frame].reshape(count, frame)).mean(1)
    loud = np.flatnonzero(power > power.max(initial=0.0) * 10 ** (SILENCE_DB / 10))
    return wave_T[loud[0] * frame : (loud[-1] + 1) * frame] if len(loud) else wave_T


def repeat(wave_T: np.ndarray, size: int, fade: int) -> np.ndarray:
    """The clip again and again until it has `size` samples, each end faded over the next beginning."""
    step = len(wave_T) - fade
    if len(wave_T) >= size or step <= fade:
        return wave_T
    out = np.zeros(-(-size // step) * step + fade, np.float32)
    for start in range(0, len(out) - fade, step):
        out[start : start + len(wave_T)] += faded(wave_T, fade)
    return out[:size]


def faded(wave_T: np.ndarray, fade: int) -> np.ndarray:
    """The clip with linear fades of so many samples, at most half of it, at both ends."""
    fade = min(fade, len(wave_T) // 2)
    ramp = (np.arange(fade, dtype=np.float32) + 0.5) / max(1, fade)
    out = wave_T.astype(np.float32, copy=True)
    out[:fade] *= ramp
    out[len(out) - fade :] *= ramp[::-1]
    return out


def _write(chosen: Sequence[tuple[Line, tuple[Part, ...]]], out: Path, config: SceneConfig) -> dict[str, Any]:
    entries = {e["name"]: e for e in read_index(out)["shards"]} if (out / "index.json").is_file() else {}
    jobs = _jobs(chosen, out, config)
    if old := sorted(entries.keys() - {j.name for j in jobs}):
        raise ClaraError(f"{out} also holds {', '.join(old)} of another run. Delete the folder and write it again.")
    left = [j for j in jobs if not _finished(j, entries.get(j.name))]
    done = len(chosen) - sum(len(j.scenes) for j in left)
    with tqdm(total=len(chosen), initial=done, unit="scene", desc=str(out), disable=None) as bar:
        for entry in run_jobs(_write_shard, iter(left), config.audio.workers):
            entries[entry["name"]] = entry
            write_index(out, entries)
            bar.update(entry["count"])
    return read_index(out)


def _jobs(chosen: Sequence[tuple[Line, tuple[Part, ...]]], out: Path, config: SceneConfig) -> list[_Job]:
    size, jobs = config.audio.samples_per_shard, []
    how = repr(replace(config, counts=(), audio=replace(config.audio, workers=1)))
    for number, i in enumerate(range(0, len(chosen), size)):
        scenes = tuple(chosen[i : i + size])
        what = [[line.text, [[_name(p), p.stage] for p in parts]] for line, parts in scenes]
        source = hashlib.sha256(json.dumps([how, what]).encode()).hexdigest()
        jobs.append(_Job(out, f"{config.corpus}-train-{number:06d}.tar", scenes, config, source))
    return jobs


def _finished(job: _Job, entry: Mapping[str, Any] | None) -> bool:
    path = job.out / job.name
    if entry is None or entry["source"] != job.source:
        return False
    return path.is_file() and sha256_of(path) == entry["sha256"]


def _name(part: Part) -> str:
    """Where a clip is from, without the folder: SHARD::KEY."""
    return f"{Path(part.entry.tar).name}::{part.entry.key}"


def _write_shard(job: _Job) -> dict[str, Any]:
    c = job.config
    seconds, licences = 0.0, set[str]()
    with writer(job.out / job.name) as tar:
        for i, (line, parts) in enumerate(job.scenes):
            data, length = encode([render_scene(parts, c, scene_rng(line, c.seed, "mixture"))], c.audio)
            own = sorted({str(p.entry.meta.get("license") or "not stated") for p in parts})
            facts = ["/".join(f) for f in facts_of_parts(parts)]
            original = {"facts": facts, "parts": [_name(p) for p in parts], "captions": line.source}
            row = Row(job.name, c.corpus, text=(line.text,), task="caption", license="; ".join(own), original=original)
            key = f"{Path(job.name).stem}-{i:06d}"
            meta = json.dumps(meta_from_row(row, length), ensure_ascii=False)
            tar.write({"__key__": key, c.audio.format: data, "json": meta.encode()})
            seconds, licences = seconds + length, licences | set(own)
    about = {"count": len(job.scenes), "hours": round(seconds / 3600, 6), "license": sorted(licences), "skipped": []}
    return {"name": job.name, **about, "sha256": sha256_of(job.out / job.name), "source": job.source}
