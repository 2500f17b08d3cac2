"""NECO: |P h| / |h|, the part of h inside the principal space of the train features.

Ben Ammar et al., "NECO: neural collapse based out-of-distribution detection", ICLR 2024. h is
standardised by the train split, as the authors do for networks that are not collapsed; P projects
on its first principal components.
"""

from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np

from snojoe.detectors.base import OutputsDetector
from snojoe.detectors.outputs import LinearHead, ModelOutputs
from snojoe.measures.metrics import FloatArray


class NECO(OutputsDetector):
    """The share of the norm that lies in the principal space.

    Parameters
    ----------
    variance : float in (0, 1], default 0.9
        Share of the train split's variance that the principal space has at least.
    accept : float in (0, 1], default 0.95
        As in `Detector`, which also has the attributes.
    """

    name = "neco"
    title = "NECO"
    consumes = ("hidden",)
    fitted_on = "train"
    grid: ClassVar = {"variance": (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)}

    def __init__(self, variance: float = 0.9, accept: float = 0.95) -> None:
        super().__init__(accept)
        self.variance = variance

    @classmethod
    def _fit_each(cls, variants: Sequence[Self], outputs: ModelOutputs, head: LinearHead) -> None:
        for each in variants:
            if not 0 < each.variance <= 1:
                raise ValueError(f"variance must be in (0, 1], got {each.variance!r}")
        mean, spread = outputs.hidden.mean(axis=0), outputs.hidden.std(axis=0)
        for each in variants:
            each.mean_, each.spread_ = mean, np.where(spread > 0, spread, 1)
        standard = variants[0]._standard(outputs)
        variances, directions = np.linalg.eigh(standard.T @ standard)
        shares = np.cumsum(variances[::-1]) / variances.sum()
        for each in variants:
            dim = 1 + int(np.sum(shares < each.variance))
            each.directions_ = directions[:, ::-1][:, :dim]

    @classmethod
    def _score_each(cls, variants: Sequence[Self], outputs: ModelOutputs) -> list[FloatArray]:
        standard = variants[0]._standard(outputs)
        norm = np.linalg.norm(standard, axis=1)
        inside = (np.linalg.norm(standard @ each.directions_, axis=1) for each in variants)
        return [np.divide(i, norm, out=np.zeros_like(norm), where=norm > 0) for i in inside]

    def _score(self, outputs: ModelOutputs) -> FloatArray:
        (scores,) = self._score_each([self], outputs)
        return scores

    def _standard(self, outputs: ModelOutputs) -> FloatArray:
        return (outputs.hidden - self.mean_) / self.spread_
