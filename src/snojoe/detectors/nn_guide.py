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

from snojoe.detectors._search import Columns, Search, squares
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
        first, *others = variants
        first._rebuild()
        for each in others:
            each._centre, each._search = first._centre, first._search

    def _rebuild(self) -> None:
        self._centre = self.directions_.mean(axis=0)
        points = self.directions_ * self.energies_[:, None]
        points -= points.mean(axis=0)
        self._search = Search(points, -points @ self._centre)

    @classmethod
    def _score_each(cls, variants: Sequence[Self], outputs: ModelOutputs) -> list[FloatArray]:
        energies, n = joint_energy(outputs.logits), len(variants[0].energies_)
        most = min(max(each.k for each in variants), n)
        similar = variants[0]._similar(normalize(outputs.hidden), most)
        return [energies * similar[:, -min(each.k, n) :].mean(axis=1) for each in variants]

    def _score(self, outputs: ModelOutputs) -> FloatArray:
        (scores,) = self._score_each([self], outputs)
        return scores

    def _training_scores(self, seen: None) -> FloatArray:
        n = len(self.energies_)
        if n == 1:
            return self.energies_ * self._similar(self.directions_, 1)[:, 0]
        similar = self._similar(self.directions_, min(self.k + 1, n))
        own = squares(self.directions_) * self.energies_
        others = np.where(
            own >= similar[:, 0], similar.sum(axis=1) - own, similar[:, 1:].sum(axis=1)
        )
        return self.energies_ * others / (similar.shape[1] - 1)

    def _similar(self, directions: FloatArray, k: int) -> FloatArray:
        """The k largest similarities: (m, d) -> (m, k)."""
        shifted = directions - self._centre
        return self._search.largest(shifted, k, directions, self._similarity)

    def _similarity(self, directions: FloatArray, to: Columns) -> FloatArray:
        """(m, d) -> (m, c)."""
        return directions @ self.directions_[to].T * self.energies_[to]
