"""Many comparisons at once: Holm's correction, and the rows of a table to set in bold."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from snojoe.measures.estimates import Estimate, Row, joint_covariances
from snojoe.measures.metrics import FloatArray
from snojoe.measures.ood_metrics import Metric
from snojoe.measures.variances import Covariances

DRAWS = 20_000
_BLOCK = 2_000  # draws at once


def holm(p_values: ArrayLike) -> FloatArray:
    """Holm's step-down correction for (k,) p-values; NaN (no test) stays NaN and counts as none.

    Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p_values, kind="stable")  # NaN last
    tests = np.count_nonzero(~np.isnan(p_values))
    factors = np.maximum(tests - np.arange(p_values.size), 1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1)
    return adjusted


def bold_rows(column: Mapping[Row, Estimate], metric: Metric, level: float = 0.05) -> set[Row]:
    """Rows of a table column to set in bold: the best, and what is not shown to be worse than it.

    All rows are compared with the best (Hsu, "Constrained simultaneous confidence intervals for
    multiple comparisons with the best", 1984), which the data have chosen: so the promise is for
    all pairs. Of rows that are equal none loses bold in 1 - `level` of all tables. Each pair has
    its own variance and degrees of freedom, its p-value is turned into a normal deviate, and the
    largest of all pairs is judged under their joint normal distribution.

    Parameters
    ----------
    column : mapping from row names to `Estimate`
        Of one metric, on the same seeds and images.
    metric : Metric
    level : float, default 0.05
    """
    rows = list(column)
    values = np.array([column[row].value for row in rows])
    best = int(np.argmax(values) if metric.better == "higher" else np.argmin(values))
    joint = joint_covariances(list(column.values()))
    pairs = np.array(list(combinations(range(len(rows)), 2)), np.intp).reshape(-1, 2)
    weights = np.zeros((len(pairs), len(rows)))
    weights[np.arange(len(pairs)), pairs[:, 0]] = 1
    weights[np.arange(len(pairs)), pairs[:, 1]] = -1
    p_values = joint.of(weights).p_values(weights @ values)
    known = ~np.isnan(p_values)
    deviates = np.zeros(len(pairs))  # identical rows, or no known variance: not shown to be worse
    deviates[known] = -ndtri(np.maximum(p_values[known], 1e-300) / 2)
    to_best = (pairs == best).any(axis=1)
    limit = _limit(joint, weights[known], deviates[to_best], level)
    worse = pairs[to_best & (deviates > limit)]
    return {row for index, row in enumerate(rows) if index == best or index not in worse}


def _limit(joint: Covariances, weights: FloatArray, deviates: FloatArray, level: float) -> float:
    """Quantile of the largest of the pairs' deviates under their joint normal distribution.

    The correlation is that over images, of which there are many. That over a few seeds would be of
    low rank, and too small a limit follow: their part is taken as independent rows of one variance,
    the usual assumption where all pairs are compared (Tukey). The limit lies between the quantile
    of one comparison and Bonferroni's: simulated only where that decides, from `DRAWS` draws of
    fixed seed.
    """
    one, all_pairs = -ndtri(level / 2), -ndtri(level / 2 / max(len(weights), 1))
    if not ((deviates > one) & (deviates <= all_pairs)).any():
        return all_pairs
    over_images = joint.of_images[0].clustered + joint.of_images[1].clustered
    of_pair = np.einsum("pr,pr->p", weights @ joint.of_seeds, weights).mean()
    eigenvalues, vectors = np.linalg.eigh(over_images + np.eye(len(over_images)) * of_pair / 2)
    root = weights @ (vectors * np.sqrt(np.maximum(eigenvalues, 0)))
    norms = np.linalg.norm(root, axis=1, keepdims=True)
    root = np.divide(root, norms, out=np.zeros_like(root), where=norms > 0)
    generator = np.random.default_rng(0)
    largest = [
        np.abs(root @ generator.standard_normal((root.shape[1], _BLOCK))).max(axis=0)
        for _ in range(DRAWS // _BLOCK)
    ]
    return min(float(np.quantile(largest, 1 - level)), all_pairs)
