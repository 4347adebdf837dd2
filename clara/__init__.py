"""CLARA: CLIP-style audio–text dual encoders with a multilingual text tower.

Names are imported on first use (PEP 562): `import clara; clara.list_models()` imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers and editors, which do not run `__getattr__`
    from clara.apps.classifier import Classifier as Classifier
    from clara.apps.lance_index import LanceIndex as LanceIndex
    from clara.apps.predictions import Prediction as Prediction
    from clara.apps.query import Hit as Hit
    from clara.apps.search import Index as Index
    from clara.errors import ClaraError as ClaraError
    from clara.model import DualEncoder as DualEncoder
    from clara.text.prompts import languages as languages
    from clara.zoo.catalog import list_models as list_models
    from clara.zoo.catalog import list_pretrained as list_pretrained
    from clara.zoo.embedder import Embedder as Embedder
    from clara.zoo.factory import create_model as create_model
    from clara.zoo.factory import create_model_and_transforms as create_model_and_transforms
    from clara.zoo.factory import get_tokenizer as get_tokenizer
    from clara.zoo.factory import save_checkpoint as save_checkpoint
    from clara.zoo.loading import load as load

__version__ = "0.2.0"

_HOMES = {
    "ClaraError": "clara.errors",
    "list_models": "clara.zoo.catalog",
    "list_pretrained": "clara.zoo.catalog",
    "create_model": "clara.zoo.factory",
    "create_model_and_transforms": "clara.zoo.factory",
    "get_tokenizer": "clara.zoo.factory",
    "save_checkpoint": "clara.zoo.factory",
    "load": "clara.zoo.loading",
    "Embedder": "clara.zoo.embedder",
    "DualEncoder": "clara.model",
    "Classifier": "clara.apps.classifier",
    "Prediction": "clara.apps.predictions",
    "Index": "clara.apps.search",
    "LanceIndex": "clara.apps.lance_index",
    "Hit": "clara.apps.query",
    "languages": "clara.text.prompts",
}
__all__ = list(_HOMES)


if not TYPE_CHECKING:  # a type checker that saw it would take any name for good

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'clara' has no attribute {name!r}")
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
