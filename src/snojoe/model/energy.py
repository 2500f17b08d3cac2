"""The joint energy itself: what needs no fitted detector imports it without scikit-learn."""

import numpy as np

from snojoe.measures.metrics import FloatArray


def joint_energy(logits: FloatArray) -> FloatArray:
    """(n, K) logits -> (n,) energies, the sums of softplus (eq. 10), without overflow."""
    return np.logaddexp(0, logits).sum(axis=1)
