"""NNGuide: s(f) times the mean of the k largest s(f_j) cos(h, h_j) over the train images j.

Park et al., "Nearest neighbor guidance for out-of-distribution detection", ICCV 2023, with the
joint energy s(f) = sum_i ln(1 + e^{f_i}) in the place of logsumexp. As theirs, neighbours are near
and confident at once: an image's direction is compared with those of the train images, each scaled
by its confidence.
"""

import numpy as np
from sklearn.preprocessing import normalize
from sklearn.utils import gen_batches

from snojoe.detectors.base import OutputsDetector
from snojoe.detectors.outputs import LinearHead, ModelOutputs
from snojoe.measures.metrics import FloatArray
from snojoe.model.energy import joint_energy

_ROWS = 256  # of train images times this many there are similarities at a time


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
    consumes = ("hidden", "logits")
    fitted_on = "train"
    _keeps_training = True

    def __init__(self, k: int = 10, accept: float = 0.95) -> None:
        super().__init__(accept)
        self.k = k

    def _fit(self, outputs: ModelOutputs, head: LinearHead) -> None:
        if self.k < 1:
            raise ValueError(f"k must be at least 1, got {self.k!r}")
        self.directions_ = normalize(outputs.hidden)
        self.energies_ = joint_energy(outputs.logits)

    def _score(self, outputs: ModelOutputs) -> FloatArray:
        directions = normalize(outputs.hidden)
        guides = [self._guide(directions[rows]) for rows in gen_batches(len(directions), _ROWS)]
        return joint_energy(outputs.logits) * np.concatenate(guides)

    def _training_scores(self, seen: None) -> FloatArray:
        rows = gen_batches(len(self.directions_), _ROWS)
        guides = [self._guide(self.directions_[own], own.start) for own in rows]
        return self.energies_ * np.concatenate(guides)

    def _guide(self, directions: FloatArray, own: int | None = None) -> FloatArray:
        """(m, d) -> (m,); the images may be the train images from number `own` on."""
        similar = directions @ self.directions_.T * self.energies_
        n = len(self.energies_)
        if own is not None and n > 1:
            similar[np.arange(len(similar)), own + np.arange(len(similar))] = -np.inf
            n -= 1
        k = min(self.k, n)
        return np.partition(similar, -k, axis=1)[:, -k:].mean(axis=1)
