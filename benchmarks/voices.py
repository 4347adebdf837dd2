"""Do texts about a voice ("a low voice") find the voices that were measured to be so?

    python benchmarks/voices.py "voices/nemo-valid-*.tar" "voices/emodb-test-*.tar"

The shards: written by `clara captions acoustic`. A pair's clips are those that were given one of its two words. `auc`:
how often a clip with the first word lies nearer to it, less to the second, than a clip with the second does; `right`:
the clips of each word that lie nearer to their own (mean of both words). One JSON line a corpus and pair: English, the
mean of all languages and the lowest. About 400 seconds of audio a second on one core.
"""

from __future__ import annotations

import json
from typing import Annotated

import numpy as np
import torch
import typer
from sklearn.metrics import roc_auc_score
from torch import Tensor

import clara
from clara.data.entries import Entry, scan
from clara.data.loader import DataConfig
from clara.text.captions import EXCLUDES
from clara.text.prompts import languages
from clara.train.heard import embedded

LEAST = 10


def scores(audio_ND: Tensor, text_2D: Tensor, first_N: list[bool]) -> tuple[float, float]:
    """(AUC, balanced accuracy) of first over second."""
    margin, truth = (audio_ND @ (text_2D[0] - text_2D[1])).numpy(), np.array(first_N)
    right = (float((margin[truth] > 0).mean()) + float((margin[~truth] < 0).mean())) / 2
    return float(roc_auc_score(truth, margin)), right


def main(
    shards: Annotated[list[str], typer.Argument(help="Globs of shards, one a corpus.")],
    model: Annotated[str, typer.Option(help="Checkpoint.")] = "clara-small.base",
) -> None:
    """Embed and print."""
    torch.set_num_threads(1)
    zoo = clara.load(model, device="cpu")
    texts = {
        code: {
            pair: clara.Classifier(zoo, task="voice", labels=pair, language=code).label_KD for pair in EXCLUDES["voice"]
        }
        for code in languages()
    }
    for pattern in shards:
        entries: list[Entry] = scan(DataConfig((pattern,), 1, splits=()))
        audio_ND = embedded(zoo, entries)
        for pair in EXCLUDES["voice"]:
            first, second = ([n for n, e in enumerate(entries) if ("voice", word) in e.facts] for word in pair)
            if min(len(first), len(second)) < LEAST:
                continue
            rows, truth = first + second, [True] * len(first) + [False] * len(second)
            by_code = {code: scores(audio_ND[rows], texts[code][pair], truth) for code in texts}
            out = {
                "corpus": str(entries[0].meta["corpus"]),
                "pair": " / ".join(pair),
                "clips": [len(first), len(second)],
            }
            for i, name in enumerate(("auc", "right")):
                values = {code: both[i] for code, both in by_code.items()}
                worst = min(values, key=lambda code: values[code])
                low, mean = round(values[worst], 2), round(float(np.mean(list(values.values()))), 2)
                out[name] = {"en": round(values["en"], 2), "mean": mean, "lowest": [worst, low]}
            print(json.dumps(out), flush=True)


if __name__ == "__main__":
    typer.run(main)
