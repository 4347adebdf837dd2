"""`clara demo`: offline, on sounds it makes itself and on any files given.

It prints what each sound was meant to be and what the model says, right or wrong; it searches by texts in several
languages; it draws a picture."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
from torch import Tensor

from clara.apps.classifier import Classifier
from clara.apps.search import Index
from clara.apps.synth import RATE, clips
from clara.audio import waveform
from clara.audio.sources import expand
from clara.errors import ClaraError, require
from clara.text.prompts import fill, load_language, task_labels, term
from clara.zoo.embedder import Embedder
from clara.zoo.loading import load

LANGUAGES = ("en", "de", "es", "pl", "zh")
FILE_TASKS = ("sound", "emotion", "instrument")
QUERIES = (
    ("rain falling on a roof", "rain"),
    ("Kirchenglocken läuten", "bells"),
    ("grillos en la noche", "crickets"),
    ("syrena alarmowa", "siren"),
    ("水滴", "drops"),
    ("un moteur qui tourne", "engine"),
    ("un bébé qui pleure", "cry"),
    ("pukanie do drzwi", "knocks"),
)


@dataclass(frozen=True)
class Entry:
    """One sound of the demo; `task` and `label` are what it is meant to be, None for a user's file."""

    name: str
    path: Path
    task: str | None = None
    label: str | None = None


def run(files: Sequence[str], out: str | Path, model: str) -> Path:
    """Run the demo; returns the picture's path. `out` receives the sounds (wav) and demo.png.

    Raises:
        ClaraError: the model cannot be loaded, a file cannot be read, or matplotlib is missing.
    """
    figure = require("matplotlib.figure", "demo").Figure
    begun, out = time.perf_counter(), Path(out)
    zoo = load(model)
    own = [Entry(Path(f).name, Path(f)) for f in (expand(list(files)) if files else [])]
    entries = own + _synthesise(out)
    start = time.perf_counter()
    audio_BD = zoo.embed_audio([e.path for e in entries])
    spent = time.perf_counter() - start
    seconds = sum(waveform.info(e.path).seconds for e in entries)
    print(f"{zoo.name}: {len(entries)} sounds, {seconds:.0f} s of audio, embedded in {spent:.1f} s on {zoo.device}\n")
    _names(zoo, entries, audio_BD)
    _search(zoo, entries, audio_BD)
    picture = out / "demo.png"
    _draw(figure(figsize=(13, 9.5), layout="constrained"), zoo, entries, audio_BD).savefig(picture, dpi=110)
    print(f"Picture: {picture}   sounds: {out}/*.wav   {time.perf_counter() - begun:.0f} s in all")
    return picture


def _synthesise(out: Path) -> list[Entry]:
    out.mkdir(parents=True, exist_ok=True)
    entries = []
    for clip in clips():
        path = out / f"{clip.name.replace(' ', '-')}.wav"
        try:
            sf.write(path, clip.wave, RATE)
        except sf.LibsndfileError as e:  # a full disk, or no permission
            raise ClaraError(f"{path} cannot be written ({e}): choose another folder with --out.") from e
        entries.append(Entry(clip.name, path, clip.task, clip.label))
    return entries


def _names(zoo: Embedder, entries: Sequence[Entry], audio_BD: Tensor) -> None:
    """The table of what the model calls each sound in each language."""
    rows, right, asked = [], dict.fromkeys(LANGUAGES, 0), 0
    classifiers = {(task, code): Classifier(zoo, task=task, language=code) for task in FILE_TASKS for code in LANGUAGES}
    for entry, audio_D in zip(entries, audio_BD):
        for task in (entry.task,) if entry.task else FILE_TASKS:
            meant = fill("{}", term(task, entry.label)) if entry.label else f"({task}?)"
            row = [entry.name, meant]
            for code in LANGUAGES:
                (p,) = classifiers[task, code].predict(audio_D[None])
                hit = p.label == entry.label
                right[code] += hit
                mark = ("✓ " if hit else "✗ ") if entry.label else ""
                row.append(f"{mark}{p.name} {p.score:.2f}" if code == "en" else f"{mark}{p.name}")
            rows.append(row)
            asked += entry.label is not None
    languages = [f"{code} {load_language(code).name}" for code in LANGUAGES]
    print(table([["made by numpy", "meant to be", *languages], *rows]))
    chance = ", ".join(f"{task} among {len(task_labels(task))}" for task in FILE_TASKS)
    score = ", ".join(f"{code} {n}" for code, n in right.items())
    print(f"\nNamed as meant, of {asked}: {score}. Each answer is a choice of all labels of its task: {chance}.")
    print("They are rough imitations, no recordings: the measure of the model is in its card (clara show).\n")


