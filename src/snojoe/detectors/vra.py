"""VRA: s(f) = sum_i ln(1 + e^{f_i}) of f = W h' + b, h' = 0 where h < a, else min(h, c).

Xu et al., "VRA: variational rectified activation for out-of-distribution detection", NeurIPS 2023,
with the joint energy in the place of logsumexp; a and c are quantiles of the train h.
"""

from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np

from snojoe.detectors.base import OutputsDetector
from snojoe.detectors.outputs import LinearHead, ModelOutputs
from snojoe.measures.metrics import FloatArray
from snojoe.model.energy import joint_energy


class VRA(OutputsDetector):
    """The joint energy after suppressing low and clipping high hidden features.

    Parameters
    ----------
    low, high : float in [0, 1], default 0.6 and 0.95
        Quantiles of all activations of the train split together; their values are a and c.
    accept : float in (0, 1], default 0.95
        As in `Detector`, which also has the attributes.
    """

    name = "vra"
    title = "VRA"
    consumes = ("hidden",)
    fitted_on = "train"
    grid: ClassVar = {"low": (0.0, 0.3, 0.6), "high": (0.9, 0.95, 0.99)}

    def __init__(self, low: float = 0.6, high: float = 0.95, accept: float = 0.95) -> None:
        super().__init__(accept)
        self.low = low
        self.high = high

    @classmethod
    def _fit_each(cls, variants: Sequence[Self], outputs: ModelOutputs, head: LinearHead) -> None:
        for each in variants:
            if not 0 <= each.low <= each.high <= 1:
                both = f"{each.low!r} and {each.high!r}"
                raise ValueError(f"0 <= low <= high <= 1 must hold, got {both}")
        quantiles = np.quantile(outputs.hidden, [(each.low, each.high) for each in variants])
        for each, (low, high) in zip(variants, quantiles.tolist(), strict=True):
            each.floor_, each.clip_, each.head_ = low, high, head

    def _score(self, outputs: ModelOutputs) -> FloatArray:
        clipped = np.minimum(outputs.hidden, self.clip_)
        return joint_energy(self.head_.logits(np.where(clipped < self.floor_, 0, clipped)))
