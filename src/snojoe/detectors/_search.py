"""The k largest values of x . p over many points p: found in float32, computed in float64.

A product of matrices is twice as fast in float32. Its rounding errors have a bound, so that it
tells which few points can be among the k largest, and only their values are computed exactly.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import gen_batches

from snojoe.measures.metrics import FloatArray

_VALUES = 2**21  # products at a time: 8 MB
_SLABS = 16
_FEW = 1 / 64  # of the points: of more the exact values are one product of matrices

Columns = NDArray[np.intp] | slice
Exact = Callable[[FloatArray, Columns], FloatArray]
"""Queries (m, d) and which c of the points -> their values, (m, c)."""


class Search:
    """Finds the points with the largest x . p - bias for queries x.

    The errors are smaller the smaller queries and points are: what is the same for all points does
    not change their order, and is better taken off before.

    Parameters
    ----------
    points : (n, d) float64 array
    bias : (n,) float64 array
    """

    def __init__(self, points: FloatArray, bias: FloatArray) -> None:
        self.points = points.astype(np.float32)
        self.bias = bias.astype(np.float32)
        self._longest = np.sqrt(squares(points).max())
        self._largest_bias = np.abs(bias).max()

    def largest(self, shifted: FloatArray, k: int, queries: FloatArray, exact: Exact) -> FloatArray:
        """The k largest exact values of each query, in ascending order: (m, d) -> (m, k).

        Parameters
        ----------
        shifted : (m, d) float64 array
            The x of x . p - bias.
        k : int
            From 1 to n.
        queries : (m, d) float64 array
            The same as `exact` takes them.
        exact : callable
            The values of points for queries: in the order of x . p - bias.
        """
        rows = gen_batches(len(queries), max(16, _VALUES // len(self.points)))
        return np.concatenate([self._largest(shifted[r], k, queries[r], exact) for r in rows])

    def _largest(
        self, shifted: FloatArray, k: int, queries: FloatArray, exact: Exact
    ) -> FloatArray:
        values = shifted.astype(np.float32) @ self.points.T
        values -= self.bias
        least = _lower_bound(values, k) - 2 * self._error(shifted)
        found = np.flatnonzero(values >= least.astype(np.float32)[:, None])
        if len(found) > _FEW * values.size:
            return _last(exact(queries, slice(None)), k)
        of_query, columns = np.divmod(found, len(self.points))
        ends = np.searchsorted(of_query, np.arange(1, len(queries)))
        each = zip(queries[:, None], np.split(columns, ends), strict=True)
        return np.concatenate([_last(exact(query, own), k) for query, own in each])

    def _error(self, shifted: FloatArray) -> FloatArray:
        """A bound on the error of each query's values, (m,).

        Of a sum of d products, in any order, it is d u |x| |p| / (1 - d u), u the unit roundoff
        (Higham, "Accuracy and stability of numerical algorithms", 2002, chapter 3). Rounding x, p,
        the bias, the difference and what is compared with them adds at most six more u.
        """
        d = shifted.shape[1]
        rounding = (d + 8) * np.finfo(np.float32).eps / 2
        size = np.sqrt(squares(shifted)) * self._longest
        return rounding / (1 - rounding) * (size + self._largest_bias)


def squares(vectors: FloatArray) -> FloatArray:
    """Squared lengths: (n, d) -> (n,)."""
    return np.einsum("ij,ij->i", vectors, vectors)


def _lower_bound(values: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """At most the k-th largest value of each row, and seldom less: (m, n) -> (m,).

    It is the k-th largest among the maxima of groups of values, of which there are many fewer.
    """
    n = values.shape[1]
    slabs = max(1, min(_SLABS, n // (8 * k)))
    width = n // slabs
    maxima = values[:, :width].copy()
    for start in range(width, slabs * width, width):
        np.maximum(maxima, values[:, start : start + width], out=maxima)
    return np.partition(maxima, width - k, axis=1)[:, width - k]


def _last(values: FloatArray, k: int) -> FloatArray:
    """The k largest of each row, in ascending order."""
    if values.shape[1] > k:
        values = np.partition(values, -k, axis=1)[:, -k:]
    return np.sort(values, axis=1)
