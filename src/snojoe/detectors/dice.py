"""DICE: s(f) = sum_i ln(1 + e^{f_i}) of f = (M * W) h + b, M = 1 where w_ij mean(h_j) is large.

Sun and Li, "DICE: leveraging sparsification for out-of-distribution detection", ECCV 2022, with the
joint energy in the place of logsumexp. The mean is over the train split.
"""

from typing import ClassVar

import numpy as np

from snojoe.detectors.base import OutputsDetector
from snojoe.detectors.outputs import LinearHead, ModelOutputs
from snojoe.measures.metrics import FloatArray
from snojoe.model.energy import joint_energy


class DICE(OutputsDetector):
    """The joint energy of a last layer that keeps only the weights that contribute most.

    Parameters
    ----------
    sparsity : float in [0, 1], default 0.9
        Share of the weights that are set to 0: those whose contribution to the train split's mean
        logits is smallest.
    accept : float in (0, 1], default 0.95
        As in `Detector`, which also has the attributes.
    """

    name = "dice"
    title = "DICE"
    consumes = ("hidden",)
    fitted_on = "train"
    grid: ClassVar = {"sparsity": (0.1, 0.3, 0.5, 0.7, 0.9)}

    def __init__(self, sparsity: float = 0.9, accept: float = 0.95) -> None:
        super().__init__(accept)
        self.sparsity = sparsity

    def _fit(self, outputs: ModelOutputs, head: LinearHead) -> None:
        if not 0 <= self.sparsity <= 1:
            raise ValueError(f"sparsity must be in [0, 1], got {self.sparsity!r}")
        contribution = head.weight * outputs.hidden.mean(axis=0)
        kept = contribution > np.quantile(contribution, self.sparsity)
        self.head_ = LinearHead(np.where(kept, head.weight, 0), head.bias)

    def _score(self, outputs: ModelOutputs) -> FloatArray:
        return joint_energy(self.head_.logits(outputs.hidden))
