"""SHE: <h, S_k> of the predicted class k, S_k the mean h of the train images rightly predicted so.

Zhang et al., "Out-of-distribution detection based on in-distribution data patterns memorization
with modern Hopfield energy", ICLR 2023. For many labels an image takes part in the pattern of each
class that it carries with f_k >= 0, and the predicted class is the most probable one: there is
always one, also of an image of which no label is predicted, and with one label it is theirs.
"""

import numpy as np

from snojoe.detectors.base import OutputsDetector
from snojoe.detectors.outputs import LinearHead, ModelOutputs
from snojoe.measures.metrics import FloatArray


class SHE(OutputsDetector):
    """The inner product with the stored pattern of the most probable class.

    Classes that no image is rightly predicted to carry have no pattern and are not looked at;
    where that is so of all classes, all images that carry a class make its pattern. Parameters and
    attributes as in `Detector`.
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
        self.known_classes_ = np.flatnonzero(counts)
        members, counts = members[:, self.known_classes_], counts[self.known_classes_]
        self.patterns_ = members.T @ outputs.hidden / counts[:, None]

    def _score(self, outputs: ModelOutputs) -> FloatArray:
        predicted = outputs.logits[:, self.known_classes_].argmax(axis=1)
        products = outputs.hidden @ self.patterns_.T
        return np.take_along_axis(products, predicted[:, None], axis=1)[:, 0]
