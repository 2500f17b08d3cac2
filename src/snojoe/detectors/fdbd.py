"""fDBD for many labels: sum over f_i > 0 of f_i / |w_i|, over |h - m|, m the mean train h.

Liu and Qin, "Fast decision boundary based out-of-distribution detector", ICML 2024: the distances
to the decision boundaries over the deviation from the mean. With K sigmoids each label has one
boundary, f_i = 0, and only those of the positive labels say that something is known. Where no label
is positive it is the distance to the nearest boundary, negative: max_i f_i / |w_i|.
"""

import numpy as np

from snojoe.detectors.base import OutputsDetector
from snojoe.detectors.outputs import LinearHead, ModelOutputs
from snojoe.measures.metrics import FloatArray

_TINY = 1e-12


class FDBD(OutputsDetector):
    """The distance into the positive labels. Parameters and attributes as in `Detector`."""

    name = "fdbd"
    title = "fDBD"
    consumes = ("hidden", "logits")
    fitted_on = "train"

    def _fit(self, outputs: ModelOutputs, head: LinearHead) -> None:
        self.mean_ = outputs.hidden.mean(axis=0)
        self.norms_ = np.linalg.norm(head.weight.astype(np.float64), axis=1)

    def _score(self, outputs: ModelOutputs) -> FloatArray:
        distances = outputs.logits / self.norms_
        inside, nearest = np.maximum(distances, 0).sum(axis=1), distances.max(axis=1)
        deviation = np.linalg.norm(outputs.hidden - self.mean_, axis=1)
        return np.where(nearest > 0, inside, nearest) / np.maximum(deviation, _TINY)
