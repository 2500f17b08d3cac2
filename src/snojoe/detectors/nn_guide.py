"""NNGuide: s(f) times the mean over the k nearest train images j of cos(z, z_j) s(f_j).

Park et al., "Nearest neighbor guidance for out-of-distribution detection", ICCV 2023, with the
joint energy s(f) = sum_i ln(1 + e^{f_i}) and the pooled trunk features z.
"""

import numpy as np
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from snojoe.detectors.base import OutputsDetector
from snojoe.detectors.outputs import LinearHead, ModelOutputs
from snojoe.measures.metrics import FloatArray
from snojoe.model.energy import joint_energy


class NNGuide(OutputsDetector):
    """The joint energy, guided by that of similar train images.

    All of them are searched for every image: the time of scoring is their product.

    Parameters
    ----------
    k : int >= 1, default 10
        Number of neighbours; all train images where there are fewer. In `offset_` no image is its
        own neighbour.
    accept : float in (0, 1], default 0.95
        As in `Detector`, which also has the attributes.
    """

    name = "nn_guide"
    title = "NNGuide"
    consumes = ("features", "logits")
    fitted_on = "train"
    _keeps_training = True

    def __init__(self, k: int = 10, accept: float = 0.95) -> None:
        super().__init__(accept)
        self.k = k

    def _fit(self, outputs: ModelOutputs, head: LinearHead) -> None:
        if self.k < 1:
            raise ValueError(f"k must be at least 1, got {self.k!r}")
        self.directions_ = normalize(outputs.features)
        self.energies_ = joint_energy(outputs.logits)
        self._rebuild()

    def _rebuild(self) -> None:
        self.neighbours_ = NearestNeighbors(algorithm="brute").fit(self.directions_)

    def _score(self, outputs: ModelOutputs) -> FloatArray:
        return self._guided(normalize(outputs.features), joint_energy(outputs.logits), skip=0)

    def _training_scores(self, seen: None) -> FloatArray:
        skip = min(1, len(self.energies_) - 1)
        return self._guided(self.directions_, self.energies_, skip)

    def _guided(self, directions: FloatArray, energies: FloatArray, skip: int) -> FloatArray:
        k = min(self.k + skip, len(self.energies_))
        distances, nearest = self.neighbours_.kneighbors(directions, k)
        cosines = 1 - distances[:, skip:] ** 2 / 2
        return energies * np.mean(cosines * self.energies_[nearest[:, skip:]], axis=1)
