"""Checkpoints from the Hugging Face hub: one snapshot of the files a checkpoint may have, and nothing else."""

from __future__ import annotations

from pathlib import Path

from clara.text.hub import snapshot

PATTERNS = ["clara.yaml", "model.safetensors", "README.md", "*.model", "tokenizer/*"]
# of a folder that transformers wrote: what it says of itself and its tokenizer
FOREIGN = ["config.json", "*processor_config.json", "*token*.json", "vocab.*", "merges.txt"]
SHARDED = ["model-*-of-*.safetensors", "model.safetensors.index.json"]
PICKLED = ["pytorch_model.bin", "pytorch_model-*-of-*.bin", "pytorch_model.bin.index.json"]


def download(repo: str, revision: str | None = None) -> Path:
    """The local folder of a snapshot of `repo` ('org/name') at `revision` (branch, tag or commit; default: main).

    With the environment variable HF_HUB_OFFLINE=1 only the local cache is read. Weights are safetensors; only of a
    repository that has none, the pickled ones are taken.

    Raises:
        ClaraError: no such repository or revision, no access, no network and no copy in the cache.
    """
    at = f"hf:{repo}" + (f"@{revision}" if revision else "")
    folder = snapshot(repo, revision, PATTERNS + FOREIGN + SHARDED, at)
    if (folder / "config.json").is_file() and not any(folder.glob("model*.safetensors")):
        folder = snapshot(repo, revision, PICKLED, at)
    return folder
