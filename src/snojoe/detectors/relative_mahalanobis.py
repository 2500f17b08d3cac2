"""Relative Mahalanobis: -[min_k d_k(h) - d_0(h)], d the squared Mahalanobis distances.

Ren et al., "A simple fix to Mahalanobis distance for improving near-OOD detection", 2021, on the
penultimate layer. d_0 is the distance to one Gaussian over all images, with mean and covariance of
its own.
"""

import numpy as np
from numpy.typing import ArrayLike

from snojoe.detectors._gaussian import TiedGaussians
from snojoe.detectors.mahalanobis import Mahalanobis
from snojoe.measures.metrics import FloatArray


class RelativeMahalanobis(Mahalanobis):
    """`Mahalanobis` against a Gaussian that knows no classes. `fit` reads `y` as there."""

    name = "relative_mahalanobis"
    title = "Relative Mahalanobis"
    consumes = ("hidden",)

    def _fit(self, X: FloatArray, y: ArrayLike | None) -> None:
        super()._fit(X, y)
        self.background_ = TiedGaussians(X, np.ones((len(X), 1)))

    def _score(self, X: FloatArray) -> FloatArray:
        return self.background_.distances(X)[:, 0] - self.gaussians_.distances(X).min(axis=1)


class RelativeMahalanobisFeatures(RelativeMahalanobis):
    """`RelativeMahalanobis` on the pooled trunk features z. `fit` reads `y` as there."""

    name = "relative_mahalanobis_features"
    title = "Relative Mahalanobis (features)"
    consumes = ("features",)
