"""Errors that say what came, what was expected and what to do."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType

MOST_SHOWN = 60  # every language fits


class ClaraError(ValueError):
    """Every error a user can cause. The message names the input, the expectation and the remedy."""


class MissingDependency(ClaraError):
    """Something has to be installed. The input is not at fault: whoever leaves out broken clips must not leave it
    out."""


def unknown(kind: str, name: object, known: Iterable[str]) -> ClaraError:
    """Return (not raise) an error for a `name` that is none of `known`, with the nearest names."""
    names = sorted(known)
    begun = [n for n in names if len(str(name)) > 2 and n.startswith(str(name))]  # 'eng' of eng_Latn
    near = begun[:3] or difflib.get_close_matches(str(name), names, n=3, cutoff=0.6)
    hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    shown = ", ".join(names[:MOST_SHOWN]) + (", …" if len(names) > MOST_SHOWN else "")
    return ClaraError(f"Unknown {kind} {name!r}.{hint} Known: {shown or '(none)'}.")


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or raise a MissingDependency that names the extra to install."""
    try:
        return importlib.import_module(module)
    except ImportError as e:
        raise MissingDependency(f"{module!r} is needed here and is not installed: pip install 'clara[{extra}]'.") from e
