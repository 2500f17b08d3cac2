"""NNGuide: s(f) times the mean of the k largest s(f_j) cos(h, h_j) over the train images j.

Park et al., "Nearest neighbor guidance for out-of-distribution detection", ICCV 2023, with the
joint energy s(f) = sum_i ln(1 + e^{f_i}) in the place of logsumexp. As theirs, neighbours are near
and confident at once: an image's direction is compared with those of the train images, each scaled
by its confidence.
"""

from collections.abc import Sequence
from typing import ClassVar, Self

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
    grid: ClassVar = {"k": (1, 5, 10, 50, 100)}
    _keeps_training = True

    def __init__(self, k: int = 10, accept: float = 0.95) -> None:
        super().__init__(accept)
        self.k = k

    @classmethod
    def _fit_each(cls, variants: Sequence[Self], outputs: ModelOutputs, head: LinearHead) -> None:
        directions, energies = normalize(outputs.hidden), joint_energy(outputs.logits)
        for each in variants:
            if each.k < 1:
                raise ValueError(f"k must be at least 1, got {each.k!r}")
            each.directions_, each.energies_ = directions, energies

    @classmethod
    def _score_each(cls, variants: Sequence[Self], outputs: ModelOutputs) -> list[FloatArray]:
        directions, energies = normalize(outputs.hidden), joint_energy(outputs.logits)
        guides = []
        for rows in gen_batches(len(directions), _ROWS):
            similar = variants[0]._similar(directions[rows])
            guides.append([each._guide(similar) for each in variants])
        return [energies * np.concatenate(of_one) for of_one in zip(*guides, strict=True)]

    def _score(self, outputs: ModelOutputs) -> FloatArray:
        (scores,) = self._score_each([self], outputs)
        return scores

    def _training_scores(self, seen: None) -> FloatArray:
        n = len(self.energies_)
        guides = []
        for rows in gen_batches(n, _ROWS):
            similar = self._similar(self.directions_[rows])
            if n > 1:
                own = np.arange(len(similar))
                similar[own, rows.start + own] = -np.inf
            guides.append(self._guide(similar, max(1, n - 1)))
        return self.energies_ * np.concatenate(guides)

    def _similar(self, directions: FloatArray) -> FloatArray:
        """To each train image, times its confidence: (m, d) -> (m, n)."""
        return directions @ self.directions_.T * self.energies_

    def _guide(self, similar: FloatArray, others: int | None = None) -> FloatArray:
        """(m, n) -> (m,); of so many `others` where one of the n is the image itself."""
        k = min(self.k, similar.shape[1] if others is None else others)
        return np.partition(similar, -k, axis=1)[:, -k:].mean(axis=1)
