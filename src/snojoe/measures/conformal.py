"""What a threshold promises of new in-distribution images, for finite samples and any score.

n calibration scores and that of a new image are exchangeable where the image is of their kind and
nothing was chosen by looking at them. Then the number of calibration scores below the new one is
uniform, and a threshold at their k-th smallest accepts a share of new images that is
Beta(n + 1 - k, k) distributed over calibration sets, with mean (n + 1 - k) / (n + 1): Bates,
Candes, Lei, Romano and Sesia, "Testing for outliers with conformal p-values", Annals of Statistics
2023; Vovk, "Conditional validity of inductive conformal predictors", ACML 2012.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincc, betaincinv

from snojoe.measures.metrics import FloatArray


def conformal_rank(n: int, accept: float = 0.95, confidence: float | None = None) -> int:
    """The rank k of the threshold among n calibration scores, the lowest being the first.

    Parameters
    ----------
    n : int
    accept : float in (0, 1]
        Share of new in-distribution images that are to be accepted.
    confidence : float in (0, 1), optional
        None: accepted on average over calibration sets, k = floor((1 - accept) (n + 1)). Else: at
        least that share with this probability over calibration sets, the largest k with
        P(Beta(n + 1 - k, k) >= accept) >= confidence.

    Returns
    -------
    int
        0 where n is too small for any threshold to promise that.

    Raises
    ------
    ValueError
        If a share is out of its range.
    """
    if not 0 < accept <= 1:
        raise ValueError(f"accept must be in (0, 1], got {accept!r}")
    # 0.05 (n + 1) of n = 59 is 3.0000000000000027 or 2.9999999999999996, as it is computed.
    average = int(np.floor((1 - accept) * (n + 1) + 1e-9))
    if confidence is None:
        return average
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence!r}")
    ranks = np.arange(1, n + 1)
    promised = betaincc(n + 1 - ranks, ranks, accept) >= confidence
    return int(np.count_nonzero(promised))  # which falls with k


def least_images(accept: float = 0.95, confidence: float | None = None) -> int:
    """The number of calibration images from which on `conformal_rank` is not 0."""
    if accept == 1:
        raise ValueError("no number of images promises that all are accepted")
    if confidence is None:
        return int(np.ceil(1 / (1 - accept) - 1e-9)) - 1
    return int(np.ceil(np.log(1 - confidence) / np.log(accept) - 1e-9))


def accepted_interval(n: int, rank: int, confidence: float = 0.95) -> tuple[float, float]:
    """Within which share of new images a threshold of this rank accepts, over calibration sets."""
    if not rank:
        return 1.0, 1.0
    tail = (1 - confidence) / 2
    low, high = betaincinv(n + 1 - rank, rank, [tail, 1 - tail])
    return float(low), float(high)


def p_values(calibration: ArrayLike, scores: ArrayLike) -> FloatArray:
    """Conformal p-values of the hypothesis that an image is in-distribution.

    p = (1 + number of calibration scores <= s) / (n + 1), for which P(p <= alpha) <= alpha.

    Parameters
    ----------
    calibration : (n,) array
    scores : (m,) array
        Higher = more in-distribution.

    Returns
    -------
    (m,) float64
    """
    ordered = np.sort(np.asarray(calibration, np.float64))
    below = np.searchsorted(ordered, np.asarray(scores, np.float64), side="right")
    return (1 + below) / (len(ordered) + 1)


def benjamini_hochberg(p: ArrayLike, fdr: float) -> NDArray[np.bool_]:
    """Which hypotheses are rejected so that of those on average at most `fdr` are false alarms.

    Benjamini and Hochberg, JRSS B 1995; that it holds for conformal p-values of one calibration
    set, which depend on one another, is theorem 2 of Bates et al. 2023.

    Parameters
    ----------
    p : (m,) array
        p-values.
    fdr : float in (0, 1)

    Returns
    -------
    (m,) bool
    """
    if not 0 < fdr < 1:
        raise ValueError(f"fdr must be in (0, 1), got {fdr!r}")
    values = np.asarray(p, np.float64)
    m = len(values)
    passed = np.flatnonzero(np.sort(values) <= fdr * np.arange(1, m + 1) / m)
    return values <= fdr * (passed[-1] + 1) / m if len(passed) else np.zeros(m, bool)


def share_interval(count: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share of which `count` of n were seen, as fractions."""
    tail = (1 - confidence) / 2
    low = betaincinv(count, n - count + 1, tail) if count else 0.0
    high = betaincinv(count + 1, n - count, 1 - tail) if count < n else 1.0
    return float(low), float(high)
