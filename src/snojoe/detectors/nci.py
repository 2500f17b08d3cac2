"""NCI: w_c . (h - m) / |h - m| + alpha |h|_1, c the most probable label, m the mean train h.

Liu and Qin, "Detecting out-of-distribution through the lens of neural collapse", CVPR 2025.
"""

from typing import ClassVar

import numpy as np

from snojoe.detectors.base import OutputsDetector
from snojoe.detectors.outputs import LinearHead, ModelOutputs
from snojoe.measures.metrics import FloatArray

_TINY = 1e-12


class NCI(OutputsDetector):
    """How far h points to the weights of the most probable label, and how large it is.

    Parameters
    ----------
    alpha : float >= 0, default 0.0001
        Weight of the norm.
    accept : float in (0, 1], default 0.95
        As in `Detector`, which also has the attributes.
    """

    name = "nci"
    title = "NCI"
    consumes = ("hidden", "logits")
    fitted_on = "train"
    grid: ClassVar = {"alpha": (0.0001, 0.001, 0.01, 0.1)}

    def __init__(self, alpha: float = 1e-4, accept: float = 0.95) -> None:
        super().__init__(accept)
        self.alpha = alpha

    def _fit(self, outputs: ModelOutputs, head: LinearHead) -> None:
        if not self.alpha >= 0:
            raise ValueError(f"alpha must not be negative, got {self.alpha!r}")
        self.mean_ = outputs.hidden.mean(axis=0)
        self.weight_ = head.weight.astype(np.float64)

    def _score(self, outputs: ModelOutputs) -> FloatArray:
        centred = outputs.hidden - self.mean_
        probable = outputs.logits.argmax(axis=1)[:, None]
        along = np.take_along_axis(centred @ self.weight_.T, probable, axis=1)[:, 0]
        along /= np.maximum(np.linalg.norm(centred, axis=1), _TINY)
        return along + self.alpha * np.abs(outputs.hidden).sum(axis=1)
