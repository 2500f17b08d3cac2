"""KNN: minus the distance of z / |z| to its k-th nearest train feature.

Sun et al., "Out-of-distribution detection with deep nearest neighbors", ICML 2022.
"""

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
    k : int >= 1, default 50
        Which neighbour; the last one where there are fewer. In `offset_` no image is its own.
    accept : float in (0, 1], default 0.95
        As in `Detector`, which also has the attributes.
    """

    name = "knn"
    title = "KNN"
    consumes = ("features",)
    fitted_on = "train"
    _keeps_training = True

    def __init__(self, k: int = 50, accept: float = 0.95) -> None:
        super().__init__(accept)
        self.k = k

    def _fit(self, X: FloatArray, y: ArrayLike | None) -> None:
        if self.k < 1:
            raise ValueError(f"k must be at least 1, got {self.k!r}")
        self.directions_ = normalize(X)
        self._rebuild()

    def _rebuild(self) -> None:
        self.neighbours_ = NearestNeighbors(algorithm="brute").fit(self.directions_)

    def _score(self, X: FloatArray) -> FloatArray:
        return self._distance(normalize(X), self.k)

    def _training_scores(self, seen: None) -> FloatArray:
        return self._distance(self.directions_, self.k + 1)

    def _distance(self, directions: FloatArray, k: int) -> FloatArray:
        distances, _ = self.neighbours_.kneighbors(directions, min(k, len(self.directions_)))
        return -distances[:, -1]
