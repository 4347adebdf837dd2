"""Repositories of the Hugging Face hub: files of one, once, into the local cache; then everything is read from there.

transformers asks the hub file by file and, without a network, tries each of them five times; this asks once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clara.errors import ClaraError

TOKENIZER = ["config.json", "*token*.json", "vocab.*", "merges.txt", "*.model", "*.spm", "normalizer.json"]
WEIGHTS = ["config.json", "model*.safetensors", "model.safetensors.index.json"]
PICKLED = ["pytorch_model.bin", "pytorch_model-*-of-*.bin", "pytorch_model.bin.index.json"]
OURS = "clara.yaml"
CHECKPOINT = [
    *(OURS, "model.safetensors", "README.md", "*.model", "tokenizer/*"),
    # of a folder that transformers wrote: what it says of itself and its tokenizer, and its weights in parts
    *("config.json", "*processor_config.json", "*token*.json", "vocab.*", "merges.txt"),
    *("model-*-of-*.safetensors", "model.safetensors.index.json"),
]


class Unreachable(ClaraError):
    """The hub cannot be reached, and the cache has no copy."""


def snapshot(repo: str, revision: str | None, patterns: list[str], what: str) -> Path:
    """The local folder of `repo` ('org/name' or 'name') at `revision` (default: main), with the files that fit
    `patterns`. With the environment variable HF_HUB_OFFLINE=1 only the local cache is read. `what` names it in errors.

    Raises:
        ClaraError: no such repository or revision, no access, no network and no copy in the cache.
    """
    import huggingface_hub  # only who needs the hub waits for it

    with _told(what, revision):
        return Path(huggingface_hub.snapshot_download(repo, revision=revision, allow_patterns=patterns))


def file(repo: str, name: str, revision: str, what: str) -> Path:
    """The local copy of one file of `repo`; otherwise as `snapshot`. Raises ClaraError also for no such file."""
    import huggingface_hub

    with _told(what, revision):
        return Path(huggingface_hub.hf_hub_download(repo, name, revision=revision))


def is_cached(repo: str, revision: str | None) -> bool:
    """Whether the hub's local cache holds a checkpoint of `repo`: it loads without a network. Looks where
    huggingface_hub puts it, which takes long to import."""
    home = os.environ.get("HF_HOME") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    folder = Path(os.environ.get("HF_HUB_CACHE") or f"{home}/hub").expanduser() / f"models--{repo.replace('/', '--')}"
    named = folder / "refs" / (revision or "main")
    commit = named.read_text(encoding="utf-8").strip() if named.is_file() else revision
    return bool(commit) and any((folder / "snapshots" / str(commit) / n).is_file() for n in ("config.json", OURS))


def stated_sha256(path: Path) -> str | None:
    """The sha256 that the hub states of a large file of its cache, where it is the name of what a link leads to; None
    for a small file, or one elsewhere."""
    name = path.resolve().name
    return name if re.fullmatch("[0-9a-f]{64}", name) else None


@contextmanager
def _told(what: str, revision: str | None) -> Iterator[None]:
    """The hub's errors as ours."""
    from huggingface_hub import errors

    try:
        yield
    except errors.HFValidationError as e:
        raise ClaraError(f"{what} is not a valid repository name: expected org/repo ({said(e)}).") from e
    except errors.GatedRepoError as e:
        raise ClaraError(f"{what} is gated: accept its terms on its page and log in with `hf auth login`.") from e
    except errors.RevisionNotFoundError as e:
        raise ClaraError(f"{what}: the repository has no revision {revision!r}.") from e
    except errors.RepositoryNotFoundError as e:
        raise ClaraError(f"{what}: no such repository, or a private one and you are not logged in.") from e
    except (errors.EntryNotFoundError, errors.OfflineModeIsEnabled, OSError) as e:
        if isinstance(e, errors.EntryNotFoundError) and not isinstance(e, errors.LocalEntryNotFoundError):
            raise ClaraError(f"{what}: the repository has no such file.") from e
        raise Unreachable(
            f"{what} is not in the local cache and the hub cannot be reached (or HF_HUB_OFFLINE is set): connect "
            "once and load it, or give a local folder."
        ) from e


def download(repo: str, revision: str | None = None) -> Path:
    """The local folder of a snapshot of `repo` ('org/name') at `revision` (branch, tag or commit; default: main).

    With the environment variable HF_HUB_OFFLINE=1 only the local cache is read. Weights are safetensors; only of a
    repository that has none, the pickled ones are taken.

    Raises:
        ClaraError: no such repository or revision, no access, no network and no copy in the cache.
    """
    at = f"hf:{repo}" + (f"@{revision}" if revision else "")
    folder = snapshot(repo, revision, CHECKPOINT, at)
    if (folder / "config.json").is_file() and not any(folder.glob("model*.safetensors")):
        folder = snapshot(repo, revision, PICKLED, at)
    return folder


def upload(folder: Path, repo: str, private: bool) -> str:
    """Upload all files of `folder` to `repo`, which is made if it does not exist -> the commit. ClaraError for a name
    that is not valid, no network, or no right to write there."""
    import huggingface_hub
    from huggingface_hub import errors

    api = huggingface_hub.HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        return api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Upload by CLARA").oid
    except (errors.HFValidationError, errors.HfHubHTTPError, errors.OfflineModeIsEnabled, OSError) as e:
        raise ClaraError(
            f"hf:{repo} cannot be written ({said(e)}): check its name and log in with `hf auth login`."
        ) from e


def folder_of(name: str, patterns: list[str], what: str, beside: Path = Path()) -> Path:
    """Where the files of `name` lie: a folder `beside` a checkpoint, or as it is written, else the hub's.

    Raises:
        ClaraError: none of these; as `snapshot`.
    """
    for folder in (beside / name, Path(name)):
        if folder.is_dir():
            return folder
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or name.startswith("."):
        raise ClaraError(f"{what} cannot be loaded: there is no folder {name}, and no hub id is written so (org/name).")
    looked = f"{what} cannot be loaded: no folder {beside / name}; and on the hub, {name}"
    folder = snapshot(name, None, patterns, looked)
    if patterns == WEIGHTS and not any(folder.glob("*.safetensors")):
        folder = snapshot(name, None, PICKLED, looked)
    return folder


def said(error: Exception) -> str:
    """What another library's error says, its first line: what they add fills a screen."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
