"""SHE: max_k <h, S_k>, S_k the mean h of the train images that carry class k and are predicted so.

Zhang et al., "Out-of-distribution detection based on in-distribution data patterns memorization
with modern Hopfield energy", ICLR 2023, for many labels: an image takes part in each class that it
carries with f_k >= 0.
"""

from snojoe.detectors.base import OutputsDetector
from snojoe.detectors.outputs import LinearHead, ModelOutputs
from snojoe.measures.metrics import FloatArray


class SHE(OutputsDetector):
    """The inner product with the nearest stored pattern.

    Classes that no image is rightly predicted to carry have no pattern; where that is so of all
    classes, all images that carry a class make its pattern. Parameters and attributes as in
    `Detector`.
    """

    name = "she"
    title = "SHE"
    consumes = ("hidden", "logits")
    fitted_on = "train"

    def _fit(self, outputs: ModelOutputs, head: LinearHead) -> None:
        if outputs.labels is None:
            raise ValueError("SHE needs labels to be fitted, got outputs without")
        carried = outputs.labels == 1
        if not carried.any():
            raise ValueError("SHE needs one label at least, got none")
        correct = carried & (outputs.logits >= 0)
        members = (correct if correct.any() else carried).astype(float)
        counts = members.sum(axis=0)
        known = counts > 0
        self.patterns_ = members[:, known].T @ outputs.hidden / counts[known, None]

    def _score(self, outputs: ModelOutputs) -> FloatArray:
        return (outputs.hidden @ self.patterns_.T).max(axis=1)
