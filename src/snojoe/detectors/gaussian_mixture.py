"""Gaussian mixture: ln sum_k pi_k N(z; m_k, diag(v_k)), the log-density of the features.

A classical baseline without a paper of its own; scikit-learn's `GaussianMixture`. One component
starts at each label's mean, and none stays tied to its label. Covariances are diagonal: a full one
for each label would need more images than there are features.
"""

import numpy as np
from numpy.typing import ArrayLike
from sklearn import mixture

from snojoe.detectors._gaussian import label_matrix
from snojoe.detectors.base import ArrayDetector
from snojoe.measures.metrics import FloatArray

_FLOOR = 1e-6  # of a variance: scikit-learn's


class GaussianMixture(ArrayDetector):
    """The log-density under scikit-learn's mixture, by expectation-maximisation.

    Nothing in it is by chance. `fit` reads `y` as one class (None), class ids (1-d) or a label
    matrix (2-d); classes without a positive have no component. Parameters and attributes
    as in `Detector`.
    """

    name = "gaussian_mixture"
    title = "Gaussian mixture"
    consumes = ("features",)
    fitted_on = "train"

    def _fit(self, X: FloatArray, y: ArrayLike | None) -> None:
        labels = label_matrix(y, len(X))
        counts = labels.sum(axis=0)
        labels, counts = labels[:, counts > 0], counts[counts > 0]
        precisions = 1 / (X.var(axis=0) + _FLOOR)
        self.mixture_ = mixture.GaussianMixture(
            len(counts),
            covariance_type="diag",
            reg_covar=_FLOOR,
            weights_init=counts / counts.sum(),
            means_init=labels.T @ X / counts[:, None],
            precisions_init=np.tile(precisions, (len(counts), 1)),
        ).fit(X)
        self.weights_ = self.mixture_.weights_
        self.means_ = self.mixture_.means_
        self.scales_ = self.mixture_.precisions_cholesky_

    def _rebuild(self) -> None:
        self.mixture_ = mixture.GaussianMixture(len(self.weights_), covariance_type="diag")
        self.mixture_.weights_ = self.weights_
        self.mixture_.means_ = self.means_
        self.mixture_.precisions_cholesky_ = self.scales_

    def _score(self, X: FloatArray) -> FloatArray:
        return self.mixture_.score_samples(X)
