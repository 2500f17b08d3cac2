"""KNN: minus the distance of h / |h| to its k-th nearest train image.

Sun et al., "Out-of-distribution detection with deep nearest neighbors", ICML 2022.
"""

from collections.abc import Sequence
from typing import ClassVar, Self

from numpy.typing import ArrayLike
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

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
            each._rebuild()

    def _rebuild(self) -> None:
        self.neighbours_ = NearestNeighbors(algorithm="brute").fit(self.directions_)

    @classmethod
    def _score_each(cls, variants: Sequence[Self], X: FloatArray) -> list[FloatArray]:
        distances = variants[0]._distances(normalize(X), max(each.k_ for each in variants))
        return [-distances[:, min(each.k_, distances.shape[1]) - 1] for each in variants]

    def _score(self, X: FloatArray) -> FloatArray:
        (scores,) = self._score_each([self], X)
        return scores

    def _training_scores(self, seen: None) -> FloatArray:
        return -self._distances(self.directions_, self.k_ + 1)[:, -1]

    def _distances(self, directions: FloatArray, k: int) -> FloatArray:
        """To the k nearest train images, the nearest first: (m, d) -> (m, k)."""
        distances, _ = self.neighbours_.kneighbors(directions, min(k, len(self.directions_)))
        return distances


class KNNFeatures(KNN):
    """`KNN` on the pooled trunk features z. Parameters and attributes as there."""

    name = "knn_features"
    title = "KNN (features)"
    consumes = ("features",)
