"""GEN for many labels: minus the sum of (p_i (1 - p_i))^gamma over the M most probable labels.

Liu et al., "GEN: pushing the limits of softmax-based out-of-distribution detection", CVPR 2023: a
generalised entropy, there of the softmax. p_i = sigmoid(f_i). It cannot tell "surely this label"
from "surely none": an image whose p are all near 0 looks certain.
"""

import numpy as np
from numpy.typing import ArrayLike

from snojoe.detectors.base import ArrayDetector
from snojoe.measures.metrics import FloatArray


class GEN(ArrayDetector):
    """Minus the generalised entropy of the most probable labels.

    Parameters
    ----------
    gamma : float > 0, default 0.1
        The exponent.
    m : int >= 1, optional
        M; all K where it is larger. By default the authors' share, 100 of ImageNet's 1,000 classes:
        a tenth of K, and at least 1.
    accept : float in (0, 1], default 0.95
        As in `Detector`, which also has the attributes.
    """

    name = "gen"
    title = "GEN"

    def __init__(self, gamma: float = 0.1, m: int | None = None, accept: float = 0.95) -> None:
        super().__init__(accept)
        self.gamma = gamma
        self.m = m

    def _fit(self, X: FloatArray, y: ArrayLike | None) -> None:
        if not self.gamma > 0:
            raise ValueError(f"gamma must be positive, got {self.gamma!r}")
        if self.m is not None and self.m < 1:
            raise ValueError(f"m must be at least 1, got {self.m!r}")
        labels = X.shape[1]
        self.m_ = max(1, round(labels / 10)) if self.m is None else min(self.m, labels)

    def _score(self, X: FloatArray) -> FloatArray:
        probable = np.abs(np.partition(X, -self.m_, axis=1)[:, -self.m_ :])
        # ln p (1 - p) = -|f| - 2 ln(1 + e^-|f|), also where p rounds to 1
        logs = -probable - 2 * np.log1p(np.exp(-probable))
        return -np.exp(self.gamma * logs).sum(axis=1)
