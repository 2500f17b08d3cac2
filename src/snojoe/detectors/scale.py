"""SCALE: s(f) = sum_i ln(1 + e^{f_i}) of f = W (e^r h) + b, r = sum of h / sum of its largest.

Xu et al., "Scaling for training time and post-hoc out-of-distribution detection enhancement",
ICLR 2024, with the joint energy in the place of logsumexp.
"""

import numpy as np

from snojoe.detectors._activations import kept_count, largest, whole_to_part
from snojoe.detectors.base import OutputsDetector
from snojoe.detectors.outputs import LinearHead, ModelOutputs
from snojoe.measures.metrics import FloatArray
from snojoe.model.energy import joint_energy


class SCALE(OutputsDetector):
    """The joint energy of hidden features that are scaled as a whole.

    Parameters
    ----------
    pruned : float in [0, 1), default 0.85
        Share of an image's activations that are not among its largest: only these count in the
        denominator of r. Sums are over activations above 0.
    accept : float in (0, 1], default 0.95
        As in `Detector`, which also has the attributes.
    """

    name = "scale"
    title = "SCALE"
    consumes = ("hidden",)

    def __init__(self, pruned: float = 0.85, accept: float = 0.95) -> None:
        super().__init__(accept)
        self.pruned = pruned

    def _fit(self, outputs: ModelOutputs, head: LinearHead) -> None:
        self.k_ = kept_count(self.pruned, outputs.hidden.shape[1])
        self.head_ = head

    def _score(self, outputs: ModelOutputs) -> FloatArray:
        ratio = whole_to_part(outputs.hidden, largest(outputs.hidden, self.k_))
        return joint_energy(self.head_.logits(outputs.hidden * np.exp(ratio)))
