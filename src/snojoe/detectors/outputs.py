"""What a classifier says of a set of images, and its last layer: all that a score may read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snojoe.model.folder import read_head
from snojoe.support.errors import SnojoeError

Array = NDArray[Any]


@dataclass(frozen=True)
class ModelOutputs:
    """The outputs for n images, computed once; every score is arithmetic on them.

    Parameters
    ----------
    logits : (n, K) array
        f, one logit per class.
    features : (n, C) array
        z, the pooled features of the trunk.
    hidden : (n, D) array
        h, what the last linear layer reads.
    labels : (n, K) array of 0 and 1, optional
        The label matrix, where the images have labels.

    Raises
    ------
    ValueError
        Where an array is not two-dimensional or the arrays differ in n, or labels and logits in K.
    """

    logits: Array
    features: Array
    hidden: Array
    labels: Array | None = None

    def __post_init__(self) -> None:
        shapes = {name: array.shape for name, array in vars(self).items() if array is not None}
        if any(len(shape) != 2 for shape in shapes.values()):
            raise ValueError(f"outputs must be 2-d arrays, got shapes {shapes}")
        if len({shape[0] for shape in shapes.values()}) > 1:
            raise ValueError(f"outputs must have one row per image, got shapes {shapes}")
        if shapes.get("labels", shapes["logits"]) != shapes["logits"]:
            raise ValueError(f"labels must have the shape of logits, got shapes {shapes}")

    def rows(self, chosen: NDArray[np.bool_] | slice) -> ModelOutputs:
        """The outputs for the images that `chosen`, (n,) or a slice, names."""
        arrays = {name: array for name, array in vars(self).items() if array is not None}
        return ModelOutputs(**{name: array[chosen] for name, array in arrays.items()})


@dataclass(frozen=True)
class LinearHead:
    """The classifier's last layer, f = h W^T + b: `weight` (K, D) and `bias` (K,)."""

    weight: Array
    bias: Array

    def __post_init__(self) -> None:
        if self.weight.ndim != 2 or self.bias.shape != self.weight.shape[:1]:
            raise ValueError(
                "weight must be (K, D) and bias (K,), "
                f"got shapes {self.weight.shape} and {self.bias.shape}"
            )

    def logits(self, hidden: Array) -> NDArray[np.float64]:
        """(n, D) hidden features -> (n, K) float64 logits."""
        return np.asarray(hidden, np.float64) @ self.weight.T.astype(np.float64) + self.bias


def load_outputs(folder: Path, score: str | None = None) -> ModelOutputs:
    """Map the arrays that ``snojoe.inference.passes.write_outputs`` wrote; nothing is read yet.

    Where noise was tuned for `score`, what it reads of the noisy images (``<score>_<field>.npy``)
    stands in the place of the clean images' array.

    Raises
    ------
    SnojoeError
        If an array is missing or damaged, or they do not fit together.
    """
    try:
        fields = ["logits", "features", "hidden"]
        fields += ["labels"] * (folder / "labels.npy").exists()
        paths = {field: folder / f"{field}.npy" for field in fields}
        noisy = {field: folder / f"{score}_{field}.npy" for field in fields}
        paths |= {field: path for field, path in noisy.items() if path.exists()}
        return ModelOutputs(**{f: np.load(path, mmap_mode="r") for f, path in paths.items()})
    except (OSError, ValueError) as error:
        raise SnojoeError(f"{folder}: not the outputs of a model ({error})") from None


def load_head(model_folder: Path) -> LinearHead:
    """The last linear layer of a model directory, without importing torch.

    Raises
    ------
    SnojoeError
        If the folder holds no readable model.
    """
    return LinearHead(*read_head(model_folder))
