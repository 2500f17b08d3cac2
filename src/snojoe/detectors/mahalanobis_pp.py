"""Mahalanobis++: Mahalanobis on h / |h|.

Mueller and Hein, "Mahalanobis++: improving OOD detection via feature normalization", ICML 2025, on
"pre-logit features".
"""

from numpy.typing import ArrayLike
from sklearn.preprocessing import normalize

from snojoe.detectors.mahalanobis import Mahalanobis
from snojoe.measures.metrics import FloatArray


class MahalanobisPP(Mahalanobis):
    """`Mahalanobis` on features of unit length. `fit` reads `y` as there."""

    name = "mahalanobis_pp"
    title = "Mahalanobis++"
    consumes = ("hidden",)

    def _fit(self, X: FloatArray, y: ArrayLike | None) -> None:
        super()._fit(normalize(X), y)

    def _score(self, X: FloatArray) -> FloatArray:
        return super()._score(normalize(X))


class MahalanobisPPFeatures(MahalanobisPP):
    """`MahalanobisPP` on the pooled trunk features z. `fit` reads `y` as there."""

    name = "mahalanobis_pp_features"
    title = "Mahalanobis++ (features)"
    consumes = ("features",)
