"""MaxCosine: max_i cos(h, w_i), the largest logit without norms and bias.

Zhang and Xiang, "Decoupling MaxLogit for out-of-distribution detection", CVPR 2023.
"""

import numpy as np
from sklearn.preprocessing import normalize

from snojoe.detectors.base import OutputsDetector
from snojoe.detectors.outputs import LinearHead, ModelOutputs
from snojoe.measures.metrics import FloatArray


class MaxCosine(OutputsDetector):
    """The largest cosine of h and a label's weights. Parameters and attributes as in `Detector`."""

    name = "max_cosine"
    title = "MaxCosine"
    consumes = ("hidden",)

    def _fit(self, outputs: ModelOutputs, head: LinearHead) -> None:
        directions = normalize(head.weight.astype(np.float64))
        self.head_ = LinearHead(directions, np.zeros(len(directions)))

    def _score(self, outputs: ModelOutputs) -> FloatArray:
        return self.head_.logits(normalize(outputs.hidden)).max(axis=1)
