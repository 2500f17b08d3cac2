"""Co-occurrence energy: sum_i ln(1 + e^{f_i}) times the mean of c_ij over j, weighted by p_j.

The joint energy (Wang et al., NeurIPS 2021) in which a label counts less beside labels that it is
not seen with in train. c_ij = min(1, (n_ij + 1) / (n_i n_j / n + 1)), 1 for i = j: the images that
show both over those to be expected of independent labels, of which it makes the joint energy. The
idea is that of SLCS (Image and Vision Computing), whose formula is not public; this is none of it.
"""

import numpy as np
from scipy.special import log_expit, softmax

from snojoe.detectors.base import OutputsDetector
from snojoe.detectors.outputs import LinearHead, ModelOutputs
from snojoe.measures.metrics import FloatArray


class CoOccurrenceEnergy(OutputsDetector):
    """The joint energy, weighted by what each label is seen with.

    Parameters and attributes as in `Detector`.
    """

    name = "co_occurrence"
    title = "Co-occurrence energy"
    fitted_on = "train"

    def _fit(self, outputs: ModelOutputs, head: LinearHead) -> None:
        if outputs.labels is None:
            raise ValueError(f"{self.title} needs labels to be fitted, got outputs without")
        labels = (outputs.labels == 1).astype(np.float64)
        counts = labels.sum(axis=0)
        expected = np.outer(counts, counts) / len(labels)
        self.company_ = np.minimum((labels.T @ labels + 1) / (expected + 1), 1)
        np.fill_diagonal(self.company_, 1)

    def _score(self, outputs: ModelOutputs) -> FloatArray:
        shares = softmax(log_expit(outputs.logits), axis=1)  # p_j / sum of p, where all p are 0 too
        return (np.logaddexp(0, outputs.logits) * (shares @ self.company_)).sum(axis=1)
