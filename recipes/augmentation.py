"""Draw what each augmentation does to a spectrogram, on sounds that numpy makes.

    python recipes/augmentation.py --out recipes/pictures

Writes voice.png (waveform augmentations) and batch.png (what is done to spectrograms of a batch, and mixing).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from clara.apps import synth
from clara.audio.augment import SpecAugment, SpecAugmentConfig, WaveAugmentConfig, augment_wave, mix, mix_style
from clara.audio.features import LogMel, LogMelConfig, pad_waves
from clara.errors import require

RATE, SEED = 16000, 4
OFF = {"speed": 0.0, "channel": 0.0, "noise": 0.0, "clip": 0.0}
WAVE = {
    "as it is": {},
    "slower": {"stretch": 1.0, "stretch_factor": (0.85, 0.86)},
    "pitch": {"pitch": 1.0, "pitch_semitones": 4.0},
    "band limits": {"channel": 1.0, "low_pass": 1.0, "high_pass": 1.0, "room": 0.0},
    "room": {"channel": 1.0, "eq_db": 0.0, "low_pass": 0.0, "high_pass": 0.0, "room": 1.0},
    "noise": {"noise": 1.0, "noise_snr_db": (5.0, 6.0)},
    "clipping": {"clip": 1.0},
    "mu-law": {"codec": 1.0, "codecs": ("mu-law",)},
    "opus": {"codec": 1.0, "codecs": ("opus",)},
}


def spectrograms(waves: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Waves (T,) at 16 kHz -> x_BNF, mask_BN of the default front-end, without taking out the band's mean."""
    wave_BT, len_B = pad_waves([torch.from_numpy(np.ascontiguousarray(w, np.float32)) for w in waves])
    return LogMel(LogMelConfig(normalize="clip", n_mels=64))(wave_BT, len_B)


def draw(path: Path, pictures: dict[str, torch.Tensor], columns: int) -> None:
    """One PNG with a small spectrogram x_NF a title."""
    plt, image = require("matplotlib.pyplot", "demo"), require("PIL.Image", "demo")  # Pillow comes with matplotlib
    rows = -(-len(pictures) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.0 * columns, 1.25 * rows), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, (title, x_NF) in zip(axes.flat, pictures.items()):
        ax.imshow(x_NF.T.numpy(), origin="lower", aspect="auto", vmin=-1.5, vmax=2.5, cmap="magma")
        ax.set_title(title, fontsize=7, pad=2)
    figure.subplots_adjust(0.005, 0.01, 0.995, 0.93, 0.02, 0.22)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    plt.close(figure)
    image.open(path).convert("P", palette=image.Palette.ADAPTIVE, colors=24).save(path, optimize=True)


def main(out: Annotated[Path, typer.Option(help="Folder of the pictures.")]) -> None:
    """Make the sounds, augment and draw."""
    sounds = {c.name: c.wave[: 3 * RATE] for c in synth.clips()}
    voice, rain, bells = sounds["cry"], sounds["rain"], sounds["bells"]
    made = {}
    for title, settings in WAVE.items():
        wave = augment_wave(voice, RATE, WaveAugmentConfig(**{**OFF, **settings}), np.random.default_rng(SEED))
        made[title] = spectrograms([wave[: 3 * RATE]])[0][0]
    draw(out / "voice.png", made, 3)
    torch.manual_seed(SEED)
    x, mask = spectrograms([voice, bells])
    swapped = mix_style(x, mask, torch.tensor([1, 0]), torch.tensor([0.2, 0.2]))
    mixed = mix(voice, rain, 3.0)
    pictures = {
        "voice": x[0],
        "SpecAugment": SpecAugment(SpecAugmentConfig(time_masks=2, bin_masks=2))(x, mask)[0][0],
        "with rain 3 dB below": spectrograms([mixed])[0][0],
        "bells": x[1],
        "voice, bands 80 % like bells": swapped[0],
        "bells, bands 80 % like the voice": swapped[1],
    }
    draw(out / "batch.png", pictures, 3)


if __name__ == "__main__":
    typer.run(main)
