"""MaxLogit: max_i f_i.

Hendrycks et al., "Scaling out-of-distribution detection for real-world settings", ICML 2022.
"""

from snojoe.detectors.base import ArrayDetector
from snojoe.measures.metrics import FloatArray


class MaxLogit(ArrayDetector):
    """The largest logit. Parameters and attributes as in `Detector`."""

    name = "max_logit"
    title = "MaxLogit"

    def _score(self, X: FloatArray) -> FloatArray:
        return X.max(axis=1)
