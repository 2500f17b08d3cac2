"""Isolation Forest: minus 2^(-mean depth / c(n)), the depth at which random splits isolate x.

Liu et al., "Isolation forest", ICDM 2008. The protocol fits it on val logits, with scikit-learn's
defaults and random_state=42.
"""

from typing import ClassVar

from numpy.typing import ArrayLike
from sklearn import ensemble

from snojoe.detectors.base import ArrayDetector
from snojoe.measures.metrics import FloatArray


class IsolationForest(ArrayDetector):
    """scikit-learn's `IsolationForest`, whose trees compare in float32.

    Parameters
    ----------
    n_estimators : int, default 100
        Number of trees.
    random_state : int, RandomState or None, default 42
        Seed of the trees.
    accept : float in (0, 1], default 0.95
        As in `Detector`, which also has the attributes.
    """

    name = "isolation_forest"
    title = "Isolation Forest"
    grid: ClassVar = {"n_estimators": (50, 100)}

    def __init__(
        self, n_estimators: int = 100, random_state: int | None = 42, accept: float = 0.95
    ) -> None:
        super().__init__(accept)
        self.n_estimators = n_estimators
        self.random_state = random_state

    def _fit(self, X: FloatArray, y: ArrayLike | None) -> None:
        self.seen_ = X
        self._rebuild()

    def _rebuild(self) -> None:
        self.forest_ = ensemble.IsolationForest(
            n_estimators=self.n_estimators, random_state=self.random_state
        ).fit(self.seen_)

    def _score(self, X: FloatArray) -> FloatArray:
        return self.forest_.score_samples(X)
