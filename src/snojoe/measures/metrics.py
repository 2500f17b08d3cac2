"""What is FPR95? Metrics as fractions in float64; in-distribution (ID) is the positive class.

The protocol is that of Wang et al., "Can multi-label classification networks know what they don't
know?", NeurIPS 2021. Scores of any scale are welcome, higher = more in-distribution; nothing is
squashed, so distinct scores stay distinct.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import ceil

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def fpr_at_tpr(id_scores: ArrayLike, ood_scores: ArrayLike, tpr: float = 0.95) -> float:
    """Share of OOD images accepted at the threshold that accepts `tpr` of the ID images.

    Parameters
    ----------
    id_scores : (n,) array
        Scores of in-distribution images, higher = more in-distribution.
    ood_scores : (m,) array
        Scores of out-of-distribution images.
    tpr : float in (0, 1], default 0.95
        The share of ID images to accept; 0.95 makes this FPR95.

    Raises
    ------
    ValueError
        For empty, non-finite or not one-dimensional scores, or `tpr` outside (0, 1].
    """
    threshold = threshold_at_tpr(id_scores, tpr)
    return float(np.mean(check_scores("ood_scores", ood_scores) >= threshold))


def threshold_at_tpr(id_scores: ArrayLike, tpr: float = 0.95) -> float:
    """Largest threshold t such that the share of `id_scores` >= t is at least `tpr`.

    It is one of the scores. With ties the realised share may exceed `tpr`. Arguments and errors as
    in `fpr_at_tpr`.
    """
    scores = check_scores("id_scores", id_scores)
    accepted = count_at_tpr(scores.size, tpr)
    return float(np.partition(scores, -accepted)[-accepted])


def count_at_tpr(n: int, tpr: float) -> int:
    """Smallest number of `n` images that is a share of at least `tpr`."""
    if not 0 < tpr <= 1:
        raise ValueError(f"tpr must be in (0, 1], got {tpr!r}")
    # As a decimal: in binary, 0.95 * 600 is 570 but 0.07 * 100 is 7.000000000000001.
    return ceil(Fraction(str(tpr)) * n)


def auroc(id_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """Probability that an ID image scores above an OOD image, a tie counting one half.

    Arguments and errors as in `fpr_at_tpr`.
    """
    id_scores = check_scores("id_scores", id_scores)
    ood_scores = np.sort(check_scores("ood_scores", ood_scores))
    below = np.searchsorted(ood_scores, id_scores, side="left").sum()
    not_above = np.searchsorted(ood_scores, id_scores, side="right").sum()
    return float((below + not_above) / (2 * id_scores.size * ood_scores.size))


def aupr(id_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """Average precision of ID against OOD; chance is the share of ID images.

    Arguments and errors as in `fpr_at_tpr`.
    """
    id_scores = check_scores("id_scores", id_scores)
    ood_scores = check_scores("ood_scores", ood_scores)
    positive = np.repeat([True, False], [id_scores.size, ood_scores.size])
    return _step_area(positive, np.concatenate([id_scores, ood_scores]))


def average_precision(y_true: ArrayLike, y_score: ArrayLike) -> FloatArray:
    """Average precision of each class: sum over thresholds of (R_n - R_{n-1}) P_n.

    Parameters
    ----------
    y_true : (n, K) array of 0 and 1
        Label matrix.
    y_score : (n, K) array
        Logits or probabilities, higher = more likely.

    Returns
    -------
    (K,) float64 array
        NaN for a class without a positive, whose average precision is undefined.

    Raises
    ------
    ValueError
        For empty or non-finite input, labels other than 0 and 1, or shapes that differ.
    """
    return _per_class(_step_area, y_true, y_score)


def interpolated_average_precision(y_true: ArrayLike, y_score: ArrayLike) -> FloatArray:
    """Trapezoidal area under the precision-recall curve of each class, from (0, 1) on.

    The protocol's own figure. Linear interpolation between points of this curve is optimistic
    (Davis and Goadrich, ICML 2006): `average_precision` is the sounder one. Arguments, returns and
    errors as there.
    """
    return _per_class(_trapezoidal_area, y_true, y_score)


def mean_average_precision(
    y_true: ArrayLike, y_score: ArrayLike, *, interpolated: bool = False
) -> float:
    """Mean of `average_precision` over the classes that have a positive (macro mAP).

    A class without a positive is left out: `np.isnan(average_precision(...))` names those.
    With `interpolated`, the mean of `interpolated_average_precision`. Arguments and errors as
    there; also a ValueError where no class has a positive.
    """
    per_class = interpolated_average_precision if interpolated else average_precision
    precisions = per_class(y_true, y_score)
    if np.isnan(precisions).all():
        raise ValueError("y_true must have a positive in at least one class, got none")
    return float(np.nanmean(precisions))


def check_scores(name: str, scores: ArrayLike) -> FloatArray:
    """`scores` as a finite, non-empty (n,) float64 array, or a ValueError that says `name`."""
    return _finite(name, scores, ndim=1)


def _finite(name: str, values: ArrayLike, ndim: int) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != ndim or array.size == 0:
        raise ValueError(f"{name} must be a non-empty {ndim}-d array, got shape {array.shape}")
    if not np.isfinite(array).all():
        where = np.argwhere(~np.isfinite(array))[0]
        raise ValueError(f"{name} must be finite, got {array[*where]} at {where.tolist()}")
    return array


def _per_class(
    area: Callable[[NDArray[np.bool_], FloatArray], float], y_true: ArrayLike, y_score: ArrayLike
) -> FloatArray:
    labels, scores = _finite("y_true", y_true, ndim=2), _finite("y_score", y_score, ndim=2)
    if labels.shape != scores.shape:
        raise ValueError(
            f"y_true and y_score must have one shape, got {labels.shape} and {scores.shape}"
        )
    if not np.isin(labels, (0, 1)).all():
        other = labels[~np.isin(labels, (0, 1))][0]
        raise ValueError(f"y_true must hold 0 and 1 only, got {other}")
    positive = labels == 1
    return np.array(
        [area(p, s) if p.any() else np.nan for p, s in zip(positive.T, scores.T, strict=True)]
    )


def _step_area(positive: NDArray[np.bool_], score: FloatArray) -> float:
    recall, precision = _recall_precision(positive, score)
    return float(np.diff(recall, prepend=0) @ precision)


def _trapezoidal_area(positive: NDArray[np.bool_], score: FloatArray) -> float:
    recall, precision = _recall_precision(positive, score)
    heights = (precision + np.append(1, precision[:-1])) / 2
    return float(np.diff(recall, prepend=0) @ heights)


def _recall_precision(
    positive: NDArray[np.bool_], score: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Recall and precision at every distinct score, from the highest down."""
    descending = np.argsort(-score, kind="stable")
    score = score[descending]
    last_of_tie = np.flatnonzero(np.append(score[1:] != score[:-1], True))
    hits = np.cumsum(positive[descending])[last_of_tie]
    return hits / hits[-1], hits / (last_of_tie + 1)
