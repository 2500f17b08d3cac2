"""ViM in joint-energy form: s(f) - alpha |P(h - o)|, s(f) = sum_i ln(1 + e^{f_i}).

Wang et al., "ViM: out-of-distribution with virtual-logit matching", CVPR 2022, with the joint
energy in the place of logsumexp and of the largest logit that alpha is matched to. alpha makes the
means of both terms equal on val images. The authors take train images, of which they have many for
each feature; the principal space is fitted to these, so that their residual is smaller than that of
a new image, and vanishes where there are fewer images than its dimension.
"""

from snojoe.detectors.outputs import ModelOutputs
from snojoe.detectors.residual import Residual
from snojoe.measures.metrics import FloatArray
from snojoe.model.energy import joint_energy


class ViM(Residual):
    """The joint energy minus the scaled residual. Parameters and attributes as in `Residual`."""

    name = "vim"
    title = "ViM"
    consumes = ("hidden", "logits")
    matched_on = "val"

    def _match(self, outputs: ModelOutputs) -> None:
        residual = self._residual(outputs).mean()
        if residual == 0:
            raise ValueError(
                f"principal_dim must leave a residual to match, got {self.principal_dim}"
            )
        self.alpha_ = joint_energy(outputs.logits).mean() / residual

    def _score(self, outputs: ModelOutputs) -> FloatArray:
        return joint_energy(outputs.logits) - self.alpha_ * self._residual(outputs)
