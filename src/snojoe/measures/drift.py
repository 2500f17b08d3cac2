"""Whether images are still like those that a threshold is calibrated on, by their p-values alone.

Conformal p-values are ranks: with n calibration scores that of a new image is (1 + r) / (n + 1), r
of them being as low. All new images are compared with the same n, so that their p-values depend on
one another and scatter more than independent ones around their uniform distribution: a test against
that alone takes the draw of the calibration images for drift. What is exact is to ask whether the n
calibration and the m new scores are exchangeable. Then every order of the n + m is equally likely,
whatever the score (ties have probability 0), and of this order the ranks r are all that counts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import betabinom, fisher_exact, ks_2samp

from snojoe.measures.metrics import FloatArray


def flagged_interval(m: int, n: int, rank: int, confidence: float = 0.95) -> tuple[int, int]:
    """Within which number of m new images a threshold at this calibration score flags, both ends.

    The number with a score below the k-th lowest of n is BetaBinomial(m, k, n + 1 - k) distributed:
    Marques F., "Universal distribution of the empirical coverage in split conformal prediction",
    arXiv:2303.02770. For many images its share tends to `snojoe.measures.conformal`'s Beta
    distribution.

    Parameters
    ----------
    m, n : int
        Number of new and of calibration images.
    rank : int
        k, from 1 to n.
    confidence : float in (0, 1)
    """
    tail = (1 - confidence) / 2
    flagged = betabinom(m, rank, n + 1 - rank)
    return int(flagged.ppf(tail)), int(flagged.ppf(1 - tail))


def flagged_test(flagged: int, m: int, n: int, rank: int) -> float:
    """p-value of so many flagged among m images, or a number as far out on the other side."""
    known = betabinom(m, rank, n + 1 - rank)
    return min(1.0, 2 * float(min(known.cdf(flagged), known.sf(flagged - 1))))


def uniformity_test(ranks: ArrayLike, n: int) -> tuple[float, float]:
    """Whether conformal p-values are as uniform as those of new in-distribution images are.

    Kolmogorov and Smirnov's test of two samples, the scores of the new and of the calibration
    images, of which it needs the order alone. Its distribution is exact up to 10,000 images of
    each: Hodges, "The significance probability of the Smirnov two-sample test", Arkiv för
    Matematik 1958.

    Parameters
    ----------
    ranks : (m,) int array
        Number of calibration scores that are at most as high as each image's: (n + 1) p - 1.
    n : int
        Number of calibration images.

    Returns
    -------
    distance : float
        The largest difference of their distribution functions.
    p : float
    """
    new = np.asarray(ranks, np.float64) + 0.5  # between the calibration scores that it lies between
    calibration = np.arange(1.0, n + 1)
    found = ks_2samp(new, calibration)
    return float(found.statistic), float(found.pvalue)


def histogram_interval(m: int, n: int, bins: int, confidence: float = 0.95) -> FloatArray:
    """Within which number of m new images' p-values lie in each of as many equal parts of [0, 1].

    Returns
    -------
    (bins, 2) float64
        For each bin by itself; the number in a bin that b of the n + 1 possible p-values lie in is
        BetaBinomial(m, b, n + 1 - b) distributed.
    """
    tail = (1 - confidence) / 2
    possible = np.histogram(np.arange(1, n + 2) / (n + 1), bins, range=(0, 1))[0]
    counts = [betabinom(m, b, n + 1 - b).ppf([tail, 1 - tail]) for b in possible]
    return np.array(counts, np.float64)


def label_test(count: int, m: int, reference: int, of: int) -> float:
    """Fisher's exact p-value of a label on `count` of m images where `reference` of `of` had it."""
    table: NDArray[np.int64] = np.array([[count, m - count], [reference, of - reference]])
    return float(fisher_exact(table).pvalue)
