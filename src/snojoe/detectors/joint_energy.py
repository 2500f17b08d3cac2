"""JointEnergy: E(x) = sum_i ln(1 + e^{f_i}), eq. 10 of the paper.

Wang et al., "Can multi-label classification networks know what they don't know?", NeurIPS 2021.
On a network trained with spectral normalisation this is SNoJoE.
"""

from snojoe.detectors.base import ArrayDetector
from snojoe.measures.metrics import FloatArray
from snojoe.model.energy import joint_energy


class JointEnergy(ArrayDetector):
    """The sum of the label energies. Parameters and attributes as in `Detector`."""

    name = "joint_energy"
    title = "JointEnergy"

    def _score(self, X: FloatArray) -> FloatArray:
        return joint_energy(X)
