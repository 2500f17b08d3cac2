"""Mahalanobis++: Mahalanobis on z / |z|.

Mueller and Hein, "Mahalanobis++: improving OOD detection via feature normalization", ICML 2025.
"""

from numpy.typing import ArrayLike
from sklearn.preprocessing import normalize

from snojoe.detectors.mahalanobis import Mahalanobis
from snojoe.measures.metrics import FloatArray


class MahalanobisPP(Mahalanobis):
    """`Mahalanobis` on features of unit length."""

    name = "mahalanobis_pp"
    title = "Mahalanobis++"

    def _fit(self, X: FloatArray, y: ArrayLike | None) -> None:
        super()._fit(normalize(X), y)

    def _score(self, X: FloatArray) -> FloatArray:
        return super()._score(normalize(X))
