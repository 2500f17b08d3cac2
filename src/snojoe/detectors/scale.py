"""SCALE: s(f) = sum_i ln(1 + e^{f_i}) of f = W (e^r h) + b, r = sum of h / sum of its largest.

Xu et al., "Scaling for training time and post-hoc out-of-distribution detection enhancement",
ICLR 2024, with the joint energy in the place of logsumexp.
"""

import numpy as np
from numpy.typing import NDArray

from snojoe.detectors._activations import whole_to_part
from snojoe.detectors.ash import ASH
from snojoe.measures.metrics import FloatArray


class SCALE(ASH):
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

    def __init__(self, pruned: float = 0.85, accept: float = 0.95) -> None:
        super().__init__(pruned, accept)

    def _shaped(self, hidden: FloatArray, kept: NDArray[np.bool_]) -> FloatArray:
        return hidden * np.exp(whole_to_part(hidden, kept))
