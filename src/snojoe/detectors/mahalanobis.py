"""Mahalanobis: max_k -1/2 (z - mu_k)^T P (z - mu_k).

Lee et al., "A simple unified framework for detecting out-of-distribution samples and adversarial
attacks", NeurIPS 2018. z are the pooled trunk features, as in the protocol; with input noise, those
of the noisy image.
"""

from numpy.typing import ArrayLike

from snojoe.detectors._gaussian import TiedGaussians, label_matrix
from snojoe.detectors.base import ArrayDetector
from snojoe.measures.metrics import FloatArray


class Mahalanobis(ArrayDetector):
    """Minus half the squared Mahalanobis distance to the nearest class.

    An image counts once for each of its labels, in the class means and in the one shared
    covariance; images without a label and classes without a positive are left out. `fit` reads `y`
    as one class (None), class ids (1-d) or a label matrix (2-d). Parameters and attributes as in
    `Detector`; `_gaussian.TiedGaussians` says what happens to a singular covariance.
    """

    name = "mahalanobis"
    title = "Mahalanobis"
    consumes = ("features",)
    fitted_on = "train"

    def _fit(self, X: FloatArray, y: ArrayLike | None) -> None:
        self.gaussians_ = TiedGaussians(X, label_matrix(y, len(X)))

    def _score(self, X: FloatArray) -> FloatArray:
        return -0.5 * self.gaussians_.distances(X).min(axis=1)


class MahalanobisHidden(Mahalanobis):
    """`Mahalanobis` on the penultimate layer h. `fit` reads `y` as there."""

    name = "mahalanobis_hidden"
    title = "Mahalanobis (hidden)"
    consumes = ("hidden",)
