"""Residual: -|P(h - o)|, the part of h outside the principal space of the train features.

Wang et al., "ViM: out-of-distribution with virtual-logit matching", CVPR 2022. P projects on the
minor directions of the train features around the origin o = -pinv(W) b, where all logits are 0.
"""

from typing import ClassVar

import numpy as np

from snojoe.detectors.base import OutputsDetector
from snojoe.detectors.outputs import LinearHead, ModelOutputs
from snojoe.measures.metrics import FloatArray


class Residual(OutputsDetector):
    """Minus the norm of the residual.

    Parameters
    ----------
    principal_dim : int, optional
        Dimension of the principal space; by default the authors' rule: 1000 where h has 2048
        dimensions or more, 512 where it has 768 or more, else half of them.
    accept : float in (0, 1], default 0.95
        As in `Detector`, which also has the attributes.
    """

    name = "residual"
    title = "Residual"
    consumes: ClassVar[tuple[str, ...]] = ("hidden",)
    fitted_on = "train"

    def __init__(self, principal_dim: int | None = None, accept: float = 0.95) -> None:
        super().__init__(accept)
        self.principal_dim = principal_dim

    def _fit(self, outputs: ModelOutputs, head: LinearHead) -> None:
        d = outputs.hidden.shape[1]
        principal_dim = self.principal_dim
        if principal_dim is None:
            principal_dim = 1000 if d >= 2048 else 512 if d >= 768 else d // 2
        if not 0 <= principal_dim < d:
            raise ValueError(f"principal_dim must be in 0..{d - 1}, got {principal_dim}")
        self.origin_ = -np.linalg.pinv(head.weight.astype(np.float64)) @ head.bias
        centred = outputs.hidden - self.origin_
        _, directions = np.linalg.eigh(centred.T @ centred)
        self.minor_directions_ = directions[:, : d - principal_dim]

    def _score(self, outputs: ModelOutputs) -> FloatArray:
        return -self._residual(outputs)

    def _residual(self, outputs: ModelOutputs) -> FloatArray:
        residual = (outputs.hidden - self.origin_) @ self.minor_directions_
        return np.linalg.norm(residual, axis=1)
