"""KL matching for many labels: minus the sum over labels i of min_c KL(p_i || d_ic), c = 0, 1.

Hendrycks et al., "Scaling out-of-distribution detection for real-world settings", ICML 2022. As the
joint energy is the sum of the energies of K binary classifiers, this is that of their divergences:
p_i = sigmoid(f_i), d_i1 the mean p_i of the val images of which label i is predicted, d_i0 that of
all others, and KL that between Bernoulli distributions. As there no annotation is read. An image of
which surely nothing is predicted is a typical one.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, log_expit, logsumexp

from snojoe.detectors.base import ArrayDetector
from snojoe.measures.metrics import FloatArray


class KLMatching(ArrayDetector):
    """Minus the divergence from the nearest typical prediction of each label.

    A label that is predicted of all val images or of none has one that is typical, not two.
    Parameters and attributes as in `Detector`.
    """

    name = "kl_matching"
    title = "KL matching"

    def _fit(self, X: FloatArray, y: ArrayLike | None) -> None:
        members = np.stack([X < 0, X >= 0])
        members |= ~members.any(axis=1, keepdims=True)  # where it has none, those of the other
        counts = np.log(members.sum(axis=1))
        # Logarithms of means: they stay finite where p rounds to 0 or 1.
        self.log_typical_, self.log_untypical_ = (
            logsumexp(np.where(members, log_expit(signed), -np.inf), axis=1) - counts
            for signed in (X, -X)
        )

    def _score(self, X: FloatArray) -> FloatArray:
        p, q = expit(X), expit(-X)
        entropy = -(p * log_expit(X) + q * log_expit(-X))
        typical = zip(self.log_typical_, self.log_untypical_, strict=True)
        nearest = np.max([p * log_d + q * log_rest for log_d, log_rest in typical], axis=0)
        return (entropy + nearest).sum(axis=1)