def _search(zoo: Embedder, entries: Sequence[Entry], audio_BD: Tensor) -> None:
    """For each query the sounds nearest to it, and where the one that was meant came."""
    index = Index(audio_BD, [e.name for e in entries], zoo.name, zoo.sha256)
    rows = [["query", "found first, second, third", "the one meant came"]]
    for text, meant in QUERIES:
        hits = index.query(zoo, text=text, top=len(entries))
        place = [h.path for h in hits].index(meant) + 1
        found = ", ".join(f"{h.path} {h.score:+.2f}" for h in hits[:3])
        rows.append([text, found, f"{meant}: {place} of {len(hits)}"])
    print(table(rows) + "\n")


def _draw(figure: Any, zoo: Embedder, entries: Sequence[Entry], audio_BD: Tensor) -> Any:
    """A strip of spectrograms, and the cosines of sounds and English names."""
    shown = entries[:24]
    upper, lower = figure.subfigures(2, 1, height_ratios=(1, 1.9))
    columns = (len(shown) + 1) // 2
    axes = upper.subplots(2, columns, squeeze=False).ravel()
    for axis, entry in zip(axes, shown):
        wave = waveform.read(entry.path, RATE, seconds=5.0)
        axis.imshow(spectrogram(wave), origin="lower", aspect="auto", cmap="magma", vmin=-70, vmax=0,
                    extent=(0, len(wave) / RATE, 0, RATE / 2000))  # fmt: skip
        axis.set_title(entry.name, fontsize=9)
        axis.tick_params(labelsize=7)
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    upper.supylabel("kHz", fontsize=8)
    upper.suptitle("Input (seconds)", fontsize=10)
    texts = [
        fill(load_language("en").templates[e.task][0], term(e.task, e.label)) for e in entries if e.task and e.label
    ]
    cosines = (audio_BD[: len(shown)] @ zoo.embed_text(texts).T).numpy()
    axis = lower.subplots()
    image = axis.imshow(cosines, cmap="viridis", aspect="auto")
    axis.set_yticks(range(len(shown)), [e.name for e in shown], fontsize=8)
    axis.set_xticks(range(len(texts)), texts, rotation=30, ha="right", fontsize=8)
    middle = (cosines.min() + cosines.max()) / 2
    for (y, x), value in np.ndenumerate(cosines):
        bold = "bold" if value == cosines[y].max() else "normal"
        colour = "white" if value < middle else "black"
        axis.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour, fontweight=bold)
    axis.set_title(f"Cosine of sound and text, {zoo.name} (bold: the nearest text)", fontsize=10)
    lower.colorbar(image, ax=axis, pad=0.01)
    return figure


def spectrogram(wave: np.ndarray, size: int = 512, hop: int = 128) -> np.ndarray:
    """Power in dB below the loudest cell: (frequencies, frames)."""
    wave = np.pad(wave, (0, max(0, size - len(wave))))
    frames = np.lib.stride_tricks.sliding_window_view(wave, size)[::hop] * np.hanning(size)
    power = np.abs(np.fft.rfft(frames)).T ** 2
    return 10 * np.log10(np.maximum(power / max(power.max(), 1e-12), 1e-9))


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as aligned columns, the first one underlined; Chinese characters count for two, accents for none."""
    widths = [max(width(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell + " " * (w - width(cell)) for cell, w in zip(row, widths)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("─" * w for w in widths), *lines[1:]])


def width(text: str) -> int:
    """Columns a terminal gives to a text."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
