"""Where to cut, fitted on val: tau of the joint energy (eq. 11), and one threshold per label."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from snojoe.measures.conformal import conformal_rank
from snojoe.measures.metrics import FloatArray, check_scores, threshold_at_tpr

_ROUNDING = 1e-9


def acceptance_threshold(scores: ArrayLike, accept: float = 0.95) -> float:
    """Threshold that a share of at least `accept` of the images reaches.

    It is `threshold_at_tpr` less 1e-9 of it: matrix products round differently in another batch,
    and the image on the threshold is to stay in.

    Raises
    ------
    ValueError
        If `accept` is outside (0, 1], or a score is not finite, or there is none.
    """
    if not 0 < accept <= 1:
        raise ValueError(f"accept must be in (0, 1], got {accept!r}")
    return _rounded_down(threshold_at_tpr(scores, accept))


def calibrated_threshold(
    scores: ArrayLike, accept: float = 0.95, confidence: float | None = None
) -> float:
    """Threshold at the rank of the calibration scores that `conformal_rank` gives.

    Of new in-distribution images it accepts at least `accept`, on average over calibration sets or
    with the given `confidence`. Of scores that are too few to promise that it is the lowest.

    Parameters
    ----------
    scores : (n,) array
        Of images that nothing else was fitted, tuned or chosen on.
    accept, confidence : float
        As in `snojoe.measures.conformal.conformal_rank`.

    Raises
    ------
    ValueError
        If a share is out of its range, or a score is not finite, or there is none.
    """
    ordered = np.sort(check_scores("scores", scores))
    rank = max(1, conformal_rank(len(ordered), accept, confidence))
    return _rounded_down(float(ordered[rank - 1]))


def label_thresholds(labels: NDArray[np.integer], probabilities: FloatArray) -> FloatArray:
    """For each label the threshold that maximises its F1.

    Parameters
    ----------
    labels : (n, K) array of 0 and 1
    probabilities : (n, K) float64

    Returns
    -------
    (K,) float64
        Halfway between the last probability that is accepted and the first that is not. Of several
        that are best it is the highest. NaN for a label without a positive, whose F1 is undefined.
    """
    return np.array(
        [_f1_threshold(*column) for column in zip(labels.T, probabilities.T, strict=True)]
    )


def _rounded_down(threshold: float) -> float:
    return threshold - _ROUNDING * abs(threshold)


def _f1_threshold(truth: NDArray[np.integer], probability: FloatArray) -> float:
    if not truth.any():
        return float("nan")
    order = np.argsort(-probability, kind="stable")
    ranked = np.append(probability[order], 0.0)
    accepted = np.arange(1, len(order) + 1)
    f1 = 2 * np.cumsum(truth[order], dtype=np.intp) / (accepted + np.count_nonzero(truth))
    # No threshold cuts between two equal probabilities.
    f1[:-1][ranked[1:-1] == ranked[:-2]] = 0
    best = int(np.argmax(f1))
    return float(ranked[best : best + 2].mean())
