"""GradNorm for BCE against 0.5: |h|_1 * sum_i |sigmoid(f_i) - 0.5|.

Huang et al., "On the importance of gradients for detecting distributional shifts in the wild",
NeurIPS 2021: the l1 norm of the gradient with respect to the last layer's weights, in closed form;
with K sigmoids the uninformative target is 0.5 for each class.
"""

import numpy as np
from scipy.special import expit

from snojoe.detectors.base import OutputsDetector
from snojoe.detectors.outputs import ModelOutputs
from snojoe.measures.metrics import FloatArray


class GradNorm(OutputsDetector):
    """The l1 norm of the gradient at the last layer. Parameters and attributes as in `Detector`."""

    name = "grad_norm"
    title = "GradNorm"
    consumes = ("hidden", "logits")

    def _score(self, outputs: ModelOutputs) -> FloatArray:
        surprise = np.abs(expit(outputs.logits) - 0.5).sum(axis=1)
        return np.abs(outputs.hidden).sum(axis=1) * surprise
