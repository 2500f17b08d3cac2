"""GEN for many labels: minus the sum of (p_i (1 - p_i))^gamma over the M most probable labels.

Liu et al., "GEN: pushing the limits of softmax-based out-of-distribution detection", CVPR 2023: a
generalised entropy, there of the softmax, here of K labels with p_i = sigmoid(f_i). It cannot tell
"surely this label" from "surely none", so that an image whose p are all near 0 looks certain; the
more labels take part beside those that an image has, the more so.
"""

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from snojoe.detectors._gaussian import label_matrix
from snojoe.detectors.base import ArrayDetector
from snojoe.measures.metrics import FloatArray


class GEN(ArrayDetector):
    """Minus the generalised entropy of the most probable labels.

    Parameters
    ----------
    gamma : float > 0, default 0.1
        The exponent.
    m : int >= 1, optional
        M; all K where it is larger. By default the mean number of labels of the train images that
        have some, rounded; `fit` reads `y` as one class (None), class ids (1-d) or a label matrix.
    accept : float in (0, 1], default 0.95
        As in `Detector`, which also has the attributes.
    """

    name = "gen"
    title = "GEN"
    fitted_on = "train"
    grid: ClassVar = {"gamma": (0.01, 0.1, 0.5, 1.0), "m": (None, 1, 3, 10)}

    def __init__(self, gamma: float = 0.1, m: int | None = None, accept: float = 0.95) -> None:
        super().__init__(accept)
        self.gamma = gamma
        self.m = m

    def _fit(self, X: FloatArray, y: ArrayLike | None) -> None:
        if not self.gamma > 0:
            raise ValueError(f"gamma must be positive, got {self.gamma!r}")
        if self.m is not None and self.m < 1:
            raise ValueError(f"m must be at least 1, got {self.m!r}")
        m = self.m
        if m is None:
            labels = label_matrix(y, len(X))
            m = round(labels.sum() / labels.any(axis=1).sum())
        self.m_ = min(m, X.shape[1])

    def _score(self, X: FloatArray) -> FloatArray:
        probable = np.abs(np.partition(X, -self.m_, axis=1)[:, -self.m_ :])
        # ln p (1 - p) = -|f| - 2 ln(1 + e^-|f|), also where p rounds to 1
        logs = -probable - 2 * np.log1p(np.exp(-probable))
        return -np.exp(self.gamma * logs).sum(axis=1)
