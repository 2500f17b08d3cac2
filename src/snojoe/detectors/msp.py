"""MSP: max_i log softmax(f)_i, the maximum softmax probability in log space.

Hendrycks and Gimpel, "A baseline for detecting misclassified and out-of-distribution examples in
neural networks", ICLR 2017. As in the protocol the softmax runs over the K logits, although the
network has K sigmoids.
"""

import numpy as np

from snojoe.detectors.base import ArrayDetector
from snojoe.measures.metrics import FloatArray


class MSP(ArrayDetector):
    """Log of the maximum softmax probability. Parameters and attributes as in `Detector`."""

    name = "msp"
    title = "MSP"

    def _score(self, X: FloatArray) -> FloatArray:
        # log p = -log(1 + sum over the others of e^{f_i - max}): p close to 1 keeps all its digits.
        gaps = np.sort(X, axis=1) - X.max(axis=1, keepdims=True)
        return -np.log1p(np.exp(gaps[:, :-1]).sum(axis=1))
