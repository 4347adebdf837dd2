"""The script that made the released weights runs, on tiny shards of the same corpora, and ends in a checkpoint."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile as sf
import webdataset

import clara
from clara.config import load_yaml

TRAIN = Path(__file__).parents[1] / "recipes" / "train"


def shard(path: Path) -> None:
    """Eight clips of every fact that the script's text stage names, spread over the corpora of the recipe."""
    corpora = list(load_yaml(TRAIN / "clara-small-dev.yaml")["data"]["sampling"]["corpora"])
    metas = [{"emotion": e, "task": "emotion", "language": "pl"} for e in ("anger", "calm")]
    metas += [{"label": a, "task": "arousal", "language": "ar"} for a in ("low", "neutral")]
    metas += [{"label": s, "task": "sound"} for s in ("dog", "rain")]
    rng, n = np.random.default_rng(0), 8 * len(metas) * 2
    with webdataset.TarWriter(str(path)) as tar:
        for i in range(n):
            data = io.BytesIO()
            sf.write(data, rng.uniform(-0.3, 0.3, 6000).astype("float32"), 16000, format="flac")
            body = {"corpus": corpora[i % len(corpora)], "split": "train", **metas[i % len(metas)]}
            tar.write({"__key__": str(i), "flac": data.getvalue(), "json": json.dumps(body).encode()})


def test_the_two_stages_end_in_a_checkpoint(tmp_path: Path) -> None:
    shard(tmp_path / "x.tar")
    options = {"--shards": tmp_path / "x.tar", "--text": "clara-small.base", "--out": tmp_path / "out"}
    command = [sys.executable, TRAIN / "anchors.py", "--audio-steps", "2", "--text-steps", "1", "--again"]
    done = subprocess.run(
        [str(x) for x in command + [x for pair in options.items() for x in pair]], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    zoo = clara.load(f"dir:{tmp_path / 'out' / 'checkpoint'}")
    moved = 1 - float((zoo.embed_text(["rain"]) * clara.load("clara-small.base").embed_text(["rain"])).sum())
    assert 0 < moved < 0.5
