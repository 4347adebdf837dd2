"""Measure the background of a checkpoint: how its scores are calibrated (`clara/zoo/background.py`).

    python recipes/background.py --model clara-base.v1 --data DATA --out FOLDER

DATA holds packed sets (`recipes/corpora/packed.py`): `esc50`, whose fold 4 must not have been trained on, and any sets
of speech named by --speech. Half of the fold, noise, silence and speech are the background; the other half,
alone and mixed two by two at equal loudness, calibrates it. Labels of the other tasks serve as texts that nothing there
fits. The last lines tell how it does on a third of the calibrating clips that it was not given.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clara import load
from clara.apps.classifier import Classifier
from clara.audio import waveform
from clara.data.manifest import Row, load_corpus
from clara.eval.embeddings import source
from clara.metrics import calibration_error
from clara.text.prompts import task_labels
from clara.zoo.background import Background, measure
from clara.zoo.embedder import Embedder

RATE, SECONDS, LOUDNESS = 16000, 5, 0.05
OTHER = ("emotion", "instrument", "language")


def noises() -> list[np.ndarray]:
    """White to brown noise from barely audible to loud, hums, and silence."""
    rng, count = np.random.default_rng(0), RATE * SECONDS
    hz, t = np.fft.rfftfreq(count, 1 / RATE), np.arange(count) / RATE
    hz[0] = hz[1]
    out = [np.zeros(count)] + [0.05 * np.sin(2 * np.pi * f * t) for f in (50, 60, 120, 1000)]
    for exponent in (0, 0.5, 1, 1.5, 2):
        noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(count)) / hz**exponent, count)
        out += [noise / noise.std() * level for level in (1e-4, 1e-3, 0.03, 0.2)]
    return [wave.clip(-1, 1).astype(np.float32) for wave in out]


def wave(row: Row) -> np.ndarray:
    """A clip at equal loudness, five seconds of it."""
    found = waveform.read(source(row.audio), RATE)[: RATE * SECONDS]
    found = np.pad(found, (0, RATE * SECONDS - len(found)))
    return found / (found.std() + 1e-6) * LOUDNESS


def embed(zoo: Embedder, waves: Sequence[np.ndarray]) -> Tensor:
    """Waves at RATE -> unit vectors."""
    return zoo.embed_audio([(w.clip(-1, 1).astype(np.float32), RATE) for w in waves])


def judge(background: Background, audio_BD: Tensor, text_KD: Tensor, fits_BK: Tensor, scale: float) -> list[str]:
    """What the probabilities and the softmax are worth on these clips."""
    p_BK = background.probabilities(audio_BD, text_KD)
    one_B = fits_BK.sum(1) == 1
    logits_BK = scale * audio_BD[one_B] @ text_KD.T
    truth_B = fits_BK[one_B].int().argmax(1).numpy()
    plain, cool = (
        calibration_error((logits_BK / t).softmax(-1).numpy(), truth_B) for t in (1.0, background.constants.temperature)
    )
    said_BK = p_BK >= 0.5
    return [
        f"sounds heard that are there: {said_BK[fits_BK].double().mean():.3f} "
        f"({said_BK[one_B][fits_BK[one_B]].double().mean():.3f} of clips with one sound), "
        f"of labels that are not there: {said_BK[~fits_BK].double().mean():.4f}",
        f"calibration error of the softmax: {plain:.3f} at the model's scale, {cool:.3f} at temperature "
        f"{background.constants.temperature:.2f}",
    ]


def main() -> None:
    """Measure, judge on clips left out, and write the background of all."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    p.add_argument("--speech", nargs="*", default=["lithuanian_words"])
    args = p.parse_args()
    zoo = load(args.model)
    packed = load_corpus("packed", Path(__file__))
    rows = [r for r in packed.rows(args.data / "esc50") if r.split == "valid"]
    speech = [r for name in args.speech for r in list(packed.rows(args.data / name))[::8]]
    labels = sorted({str(r.label) for r in rows})
    text_KD = Classifier(zoo, labels, task="sound").label_KD
    unrelated_UD = torch.cat([Classifier(zoo, task=t).label_KD for t in OTHER if len(task_labels(t)) > 1])
    background_ND = torch.cat([embed(zoo, noises()), zoo.embed_audio([source(r.audio) for r in [*rows[::2], *speech]])])
    alone = rows[1::2]
    waves = [wave(r) for r in alone]
    pairs = []
    for out in (True, False):  # a mixture is left out with both of its clips, or with none
        order = np.random.default_rng(0).permutation([i for i in range(len(alone)) if (i % 3 == 0) == out])
        pairs += [(i, j) for i, j in zip(order[::2], order[1::2]) if alone[i].label != alone[j].label]
    audio_BD = torch.cat(
        [zoo.embed_audio([source(r.audio) for r in alone]), embed(zoo, [waves[i] + waves[j] for i, j in pairs])]
    )
    fits_BK = torch.zeros(len(audio_BD), len(labels), dtype=torch.bool)
    clips = [*((i,) for i in range(len(alone))), *pairs]
    for b, members in enumerate(clips):
        fits_BK[b, [labels.index(str(alone[i].label)) for i in members]] = True
    part = torch.tensor([members[0] % 3 == 0 for members in clips])
    trial = measure(background_ND, audio_BD[~part], text_KD, fits_BK[~part], unrelated_UD[::2], zoo.scale)
    print("\n".join(judge(trial, audio_BD[part], text_KD, fits_BK[part], zoo.scale)))
    singles_BD = audio_BD[: len(alone)]
    for name, texts_UD in (("unrelated texts", unrelated_UD[1::2]), ("labels of sounds that are there", text_KD)):
        found = [bool((singles_BD @ t_D).max() >= trial.floor(t_D)) for t_D in texts_UD]
        print(f"searches that find something, {name}: {np.mean(found):.3f} of {len(found)}")
    whole = measure(background_ND, audio_BD, text_KD, fits_BK, unrelated_UD, zoo.scale)
    print(whole.constants)
    print(whole.save(args.out, zoo.sha256))


if __name__ == "__main__":
    sys.exit(main())
