"""SumProb: sum_i sigmoid(f_i), the expected number of labels.

A baseline of Wang et al., "Can multi-label classification networks know what they don't know?",
NeurIPS 2021.
"""

from scipy.special import expit

from snojoe.detectors.base import ArrayDetector
from snojoe.measures.metrics import FloatArray


class SumProb(ArrayDetector):
    """The sum of the probabilities. Parameters and attributes as in `Detector`."""

    name = "sum_prob"
    title = "SumProb"

    def _score(self, X: FloatArray) -> FloatArray:
        return expit(X).sum(axis=1)
