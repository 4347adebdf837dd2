"""How well `find` tells when something sounds: mixtures with known times, scored by sed_eval.

    pip install sed_eval
    python benchmarks/find.py ESC50                              # fold 4, as `clara find` is set
    python benchmarks/find.py ESC50 --folds 1,2,3 --grid         # thresholds, on clips that training heard
    python benchmarks/find.py ESC50 --pairs                      # clips of two sounds, 5 s each: one name, or two

ESC50 is a folder of `manifest.csv` (file, label, speaker: fold1 …) and `audio.tar`. A recording lasts a minute; on
pink noise lie five clips of five classes, 6 to 20 dB above it, at least a second apart. A clip's times are those of
what is within 40 dB of its loudest 50 ms; clips that sound for less than half a second are not taken. Every recording
is asked for the names of all 50 classes. Segment F1 counts seconds; event F1 asks for an onset within 0.2 s and an
offset within 0.2 s or a fifth of the event, "loose" for an onset within 1 s alone. F1 is over all decisions (micro).
"""

from __future__ import annotations

import csv
import itertools
import tarfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

import clara
from clara.audio import waveform
from clara.text.prompts import fill, term
from clara.zoo.events import Event, FindConfig, Timeline

RATE, SECONDS, EVENTS, APART = 16000, 60.0, 5, 1.0
GRID = {"threshold": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), "low": (1.0, 0.75, 0.5, 0.25), "least_seconds": (0.2, 1.0)}


@dataclass(frozen=True)
class Mixture:
    """A recording (T,) at 16 kHz and what sounds in it; texts of events are labels."""

    wave: np.ndarray
    events: list[Event]


def main(
    esc50: Annotated[Path, typer.Argument(help="Folder of the packed corpus.")],
    model: Annotated[list[str], typer.Option(help="Checkpoints.")] = ["clara-base.v1", "clara-small.base"],  # noqa: B006
    folds: Annotated[str, typer.Option(help="Folds whose clips are mixed; 5 is refused.")] = "4",
    count: Annotated[int, typer.Option(help="Recordings.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the mixtures.")] = 0,
    windows: Annotated[str, typer.Option(help="window/hop/frames or windows, comma-separated.")] = "",
    grid: Annotated[bool, typer.Option("--grid", help="Look for thresholds.")] = False,
    pairs: Annotated[bool, typer.Option("--pairs", help="Clips of two sounds.")] = False,
) -> None:
    """Measure and print a line each."""
    if "5" in folds.split(","):
        raise typer.BadParameter("fold 5 is held out")
    torch.set_num_threads(1)
    clips = read_clips(esc50, folds.split(","), whole=pairs)
    for name in model:
        zoo = clara.load(name, "cpu")
        if pairs:
            two_sounds(zoo, clips, seed)
            continue
        mixtures = [mix(clips, np.random.default_rng([seed, i])) for i in range(count)]
        for how in windows.split(",") if windows else [""]:
            score_model(zoo, mixtures, sorted(clips), how, grid)


def score_model(zoo: Any, mixtures: list[Mixture], labels: list[str], how: str, grid: bool) -> None:
    """One checkpoint with one way of cutting."""
    window, hop, kind = how.split("/") if how else (None, None, "default")
    config = FindConfig() if kind == "default" else FindConfig(frames=kind == "frames")
    texts = {fill("{}", term("sound", label)): label for label in labels}
    begun, lines = time.process_time(), []
    for mixture in mixtures:
        cut = (window and float(window), hop and float(hop))
        lines.append(zoo.timeline((mixture.wave, RATE), list(texts), *cut, config=config))
    speed = len(mixtures) * SECONDS / (time.process_time() - begun)
    print(f"{zoo.name} {how or 'as find is set'}: {speed:.0f} times as fast as sound, one thread", flush=True)
    if not grid:
        print("   ", score(mixtures, lines, texts, labels), flush=True)
        return
    found = []
    for values in itertools.product(*GRID.values()):
        changes = dict(zip(GRID, values))
        changes["low"] *= changes["threshold"]
        tried = [replace(line, config=replace(config, **changes)) for line in lines]
        found.append((score(mixtures, tried, texts, labels), changes))
    for key in ("segment", "event", "loose"):
        for figures, changes in sorted(found, key=lambda f: -f[0][key])[:3]:
            print(f"    best {key}:", figures, {k: round(v, 3) for k, v in changes.items()}, flush=True)


