"""ReAct: s(f) = sum_i ln(1 + e^{f_i}) of f = W min(h, c) + b, c a quantile of the train h.

Sun et al., "ReAct: out-of-distribution detection with rectified activations", NeurIPS 2021, with
the joint energy in the place of logsumexp.
"""

from typing import ClassVar

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

    def _fit(self, outputs: ModelOutputs, head: LinearHead) -> None:
        if not 0 <= self.quantile <= 1:
            raise ValueError(f"quantile must be in [0, 1], got {self.quantile!r}")
        self.clip_ = float(np.quantile(outputs.hidden, self.quantile))
        self.head_ = head

    def _score(self, outputs: ModelOutputs) -> FloatArray:
        return joint_energy(self.head_.logits(np.minimum(outputs.hidden, self.clip_)))
