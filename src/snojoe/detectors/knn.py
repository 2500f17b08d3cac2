"""KNN: minus the distance of h / |h| to its k-th nearest train image.

Sun et al., "Out-of-distribution detection with deep nearest neighbors", ICML 2022.
"""

import numpy as np
from numpy.typing import ArrayLike
from sklearn.preprocessing import normalize

from snojoe.detectors._search import Columns, Search, squares
from snojoe.detectors.base import ArrayDetector
from snojoe.measures.metrics import FloatArray


class KNN(ArrayDetector):
    """Minus the Euclidean distance between directions of features.

    All train images are searched for every image: the time of scoring is their product.

    Parameters
    ----------
    k : int >= 1, optional
        Which neighbour; the last one where there are fewer. In `offset_` no image is its own. By
        default one of a thousand train images, at least the first: the authors take 1,000 of
        ImageNet's 1.28 million, 10 of a hundredth of it and 50 of CIFAR-10's 50,000.
    accept : float in (0, 1], default 0.95
        As in `Detector`, which also has the attributes.

    Attributes
    ----------
    k_ : int
        Which neighbour it is, whatever is there.
    """

    name = "knn"
    title = "KNN"
    consumes = ("hidden",)
    fitted_on = "train"
    _keeps_training = True

    def __init__(self, k: int | None = None, accept: float = 0.95) -> None:
        super().__init__(accept)
        self.k = k

    def _fit(self, X: FloatArray, y: ArrayLike | None) -> None:
        if self.k is not None and self.k < 1:
            raise ValueError(f"k must be at least 1, got {self.k!r}")
        self.k_ = max(1, round(len(X) / 1000)) if self.k is None else self.k
        self.directions_ = normalize(X)
        self._rebuild()

    def _rebuild(self) -> None:
        self._centre = self.directions_.mean(axis=0)
        self._squares = squares(self.directions_)
        centred = self.directions_ - self._centre
        self._search = Search(centred, squares(centred) / 2)

    def _score(self, X: FloatArray) -> FloatArray:
        return self._distance(normalize(X), self.k_)

    def _training_scores(self, seen: None) -> FloatArray:
        return self._distance(self.directions_, self.k_ + 1)

    def _distance(self, directions: FloatArray, k: int) -> FloatArray:
        k = min(k, len(self.directions_))
        near = self._search.largest(directions - self._centre, k, directions, self._nearness)
        return -np.sqrt(np.maximum(squares(directions) - near[:, 0], 0))

    def _nearness(self, directions: FloatArray, of: Columns) -> FloatArray:
        """|x|^2 - |x - y|^2 = 2 x . y - |y|^2: (m, d) -> (m, c)."""
        return 2 * directions @ self.directions_[of].T - self._squares[of]


class KNNFeatures(KNN):
    """`KNN` on the pooled trunk features z. Parameters and attributes as there."""

    name = "knn_features"
    title = "KNN (features)"
    consumes = ("features",)