def score(mixtures: list[Mixture], lines: list[Timeline], texts: dict[str, str], labels: list[str]) -> dict[str, float]:
    """Segment, event and loose event F1, with precision and recall of segments."""
    import sed_eval

    metrics = {
        "segment": sed_eval.sound_event.SegmentBasedMetrics(labels, time_resolution=1.0),
        "event": sed_eval.sound_event.EventBasedMetrics(labels, t_collar=0.2, percentage_of_length=0.2),
        "loose": sed_eval.sound_event.EventBasedMetrics(labels, t_collar=1.0, evaluate_offset=False),
    }
    for number, (mixture, line) in enumerate(zip(mixtures, lines)):
        truth, said = (
            rows(mixture.events, number),
            rows([replace(e, text=texts[e.text]) for e in line.events()], number),
        )
        for metric in metrics.values():
            metric.evaluate(reference_event_list=truth, estimated_event_list=said)
    overall = {key: metric.results_overall_metrics()["f_measure"] for key, metric in metrics.items()}
    figures = {key: round(float(f["f_measure"]), 3) for key, f in overall.items()}
    return figures | {key: round(float(overall["segment"][key]), 3) for key in ("precision", "recall")}


def rows(events: list[Event], number: int) -> Any:
    """Events as sed_eval takes them."""
    import dcase_util

    return dcase_util.containers.MetaDataContainer(
        [{"file": f"{number}.wav", "event_label": e.text, "onset": e.start, "offset": e.end} for e in events]
    )


def read_clips(folder: Path, folds: list[str], whole: bool = False) -> dict[str, list[np.ndarray]]:
    """The clips of each label, cut to where they sound unless they are wanted whole."""
    with (folder / "manifest.csv").open(newline="") as file:
        labels = {r["file"]: r["label"] for r in csv.DictReader(file) if r["speaker"].removeprefix("fold") in folds}
    clips: dict[str, list[np.ndarray]] = {}
    with tarfile.open(folder / "audio.tar") as tar:
        for member in tar:
            if member.name in labels and (data := tar.extractfile(member)) is not None:
                wave = waveform.read(data.read(), RATE)
                wave = wave if whole else sounding(wave)
                if len(wave) >= RATE // 2:
                    clips.setdefault(labels[member.name], []).append(wave)
    return clips


def sounding(wave: np.ndarray, below_db: float = 40.0) -> np.ndarray:
    """From the first to the last 50 ms within so many dB of the loudest."""
    size = RATE // 20
    power = (wave[: len(wave) // size * size].reshape(-1, size) ** 2).mean(1)
    loud = np.flatnonzero(power > power.max() * 10 ** (-below_db / 10))
    return wave[loud[0] * size : (loud[-1] + 1) * size] if len(loud) and power.max() > 0 else wave[:0]


def mix(clips: dict[str, list[np.ndarray]], rng: np.random.Generator) -> Mixture:
    """Clips of different classes on pink noise."""
    size = round(SECONDS * RATE)
    spectrum = np.fft.rfft(rng.standard_normal(size)) / np.sqrt(np.maximum(np.fft.rfftfreq(size, 1 / RATE), 20.0))
    noise = np.fft.irfft(spectrum, size)
    noise *= 0.003 / noise.std()
    labels = rng.choice(sorted(clips), EVENTS, replace=False)
    chosen = [clips[label][rng.integers(len(clips[label]))] for label in labels]
    free = SECONDS - sum(len(c) for c in chosen) / RATE - (EVENTS + 1) * APART
    gaps = np.diff(np.sort(np.concatenate([[0, free], rng.uniform(0, free, EVENTS)]))) + APART
    wave, at, events = noise.copy(), 0.0, []
    for label, clip, gap in zip(labels, chosen, gaps):
        first = round((at + gap) * RATE)
        gain = 0.003 * 10 ** (rng.uniform(6, 20) / 20) / np.sqrt((clip**2).mean())
        wave[first : first + len(clip)] += gain * clip
        at = (first + len(clip)) / RATE
        events.append(Event(first / RATE, at, 1.0, str(label)))
    return Mixture((wave / np.abs(wave).max() * 0.9).astype(np.float32), events)


def two_sounds(zoo: Any, clips: dict[str, list[np.ndarray]], seed: int, count: int = 60) -> None:
    """Clips of two sounds, 5 s each: how many names are right as a whole, and by windows."""
    rng = np.random.default_rng(seed)
    namer = clara.Classifier(zoo, sorted(clips), task="sound")
    either = both = halves = 0
    for first, second in (rng.choice(sorted(clips), 2, replace=False) for _ in range(count)):
        wave = np.concatenate([np.resize(clips[k][rng.integers(len(clips[k]))], 5 * RATE) for k in (first, second)])
        source = (wave.astype(np.float32), RATE)
        either += namer(source)[0].label in (first, second)
        named = [p.label for _, _, p in namer.windows(source, window=5.0)]
        halves += sum(a == b for a, b in zip(named, (first, second)))
        both += named == [first, second]
    print(f"{zoo.name}: of {count} clips, one name right {either}; windows of 5 s: both {both}, halves {halves}")


if __name__ == "__main__":
    typer.run(main)
