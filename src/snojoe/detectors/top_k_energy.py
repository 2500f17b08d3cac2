"""TopKEnergy: sum of the k largest ln(1 + e^{f_i}).

Between MaxLogit (k = 1 ranks as it does) and JointEnergy (k = K), after the study of aggregation in
Wang et al., "Can multi-label classification networks know what they don't know?", NeurIPS 2021.
"""

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from snojoe.detectors.base import ArrayDetector
from snojoe.measures.metrics import FloatArray
from snojoe.model.energy import joint_energy


class TopKEnergy(ArrayDetector):
    """The sum of the k largest label energies.

    Parameters
    ----------
    k : int >= 1, default 3
        How many; all K where k is larger.
    accept : float in (0, 1], default 0.95
        As in `Detector`, which also has the attributes.
    """

    name = "top_k_energy"
    title = "TopKEnergy"
    grid: ClassVar = {"k": (1, 2, 3, 5, 10)}

    def __init__(self, k: int = 3, accept: float = 0.95) -> None:
        super().__init__(accept)
        self.k = k

    def _fit(self, X: FloatArray, y: ArrayLike | None) -> None:
        if self.k < 1:
            raise ValueError(f"k must be at least 1, got {self.k!r}")

    def _score(self, X: FloatArray) -> FloatArray:
        k = min(self.k, X.shape[1])
        return joint_energy(np.partition(X, -k, axis=1)[:, -k:])
