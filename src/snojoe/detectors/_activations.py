"""The largest activations of an image, for scores that shape them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from snojoe.measures.metrics import FloatArray


def kept_count(pruned: float, dim: int) -> int:
    """How many of `dim` activations are kept where the share `pruned` of them is not: one at least.

    Raises
    ------
    ValueError
        If `pruned` is not in [0, 1).
    """
    if not 0 <= pruned < 1:
        raise ValueError(f"pruned must be in [0, 1), got {pruned!r}")
    return max(1, dim - round(pruned * dim))


def largest(hidden: FloatArray, k: int) -> NDArray[np.bool_]:
    """Which activations are among an image's k largest and above 0: (n, D) -> (n, D).

    The methods' authors have a ReLU before them, and of its zeros none is larger than another.
    """
    # A network's activations are float32, of which a half as many bytes are moved.
    with np.errstate(over="ignore"):
        narrow = hidden.astype(np.float32)
    same: NDArray[Any] = narrow if np.array_equal(narrow, hidden) else hidden
    threshold = np.partition(same, -k, axis=1)[:, -k, None]
    return (hidden >= threshold) & (hidden > 0)


def whole_to_part(hidden: FloatArray, part: NDArray[np.bool_]) -> FloatArray:
    """The sum of the activations above 0 over that of those in `part`: (n, 1), 1 where none is."""
    whole = np.maximum(hidden, 0).sum(axis=1, keepdims=True)
    of_part = (hidden * part).sum(axis=1, keepdims=True)  # `where` of sum takes ten times as long
    return np.divide(whole, of_part, out=np.ones_like(whole), where=of_part > 0)
