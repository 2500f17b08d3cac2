"""GradNorm: the l1 norm of a loss's gradient at the last layer's weights, |h|_1 |dL / df|_1.

Huang et al., "On the importance of gradients for detecting distributional shifts in the wild",
NeurIPS 2021. Their loss is the cross-entropy of the softmax against the uniform distribution, here
over the K logits as in MSP: dL / df = softmax(f) - 1/K. The loss of K sigmoids against no label at
all is the joint energy E(x): dE / df_i = sigmoid(f_i).

The binary cross-entropy of each label against 1/2 suggests itself, and says nothing: its gradient,
sigmoid(f_i) - 1/2, is as large where a label is surely not there as where it surely is, so that an
image with no label at all is as certain as one with one.
"""

import numpy as np
from scipy.special import expit, softmax

from snojoe.detectors.base import OutputsDetector
from snojoe.detectors.outputs import ModelOutputs
from snojoe.measures.metrics import FloatArray


class GradNorm(OutputsDetector):
    """|h|_1 sum_i |softmax(f)_i - 1/K|. Parameters and attributes as in `Detector`."""

    name = "grad_norm"
    title = "GradNorm"
    consumes = ("hidden", "logits")

    def _score(self, outputs: ModelOutputs) -> FloatArray:
        surprise = np.abs(softmax(outputs.logits, axis=1) - 1 / outputs.logits.shape[1])
        return np.abs(outputs.hidden).sum(axis=1) * surprise.sum(axis=1)


class GradNormJointEnergy(OutputsDetector):
    """|h|_1 sum_i sigmoid(f_i). Parameters and attributes as in `Detector`."""

    name = "grad_norm_joint_energy"
    title = "GradNorm (joint energy)"
    consumes = ("hidden", "logits")

    def _score(self, outputs: ModelOutputs) -> FloatArray:
        return np.abs(outputs.hidden).sum(axis=1) * expit(outputs.logits).sum(axis=1)
