"""webdataset's tars, read and written with webdataset: neighbouring members with one key are a sample.

Training reads members where they lie (`clara.data.loader`), for a step's clips must follow from (seed, step) alone.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clara.errors import ClaraError

if TYPE_CHECKING:
    import webdataset

END_OF_TAR = bytes(1024)


@contextmanager
def writer(path: Path) -> Iterator[webdataset.TarWriter]:
    """A `webdataset.TarWriter` of samples {"__key__", suffix: bytes}. The file's bytes follow from its samples alone:
    owner, time and mode are constants."""
    import webdataset  # torch comes along

    with (
        path.open("wb") as file,
        webdataset.TarWriter(file, encoder=False, mtime=0, user="", group="", mode=0o644) as tar,
    ):
        yield tar


def groups(path: Path) -> Iterator[dict[str, Any]]:
    """The samples of one tar as webdataset yields them, undecoded: `__key__`, `__url__`, and bytes by suffix.

    Raises:
        ClaraError: no such file, a tar that breaks off, or a sample that holds one suffix twice.
    """
    from webdataset.tariterators import group_by_keys, tar_file_expander

    if not path.is_file():
        raise ClaraError(f"No such shard: {path}.")
    try:
        with path.open("rb") as stream:
            yield from group_by_keys(tar_file_expander([{"url": str(path), "stream": stream}]))
            stream.seek(max(0, path.stat().st_size - len(END_OF_TAR)))
            if stream.read() != END_OF_TAR:
                raise tarfile.ReadError("no end-of-archive mark")
    except ValueError as e:  # its text names the member and the suffixes it clashes with
        raise ClaraError(f"{path}: {e.args[0]}: the key occurs twice.") from e
    except (tarfile.TarError, OSError) as e:
        raise ClaraError(f"{path} is truncated or no tar ({e}). Write or copy it again.") from e
