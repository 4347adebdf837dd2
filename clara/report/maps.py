"""A map of embeddings in the plane: the embeddings kept of an evaluation, and their places."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clara.errors import ClaraError, require, unknown
from clara.parsing import NPZ_ERRORS
from clara.saving import sha256_of, whole_file

METHODS = ("pca", "tsne")


def write_sample(path: Path, vectors_ND: np.ndarray, labels: Sequence[str]) -> dict[str, str]:
    """Keep embeddings (as float16) and their labels; {"file", "sha256"}, by which their result knows them."""
    with whole_file(path) as part, part.open("wb") as file:
        np.savez_compressed(file, vectors=vectors_ND.astype(np.float16), labels=np.array(labels))
    return {"file": path.name, "sha256": sha256_of(path)}


def read_sample(path: Path) -> tuple[np.ndarray, list[str]]:
    """What `write_sample` kept: vectors_ND float32, their labels. ClaraError for another file."""
    try:
        with np.load(path, allow_pickle=False) as data:
            return data["vectors"].astype(np.float32), [str(label) for label in data["labels"]]
    except NPZ_ERRORS as e:
        raise ClaraError(f"{path} holds no embeddings of clara eval ({e}).") from e


def places(vectors_ND: np.ndarray, method: str = "pca") -> np.ndarray:
    """Places (N, 2) of embeddings: the two main components, or scikit-learn's t-SNE (needs `clara[dev]`)."""
    if method not in METHODS:
        raise unknown("map", method, METHODS)
    centred = vectors_ND - vectors_ND.mean(0)
    if method == "tsne" and len(centred) > 3:
        manifold = require("sklearn.manifold", "dev")
        perplexity = min(30.0, (len(centred) - 1) / 3)
        return manifold.TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(centred)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    out = np.zeros((len(centred), 2))
    count = min(2, len(s))
    # the sign of a component is arbitrary: the largest entry is made positive, so that maps do not flip
    flip = np.sign(u[np.abs(u[:, :count]).argmax(0), np.arange(count)])
    out[:, :count] = u[:, :count] * s[:count] * flip
    return out
