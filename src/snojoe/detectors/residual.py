"""Residual: -|P(h - o)|, the part of h outside the principal space of the train features.

Wang et al., "ViM: out-of-distribution with virtual-logit matching", CVPR 2022. P projects on the
minor directions of the train features around the origin o = -pinv(W) b, where all logits are 0.
"""

from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np

from snojoe.detectors.base import OutputsDetector
from snojoe.detectors.outputs import LinearHead, ModelOutputs
from snojoe.measures.metrics import FloatArray


class Residual(OutputsDetector):
    """Minus the norm of the residual.

    Parameters
    ----------
    principal_dim : int or float, optional
        Dimension of the principal space, below 1 its share of h's; by default the authors' rule:
        1000 where h has 2048 dimensions or more, 512 where it has 768 or more, else half of them.
    accept : float in (0, 1], default 0.95
        As in `Detector`, which also has the attributes.
    """

    name = "residual"
    title = "Residual"
    consumes: ClassVar[tuple[str, ...]] = ("hidden",)
    fitted_on = "train"
    grid: ClassVar = {"principal_dim": (None, 0.05, 0.1, 0.25, 0.75)}

    def __init__(self, principal_dim: float | None = None, accept: float = 0.95) -> None:
        super().__init__(accept)
        self.principal_dim = principal_dim

    @classmethod
    def _fit_each(cls, variants: Sequence[Self], outputs: ModelOutputs, head: LinearHead) -> None:
        d = outputs.hidden.shape[1]
        minor = [d - each._principal_dim(d) for each in variants]
        origin = -np.linalg.pinv(head.weight.astype(np.float64)) @ head.bias
        centred = outputs.hidden - origin
        _, directions = np.linalg.eigh(centred.T @ centred)
        for each, dim in zip(variants, minor, strict=True):
            each.origin_, each.minor_directions_ = origin, directions[:, :dim]

    def _principal_dim(self, d: int) -> int:
        dim = self.principal_dim
        if dim is None:
            return 1000 if d >= 2048 else 512 if d >= 768 else d // 2
        if not (0 <= dim < d and (dim < 1 or dim == int(dim))):
            raise ValueError(
                f"principal_dim must be in 0..{d - 1}, got {dim}; below 1 it is a share"
            )
        return int(dim) if dim >= 1 else int(dim * d)

    def _score(self, outputs: ModelOutputs) -> FloatArray:
        return -self._residual(outputs)

    def _residual(self, outputs: ModelOutputs) -> FloatArray:
        residual = (outputs.hidden - self.origin_) @ self.minor_directions_
        return np.linalg.norm(residual, axis=1)
