"""Feature norm: |z|, the Euclidean length of the pooled trunk features.

The baseline that knows no class: a network answers with longer features to what it was trained on.
Park et al., "Understanding the feature norm for out-of-distribution detection", ICCV 2023, show the
norm of a layer to be the confidence of a classifier that is hidden in it.
"""

import numpy as np

from snojoe.detectors.base import ArrayDetector
from snojoe.measures.metrics import FloatArray


class FeatureNorm(ArrayDetector):
    """The length of the features. Parameters and attributes as in `Detector`."""

    name = "feature_norm"
    title = "Feature norm"
    consumes = ("features",)

    def _score(self, X: FloatArray) -> FloatArray:
        return np.linalg.norm(X, axis=1)


class FeatureNormHidden(FeatureNorm):
    """`FeatureNorm` of the penultimate layer h."""

    name = "feature_norm_hidden"
    title = "Feature norm (hidden)"
    consumes = ("hidden",)
