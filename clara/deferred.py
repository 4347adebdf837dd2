"""Import one module of a large package without running the package's `__init__`.

`import open_clip.transformer` costs two CPU seconds, most of them for timm, transformers and CoCa, which
`open_clip/__init__.py` imports and the block in `open_clip/transformer.py` does not use.
"""

from __future__ import annotations

import sys
import threading
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

_LOCK = threading.RLock()


class _Deferred(ModuleType):
    """A package whose `__init__` has not run. It runs when a name is missing; the module is then an ordinary one."""

    def __getattr__(self, name: str) -> Any:
        with _LOCK:
            loader = vars(self).pop(
                "_deferred_loader", None
            )  # gone while `__init__` runs: its own look-ups fail as ever
            if loader is not None:
                try:
                    loader.exec_module(self)
                except BaseException:
                    vars(self)["_deferred_loader"] = loader  # the next use tries, and fails, again
                    raise
                self.__class__ = ModuleType  # type: ignore[assignment]  # mypy asks for a subclass
        return object.__getattribute__(self, name)


def defer(package: str) -> None:
    """Put off the `__init__` of `package`, a top-level package, until a name that it defines is used.

    Afterwards `import package.part` imports that part and what it imports, and `import package; package.name` works as
    before, whoever writes it. Nothing happens when the package has been imported already or is not installed.
    """
    if package in sys.modules or (spec := find_spec(package)) is None or spec.loader is None:
        return
    module = module_from_spec(spec)
    module.__class__ = _Deferred
    vars(module)["_deferred_loader"] = spec.loader
    sys.modules[package] = module
