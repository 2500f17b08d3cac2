"""SumLogit: sum_i f_i.

A baseline of Wang et al., "Can multi-label classification networks know what they don't know?",
NeurIPS 2021.
"""

from snojoe.detectors.base import ArrayDetector
from snojoe.measures.metrics import FloatArray


class SumLogit(ArrayDetector):
    """The sum of the logits. Parameters and attributes as in `Detector`."""

    name = "sum_logit"
    title = "SumLogit"

    def _score(self, X: FloatArray) -> FloatArray:
        return X.sum(axis=1)
