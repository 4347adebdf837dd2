"""CLARA: CLIP-style audio–text dual encoders with a multilingual text tower.

Names are imported on first use (PEP 562): `import clara; clara.list_models()` imports no torch.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "ClaraError": "clara.errors",
    "list_models": "clara.zoo.catalog",
    "list_pretrained": "clara.zoo.catalog",
    "create_model": "clara.zoo.factory",
    "create_model_and_transforms": "clara.zoo.factory",
    "get_tokenizer": "clara.zoo.factory",
    "save_checkpoint": "clara.zoo.factory",
    "load": "clara.zoo.embedder",
    "Embedder": "clara.zoo.embedder",
    "Classifier": "clara.apps.classifier",
    "Index": "clara.apps.search",
    "languages": "clara.text.prompts",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("clara")
    if name not in _HOMES:
        raise AttributeError(f"module 'clara' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
