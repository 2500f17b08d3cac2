"""LOF: minus the local outlier factor, the density of the neighbours over an image's own.

Breunig et al., "LOF: identifying density-based local outliers", SIGMOD 2000. The protocol fits it
on val logits, with scikit-learn's defaults.
"""

from typing import ClassVar

from numpy.typing import ArrayLike
from sklearn.neighbors import LocalOutlierFactor

from snojoe.detectors.base import ArrayDetector
from snojoe.measures.metrics import FloatArray


class LOF(ArrayDetector):
    """scikit-learn's `LocalOutlierFactor(novelty=True)`.

    The neighbours of every val image are found in `fit`: its time grows with the square of val.

    Parameters
    ----------
    n_neighbors : int, default 20
        Size of the neighbourhood; all others where there are fewer.
    accept : float in (0, 1], default 0.95
        As in `Detector`, which also has the attributes.
    """

    name = "lof"
    title = "LOF"
    grid: ClassVar = {"n_neighbors": (5, 10, 20, 50)}
    _keeps_training = True

    def __init__(self, n_neighbors: int = 20, accept: float = 0.95) -> None:
        super().__init__(accept)
        self.n_neighbors = n_neighbors

    def _fit(self, X: FloatArray, y: ArrayLike | None) -> None:
        self.seen_ = X
        self._rebuild()

    def _rebuild(self) -> None:
        n_neighbors = min(self.n_neighbors, max(1, len(self.seen_) - 1))
        self.lof_ = LocalOutlierFactor(n_neighbors=n_neighbors, novelty=True).fit(self.seen_)

    def _score(self, X: FloatArray) -> FloatArray:
        return self.lof_.score_samples(X)

    def _training_scores(self, seen: None) -> FloatArray:
        return self.lof_.negative_outlier_factor_
