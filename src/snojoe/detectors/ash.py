"""ASH: s(f) = sum_i ln(1 + e^{f_i}) of f = W h' + b, h' = h without its smaller activations.

Djurisic et al., "Extremely simple activation shaping for out-of-distribution detection", ICLR 2023,
with the joint energy in the place of logsumexp. What is kept stays as it is (P), is given the same
value each, so that the sum remains that of h (B), or is scaled by e^r, r = sum before / sum after
(S).
"""

from abc import abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from snojoe.detectors._activations import kept_count, largest, whole_to_part
from snojoe.detectors.base import OutputsDetector
from snojoe.detectors.outputs import LinearHead, ModelOutputs
from snojoe.measures.metrics import FloatArray
from snojoe.model.energy import joint_energy


class ASH(OutputsDetector):
    """The joint energy of the largest activations of each image.

    Parameters
    ----------
    pruned : float in [0, 1)
        Share of an image's activations that are set to 0, the smallest and all up to 0; by default
        the authors': 0.65 (P, B), 0.9 (S).
    accept : float in (0, 1], default 0.95
        As in `Detector`, which also has the attributes.
    """

    consumes = ("hidden",)
    grid: ClassVar = {"pruned": (0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)}

    def __init__(self, pruned: float, accept: float = 0.95) -> None:
        super().__init__(accept)
        self.pruned = pruned

    def _fit(self, outputs: ModelOutputs, head: LinearHead) -> None:
        self.k_ = kept_count(self.pruned, outputs.hidden.shape[1])
        self.head_ = head

    def _score(self, outputs: ModelOutputs) -> FloatArray:
        shaped = self._shaped(outputs.hidden, largest(outputs.hidden, self.k_))
        return joint_energy(self.head_.logits(shaped))

    @abstractmethod
    def _shaped(self, hidden: FloatArray, kept: NDArray[np.bool_]) -> FloatArray:
        """h': (n, D)."""


class ASHP(ASH):
    """ASH that prunes and does no more."""

    name = "ash_p"
    title = "ASH-P"

    def __init__(self, pruned: float = 0.65, accept: float = 0.95) -> None:
        super().__init__(pruned, accept)

    def _shaped(self, hidden: FloatArray, kept: NDArray[np.bool_]) -> FloatArray:
        return hidden * kept


class ASHB(ASH):
    """ASH that makes binary what it keeps."""

    name = "ash_b"
    title = "ASH-B"

    def __init__(self, pruned: float = 0.65, accept: float = 0.95) -> None:
        super().__init__(pruned, accept)

    def _shaped(self, hidden: FloatArray, kept: NDArray[np.bool_]) -> FloatArray:
        total = np.maximum(hidden, 0).sum(axis=1, keepdims=True)
        return kept * (total / np.maximum(kept.sum(axis=1, keepdims=True), 1))


class ASHS(ASH):
    """ASH that scales what it keeps."""

    name = "ash_s"
    title = "ASH-S"

    def __init__(self, pruned: float = 0.9, accept: float = 0.95) -> None:
        super().__init__(pruned, accept)

    def _shaped(self, hidden: FloatArray, kept: NDArray[np.bool_]) -> FloatArray:
        return hidden * kept * np.exp(whole_to_part(hidden, kept))
