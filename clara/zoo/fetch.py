"""Checkpoints that are published in their makers' own format: downloaded, checked and converted once, then read from
the cache, ~/.cache/clara or where the environment variable CLARA_CACHE says."""

from __future__ import annotations

import os
import re
from pathlib import Path

from clara import hub
from clara.data.parallel import sole_writer
from clara.errors import ClaraError
from clara.saving import sha256_of
from clara.zoo import catalog
from clara.zoo.catalog import Checkpoint

CONFIG = "clara.yaml"  # as in clara.zoo.storage, with which torch would come along
ON_HUB = re.compile(r"https://huggingface\.co/([\w.-]+/[\w.-]+)/resolve/([\w.-]+)/([\w./-]+)")
WAIT_SECONDS = 3600.0  # for another process that downloads and converts the same checkpoint


def cache() -> Path:
    """The folder of what was converted."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("CLARA_CACHE") or f"{base}/clara").expanduser()


def place(row: Checkpoint) -> str:
    """Where a checkpoint of the table is: 'local' (it loads without a network), 'downloadable' (it loads by its name),
    or 'convertible' (its publisher's file has to be fetched by hand)."""
    if row.source == "file":
        if (cache() / row.name / CONFIG).is_file():
            return "local"
        return "downloadable" if ON_HUB.fullmatch(row.download) else "convertible"
    if row.source == "package":
        return "local"
    source = catalog.parse_name(row.source)
    return "local" if hub.is_cached(source.value, source.revision) else "downloadable"


def fetched(row: Checkpoint) -> Path:
    """The folder of a checkpoint whose source is 'file'; the first time it is downloaded and converted.

    Raises:
        ClaraError: a publisher's file that has to be fetched by hand, no network, a file with another hash than its
            card or the hub states, and all that converting raises.
    """
    folder = cache() / row.name
    found = ON_HUB.fullmatch(row.download)
    if (folder / CONFIG).is_file():
        return folder
    if found is None:
        raise ClaraError(catalog.how_to_get(row))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with sole_writer(folder.parent / f"{row.name}.fetch", WAIT_SECONDS):
        if not (folder / CONFIG).is_file():
            _convert(row, folder, *found.groups())
    return folder


def _convert(row: Checkpoint, folder: Path, repo: str, revision: str, name: str) -> None:
    from clara.zoo.factory import convert_checkpoint  # torch comes along; and it imports the catalog

    try:
        file = hub.file(repo, name, revision, f"{name} of hf:{repo}")
    except hub.Unreachable as e:
        raise ClaraError(f"{e} By hand: {catalog.how_to_get(row)}") from e
    stated, said_by = row.sha256 or hub.stated_sha256(file), "its card" if row.sha256 else "the hub"
    if stated and (found := sha256_of(file)) != stated:
        raise ClaraError(
            f"{file} has sha256 {found}, and {said_by} states {stated}: the download broke off, or the file was "
            f"replaced. Delete {file.resolve()} and load {row.name} again."
        )
    convert_checkpoint(file, folder, row.converter)
