"""NECO: |P h| / |h|, the part of h inside the principal space of the train features.

Ben Ammar et al., "NECO: neural collapse based out-of-distribution detection", ICLR 2024. h is
standardised by the train split, as the authors do for networks that are not collapsed; P projects
on its first principal components.
"""

import numpy as np

from snojoe.detectors.base import OutputsDetector
from snojoe.detectors.outputs import LinearHead, ModelOutputs
from snojoe.measures.metrics import FloatArray


class NECO(OutputsDetector):
    """The share of the norm that lies in the principal space.

    Parameters
    ----------
    variance : float in (0, 1], default 0.9
        Share of the train split's variance that the principal space has at least.
    accept : float in (0, 1], default 0.95
        As in `Detector`, which also has the attributes.
    """

    name = "neco"
    title = "NECO"
    consumes = ("hidden",)
    fitted_on = "train"

    def __init__(self, variance: float = 0.9, accept: float = 0.95) -> None:
        super().__init__(accept)
        self.variance = variance

    def _fit(self, outputs: ModelOutputs, head: LinearHead) -> None:
        if not 0 < self.variance <= 1:
            raise ValueError(f"variance must be in (0, 1], got {self.variance!r}")
        self.mean_ = outputs.hidden.mean(axis=0)
        spread = outputs.hidden.std(axis=0)
        self.spread_ = np.where(spread > 0, spread, 1)
        standard = self._standard(outputs)
        variances, directions = np.linalg.eigh(standard.T @ standard)
        shares = np.cumsum(variances[::-1]) / variances.sum()
        dim = 1 + int(np.sum(shares < self.variance))
        self.directions_ = directions[:, ::-1][:, :dim]

    def _score(self, outputs: ModelOutputs) -> FloatArray:
        standard = self._standard(outputs)
        norm = np.linalg.norm(standard, axis=1)
        inside = np.linalg.norm(standard @ self.directions_, axis=1)
        return np.divide(inside, norm, out=np.zeros_like(norm), where=norm > 0)

    def _standard(self, outputs: ModelOutputs) -> FloatArray:
        return (outputs.hidden - self.mean_) / self.spread_
