"""Does espeak-ng's speech help where nobody was recorded? Words of one language, told apart in real recordings.

    python benchmarks/synth_speech.py --data DATA/lithuanian_words --language lt --takes 12

Accuracy on the set's test split of a checkpoint's embeddings: by texts alone; by a classifier that heard synthetic
voices only, as they are and augmented; by one that heard five recordings of each word (mean of five draws), or both.
"centred": the mean of the test clips, whose labels nobody needs, in place of the training clips'. One JSON line each.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from sklearn.linear_model import LogisticRegression

import clara
from clara.audio.augment import WaveAugmentConfig, augment_wave
from clara.audio.waveform import read
from clara.data.manifest import Row, read_manifest, rows_from_corpus, split_audio
from clara.data.shards import read_member
from clara.data.synth_speech import SpeechConfig, synthesise

SHOTS, DRAWS, RATE = 5, 5, 16000


def word(text: str) -> str:
    """A label or a transcript as it is compared: small letters, spaces."""
    return text.lower().replace("_", " ")


def accuracy(train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], centred: bool) -> float:
    """Of a logistic regression on centred embeddings."""
    mean = train[0].mean(0)
    model = LogisticRegression(max_iter=2000).fit(train[0] - mean, train[1])
    return float((model.predict(test[0] - (test[0].mean(0) if centred else mean)) == test[1]).mean())


def main(
    data: Annotated[Path, typer.Option(help="A packed set of words (recipes/corpora/packed.py).")],
    language: Annotated[str, typer.Option(help="Its language.")] = "lt",
    model: Annotated[str, typer.Option(help="Checkpoint.")] = "clara-small.base",
    takes: Annotated[int, typer.Option(min=1, help="Synthetic clips a word.")] = 12,
) -> None:
    """Embed, fit and print."""
    torch.set_num_threads(1)
    zoo, rows = clara.load(model, device="cpu"), list(rows_from_corpus("packed", data))
    splits = {name: [r for r in rows if r.split == name] for name in ("train", "test")}
    labels = sorted({word(r.label) for r in splits["test"]})

    def embedded(chosen: list[Row], texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        audio = [read_member(*split_audio(r.audio)) if "::" in r.audio else r.audio for r in chosen]
        return np.asarray(zoo.embed_audio(audio)), np.array([labels.index(word(t)) for t in texts])

    test, real = (embedded(splits[s], [r.label for r in splits[s]]) for s in ("test", "train"))
    with tempfile.TemporaryDirectory() as folder:
        synthesise(folder, SpeechConfig((language,), takes=takes))
        spoken = [r for r in read_manifest(Path(folder) / "manifest.jsonl") if word(r.transcript) in labels]
        made = embedded(spoken, [r.transcript for r in spoken])
        rng = np.random.default_rng(0)
        waves = [(augment_wave(read(r.audio, RATE), RATE, WaveAugmentConfig(), rng), RATE) for r in spoken]
        augmented = np.asarray(zoo.embed_audio(waves)), made[1]
    texts = np.asarray(zoo.embed_text(labels))
    by_text = float(((test[0] @ texts.T).argmax(1) == test[1]).mean())
    about = {"words": len(labels), "test_clips": len(test[1]), "synthetic_clips": len(made[1])}
    print(json.dumps({"heard": "texts only", "accuracy": round(by_text, 3), **about}))
    draws = []
    for _ in range(DRAWS):
        picked = [rng.permutation(np.flatnonzero(real[1] == k))[:SHOTS] for k in range(len(labels))]
        draws.append(np.concatenate(picked))
    both = [tuple(np.concatenate([m, r[d]]) for m, r in zip(augmented, real, strict=True)) for d in draws]
    heard = {
        "synthetic voices": [made],
        "synthetic voices, augmented": [augmented],
        "five recordings a word": [(real[0][d], real[1][d]) for d in draws],
        "five recordings and augmented synthetic voices": both,
    }
    for name, sets in heard.items():
        plain, centred = (float(np.mean([accuracy(s, test, c) for s in sets])) for c in (False, True))
        print(json.dumps({"heard": name, "accuracy": round(plain, 3), "centred": round(centred, 3)}))


if __name__ == "__main__":
    typer.run(main)
