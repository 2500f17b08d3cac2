"""KNN: minus the distance of h / |h| to its k-th nearest train image.

Sun et al., "Out-of-distribution detection with deep nearest neighbors", ICML 2022.
"""

from collections.abc import Sequence
from typing import ClassVar, Self

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
    grid: ClassVar = {"k": (None, 1, 5, 10, 50, 100)}
    _keeps_training = True

    def __init__(self, k: int | None = None, accept: float = 0.95) -> None:
        super().__init__(accept)
        self.k = k

    @classmethod
    def _fit_each(cls, variants: Sequence[Self], X: FloatArray, y: ArrayLike | None) -> None:
        directions = normalize(X)
        for each in variants:
            if each.k is not None and each.k < 1:
                raise ValueError(f"k must be at least 1, got {each.k!r}")
            each.k_ = max(1, round(len(X) / 1000)) if each.k is None else each.k
            each.directions_ = directions
        first, *others = variants
        first._rebuild()
        for each in others:
            each._centre, each._squares, each._search = first._centre, first._squares, first._search

    def _rebuild(self) -> None:
        self._centre = self.directions_.mean(axis=0)
        self._squares = squares(self.directions_)
        centred = self.directions_ - self._centre
        self._search = Search(centred, squares(centred) / 2)

    @classmethod
    def _score_each(cls, variants: Sequence[Self], X: FloatArray) -> list[FloatArray]:
        directions = normalize(X)
        near = variants[0]._nearest(directions, max(each.k_ for each in variants))
        return [_score_of(directions, near, each.k_) for each in variants]

    def _score(self, X: FloatArray) -> FloatArray:
        (scores,) = self._score_each([self], X)
        return scores

    def _training_scores(self, seen: None) -> FloatArray:
        near = self._nearest(self.directions_, self.k_ + 1)
        return _score_of(self.directions_, near, self.k_ + 1)

    def _nearest(self, directions: FloatArray, k: int) -> FloatArray:
        """`_nearness` of the k nearest train images, the nearest last: (m, d) -> (m, k)."""
        k = min(k, len(self.directions_))
        return self._search.largest(directions - self._centre, k, directions, self._nearness)

    def _nearness(self, directions: FloatArray, of: Columns) -> FloatArray:
        """|x|^2 - |x - y|^2 = 2 x . y - |y|^2: (m, d) -> (m, c)."""
        return 2 * directions @ self.directions_[of].T - self._squares[of]


def _score_of(directions: FloatArray, near: FloatArray, k: int) -> FloatArray:
    """Minus the distance to the k-th nearest, or the last, of which `near` has the nearness."""
    nearness = near[:, -min(k, near.shape[1])]
    return -np.sqrt(np.maximum(squares(directions) - nearness, 0))


class KNNFeatures(KNN):
    """`KNN` on the pooled trunk features z. Parameters and attributes as there."""

    name = "knn_features"
    title = "KNN (features)"
    consumes = ("features",)
