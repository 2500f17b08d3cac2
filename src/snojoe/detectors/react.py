"""ReAct: s(f) = sum_i ln(1 + e^{f_i}) of f = W min(h, c) + b, c a quantile of the train h.

Sun et al., "ReAct: out-of-distribution detection with rectified activations", NeurIPS 2021, with
the joint energy in the place of logsumexp.
"""

from collections.abc import Sequence
from typing import ClassVar, Self

import numpy as np

from snojoe.detectors.base import OutputsDetector
from snojoe.detectors.outputs import LinearHead, ModelOutputs
from snojoe.measures.metrics import FloatArray
from snojoe.model.energy import joint_energy


class ReAct(OutputsDetector):
    """The joint energy after clipping the hidden features.

    Parameters
    ----------
    quantile : float in [0, 1], default 0.9
        Of all activations of the train split together; its value is c.
    accept : float in (0, 1], default 0.95
        As in `Detector`, which also has the attributes.
    """

    name = "react"
    title = "ReAct"
    consumes = ("hidden",)
    fitted_on = "train"
    grid: ClassVar = {"quantile": (0.7, 0.8, 0.9, 0.95, 0.99)}

    def __init__(self, quantile: float = 0.9, accept: float = 0.95) -> None:
        super().__init__(accept)
        self.quantile = quantile

    @classmethod
    def _fit_each(cls, variants: Sequence[Self], outputs: ModelOutputs, head: LinearHead) -> None:
        for each in variants:
            if not 0 <= each.quantile <= 1:
                raise ValueError(f"quantile must be in [0, 1], got {each.quantile!r}")
        quantiles = np.quantile(outputs.hidden, [each.quantile for each in variants])
        for each, clip in zip(variants, quantiles.tolist(), strict=True):
            each.clip_, each.head_ = clip, head

    def _score(self, outputs: ModelOutputs) -> FloatArray:
        return joint_energy(self.head_.logits(np.minimum(outputs.hidden, self.clip_)))
