"""Checkpoints from the Hugging Face hub: one snapshot of the files a checkpoint may have, and nothing else."""

from __future__ import annotations

from pathlib import Path

from clara.errors import ClaraError, require

PATTERNS = ["clara.yaml", "model.safetensors", "README.md", "*.model", "tokenizer/*"]
# of a folder that transformers wrote: what it says of itself and its tokenizer
FOREIGN = ["config.json", "*processor_config.json", "*token*.json", "vocab.*", "merges.txt"]
PICKLED = "pytorch_model.bin"


def download(repo: str, revision: str | None = None) -> Path:
    """The local folder of a snapshot of `repo` ('org/name') at `revision` (branch, tag or commit; default: main).

    With the environment variable HF_HUB_OFFLINE=1 only the local cache is read. Weights are safetensors; only of a
    repository that has none, the pickled ones are taken.

    Raises:
        ClaraError: no such repository or revision, no access, no network and no copy in the cache.
    """
    hub = require("huggingface_hub", "hub")
    errors = require("huggingface_hub.errors", "hub")
    at = f"hf:{repo}" + (f"@{revision}" if revision else "")
    try:
        folder = Path(hub.snapshot_download(repo, revision=revision, allow_patterns=PATTERNS + FOREIGN))
        if (folder / "config.json").is_file() and not (folder / "model.safetensors").is_file():
            folder = Path(hub.snapshot_download(repo, revision=revision, allow_patterns=[PICKLED]))
        return folder
    except errors.HFValidationError as e:
        raise ClaraError(f"{at} is no valid repository name: expected hf:org/repo[@revision] ({e}).") from e
    except errors.GatedRepoError as e:
        raise ClaraError(f"{at} is gated: accept its terms on its page and log in with `hf auth login`.") from e
    except errors.RevisionNotFoundError as e:
        raise ClaraError(f"{at}: the repository has no revision {revision!r}.") from e
    except errors.RepositoryNotFoundError as e:
        raise ClaraError(f"{at}: no such repository, or a private one and you are not logged in.") from e
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, OSError) as e:
        raise ClaraError(
            f"{at} is not in the local cache and the hub cannot be reached (or HF_HUB_OFFLINE is set): connect "
            "once and load it, or load a folder with dir:PATH."
        ) from e
