"""ODIN: max_i sigmoid(f_i(x') / T), x' = x - eps * sign(gradient) / std.

Liang et al., "Enhancing the reliability of out-of-distribution image detection in neural networks",
ICLR 2018, in the multi-label form of Wang et al. 2021. This class sees the logits of x'.
"""

from numpy.typing import ArrayLike

from snojoe.detectors.base import ArrayDetector
from snojoe.measures.metrics import FloatArray


class ODIN(ArrayDetector):
    """The logit of ODIN's largest probability, max_i f_i / T.

    It ranks as the probability does, which would saturate and tie; with T = 1 and eps = 0 it is
    MaxLogit.

    Parameters
    ----------
    temperature : float > 0, default 1.0
        T.
    accept : float in (0, 1], default 0.95
        As in `Detector`, which also has the attributes.
    """

    name = "odin"
    title = "ODIN"

    def __init__(self, temperature: float = 1.0, accept: float = 0.95) -> None:
        super().__init__(accept)
        self.temperature = temperature

    def _fit(self, X: FloatArray, y: ArrayLike | None) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, got {self.temperature!r}")

    def _score(self, X: FloatArray) -> FloatArray:
        return X.max(axis=1) / self.temperature
