"""What became of each clip, as short text in a result file, so that two results on the same clips can be compared.

A class per clip: "3" for a clip of class 3 that was named so, "3>5" for one named 5. Counts (ranks, hits): "1 4 2".
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from clara.errors import ClaraError


def pack_classes(truth_N: Iterable[int], predicted_N: Iterable[int]) -> str:
    """Class indices of the clips, true and predicted -> text."""
    return " ".join(f"{t}" if t == p else f"{t}>{p}" for t, p in zip(truth_N, predicted_N, strict=True))


def unpack_classes(text: str) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `pack_classes`: truth_N, predicted_N. ClaraError for any other text."""
    try:
        pairs = [[int(x) for x in item.split(">")] for item in text.split()]
        return np.array([p[0] for p in pairs], int), np.array([p[-1] for p in pairs], int)
    except ValueError as e:
        raise ClaraError(f"Outcomes {text[:40]!r}: expected class indices such as '3 3>5 0'.") from e


def pack_counts(counts_N: Iterable[int]) -> str:
    """Whole numbers, one a clip or query -> text."""
    return " ".join(str(int(n)) for n in counts_N)


def unpack_counts(text: str) -> np.ndarray:
    """The inverse of `pack_counts`. ClaraError for any other text."""
    try:
        return np.array([int(x) for x in text.split()], int)
    except ValueError as e:
        raise ClaraError(f"Outcomes {text[:40]!r}: expected whole numbers such as '1 4 2'.") from e
