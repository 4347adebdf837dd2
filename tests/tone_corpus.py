"""A corpus of sounds whose right answer is known: each class is a tone, and the embedder hears tones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from torch.nn.functional import normalize

from clara.audio import waveform
from clara.eval.clips import DataSpec
from clara.text.prompts import term

SOUNDS = ("dog", "cat", "rain", "cow", "siren", "wind")
HZ = {label: 300.0 * 1.6**i for i, label in enumerate(SOUNDS)}
RATE = 16000
PLUGIN = """
import csv
from clara.data.manifest import Corpus, Row
INFO = Corpus("tones", "CC0", "none", "sound")
def rows(folder):
    for r in csv.DictReader((folder / "list.csv").open()):
        texts = tuple(t for t in r["text"].split("|") if t)
        known = {"label": r["label"], "task": "sound", "speaker": r["speaker"], "text": texts}
        yield Row(str(folder / r["file"]), "tones", r["split"], **known)
"""


class ToneEmbedder:
    """Hears which tones are in a clip, and reads which labels are in a text (English and German names)."""

    name, sha256 = "tones:1", "0" * 64

    def __init__(self) -> None:
        self.clips = 0

    def embed_audio(self, sources: list, batch_size: int = 16) -> torch.Tensor:
        self.clips += len(sources)
        return normalize(torch.stack([self._hear(s) for s in sources]), dim=-1)

    def _hear(self, source) -> torch.Tensor:
        wave = waveform.read(source, RATE)
        t = np.arange(len(wave)) / RATE
        power = [abs((wave * np.exp(-2j * np.pi * hz * t)).mean()) for hz in HZ.values()]
        return torch.tensor(power, dtype=torch.float32) + 1e-6

    def embed_text(self, texts) -> torch.Tensor:
        def read(text: str) -> torch.Tensor:
            names = [[n for code in ("en", "de") for n in term("sound", k, code).names] for k in SOUNDS]
            return torch.tensor([float(any(n in text for n in own)) for own in names]) + 1e-6

        return normalize(torch.stack([read(t) for t in texts]), dim=-1)


def write_corpus(tmp_path: Path) -> Path:
    """Data folder with `tones/`: per class 4 training clips (speakers a, b) and 2 test clips (speaker c)."""
    folder = tmp_path / "data" / "tones"
    folder.mkdir(parents=True)
    rng, lines = np.random.default_rng(0), ["file,split,label,speaker,text"]
    for label, hz in HZ.items():
        name = term("sound", label).names[0]
        for i in range(6):
            t = np.arange(RATE // 2) / RATE
            wave = 0.3 * np.sin(2 * np.pi * hz * t + i) + 0.01 * rng.standard_normal(len(t))
            sf.write(folder / f"{label}{i}.wav", wave, RATE)
            text = f"{name} is heard|the sound of {name}" if i == 5 else ""
            lines.append(f"{label}{i}.wav,{'train' if i < 4 else 'test'},{label},{'aabbcc'[i]},{text}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "tones.py").write_text(PLUGIN)
    return tmp_path / "data"


def data(*splits: str, **options) -> DataSpec:
    return DataSpec("tones.py", "tones", splits, **options)


def write_recipe(corpus: Path, text: str) -> Path:
    path = corpus.parent / "recipe.yaml"
    path.write_text(text)
    return path
