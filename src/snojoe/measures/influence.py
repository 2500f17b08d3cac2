"""How much does each image move a metric? Its derivative by the weight of the image.

A metric of other images from the same source differs by the mean of their influence, so the
variance of that mean is the metric's: for AUROC this is the variance of DeLong et al., "Comparing
the areas under two or more correlated receiver operating characteristic curves", 1988, for all
three the infinitesimal jackknife.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from snojoe.measures.metrics import FloatArray, check_scores, count_at_tpr, threshold_at_tpr
from snojoe.measures.ood_metrics import AUPR, AUROC, FPR95, Metric

Influence = tuple[FloatArray, FloatArray]
"""Of the (n,) ID images and of the (m,) OOD images; each has the mean 0."""

TPR = 0.95


def influence(metric: Metric, id_scores: ArrayLike, ood_scores: ArrayLike) -> Influence:
    """Influence of each image on one of `OOD_METRICS`: n (or m) times the derivative by its weight.

    Weights of a set sum to one, so that the share of ID images stays what it is.

    Parameters
    ----------
    metric : Metric
        One of `OOD_METRICS`.
    id_scores : (n,) array
        Higher = more in-distribution.
    ood_scores : (m,) array

    Raises
    ------
    ValueError
        For scores that `snojoe.measures.metrics` refuses.
    """
    return _INFLUENCES[metric.name](
        check_scores("id_scores", id_scores), check_scores("ood_scores", ood_scores)
    )


def _of_auroc(id_scores: FloatArray, ood_scores: FloatArray) -> Influence:
    id_sorted, ood_sorted = np.sort(id_scores), np.sort(ood_scores)
    beaten = _below(ood_sorted, id_scores)  # share of OOD images below, ties one half
    beating = 1 - _below(id_sorted, ood_scores)
    return beaten - beaten.mean(), beating - beating.mean()


def _below(ascending: FloatArray, scores: FloatArray) -> FloatArray:
    sides = [np.searchsorted(ascending, scores, side) for side in ("left", "right")]
    return (sides[0] + sides[1]) / (2 * ascending.size)


def _of_aupr(id_scores: FloatArray, ood_scores: FloatArray) -> Influence:
    # AP is the mean over ID images of the precision P = n T / (n T + m F) at their own scores, T
    # and F being TPR and FPR there: an image counts by its own P, and in T or F below its score.
    n, m = id_scores.size, ood_scores.size
    id_order = np.argsort(id_scores, kind="stable")
    thresholds, ood_sorted = id_scores[id_order], np.sort(ood_scores)
    true = (n - np.searchsorted(thresholds, thresholds, "left")) / n
    false = (m - np.searchsorted(ood_sorted, thresholds, "left")) / m
    accepted = n * true + m * false
    precision = n * true / accepted
    by_true, by_false = n * m * false / accepted**2, -n * m * true / accepted**2
    id_part = np.empty(n)
    id_part[id_order] = precision - precision.mean()
    id_part += _sums_below(thresholds, by_true, id_scores) - np.mean(by_true * true)
    ood_part = _sums_below(thresholds, by_false, ood_scores) - np.mean(by_false * false)
    return id_part, ood_part


def _sums_below(ascending: FloatArray, values: FloatArray, scores: FloatArray) -> FloatArray:
    """(1 / n) times the sum of the values of those of `ascending` that are not above a score."""
    sums = np.append(0, np.cumsum(values)) / ascending.size
    return sums[np.searchsorted(ascending, scores, "right")]


def _of_fpr95(id_scores: FloatArray, ood_scores: FloatArray) -> Influence:
    threshold = threshold_at_tpr(id_scores, TPR)
    id_accepted, ood_accepted = id_scores >= threshold, ood_scores >= threshold
    slope = roc_slope(id_scores, ood_scores)
    return -slope * (id_accepted - id_accepted.mean()), ood_accepted - ood_accepted.mean()


def roc_slope(id_scores: FloatArray, ood_scores: FloatArray) -> float:
    """Slope dFPR / dTPR at a TPR of 95%: what ID images that shift the threshold do to FPR95.

    It is the slope b of the chord of Phi^-1(FPR) over Phi^-1(TPR), on which scale ROC curves are
    nearly straight (exactly where scores are normal), times phi(Phi^-1(FPR95)) / phi(q),
    q = Phi^-1(0.95). The chord reaches down to TPR 0.95 - 2h, and as far up by the factor by which
    misses change, h = (1.5 z^2 phi(q)^2 / (2 q^2 + 1) / n)^(1/3), z = Phi^-1(0.975): the bandwidth
    of Hall and Sheather, "On the distribution of a studentized quantile", 1988, which can be
    doubled where curvature is small. At least one image on each side; 0 where all of these are one
    tie, which no image can move.
    """
    n, q = id_scores.size, float(ndtri(TPR))
    h = (1.5 * (float(ndtri(0.975)) * _phi(q)) ** 2 / (2 * q**2 + 1) / n) ** (1 / 3)
    accepted = count_at_tpr(n, TPR)
    fewer = max(1, accepted - max(1, round(2 * h * n)))
    more = min(n, max(accepted + 1, n - int(n * (1 - TPR) ** 2 / (1 - TPR + 2 * h))))
    ascending = np.sort(id_scores)
    thresholds = ascending[[n - fewer, n - accepted, n - more]]
    tpr = _probits(ascending, thresholds, 0)
    fpr = _probits(np.sort(ood_scores), thresholds, 0.5)
    if tpr[2] <= tpr[0]:
        return 0.0
    return float((fpr[2] - fpr[0]) / (tpr[2] - tpr[0]) * _phi(fpr[1]) / _phi(q))


def _probits(ascending: FloatArray, thresholds: FloatArray, more: float) -> FloatArray:
    """Phi^-1 of the share of scores that is accepted, kept from 0 and 1."""
    accepted = ascending.size - np.searchsorted(ascending, thresholds, "left")
    return ndtri((accepted + more) / (ascending.size + 1))


def _phi(x: float) -> float:
    return float(np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi))


_INFLUENCES: dict[str, Callable[[FloatArray, FloatArray], Influence]] = {
    FPR95.name: _of_fpr95,
    AUROC.name: _of_auroc,
    AUPR.name: _of_aupr,
}
