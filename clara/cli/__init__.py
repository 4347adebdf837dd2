"""The `clara` command: thin verbs over the library, one module a family. A mistake is one line and exit status 2."""

from __future__ import annotations

import io
import sys

# ruff: isort: off
# each import registers its verbs, in the order of --help
from clara.cli import models  # noqa: F401
from clara.cli import naming  # noqa: F401
from clara.cli import searching  # noqa: F401
from clara.cli import finding  # noqa: F401
from clara.cli import serving  # noqa: F401
from clara.cli import converting  # noqa: F401
from clara.cli import data  # noqa: F401
from clara.cli import labelled  # noqa: F401
from clara.cli import captioning  # noqa: F401
from clara.cli import train  # noqa: F401
from clara.cli import evaluate  # noqa: F401
from clara.cli import reporting  # noqa: F401

# ruff: isort: on
from clara.cli.app import app


def main() -> None:
    """Entry point of the installed command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # file names may hold what the terminal's encoding lacks
            stream.reconfigure(errors="backslashreplace")
    app()
