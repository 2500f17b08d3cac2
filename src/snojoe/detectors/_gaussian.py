"""Class-conditional Gaussians with one shared covariance, for the Mahalanobis family."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import lapack, solve_triangular
from sklearn.utils import check_array, check_consistent_length
from threadpoolctl import threadpool_limits

from snojoe.measures.metrics import FloatArray


class TiedGaussians:
    """Means and one shared covariance, an image counting once for each of its labels.

    The covariance is the maximum-likelihood estimate, pooled over all (image, label) pairs around
    the class means. Where it is singular (fewer images than dimensions, a dead feature), its
    pseudo-inverse is the precision, as in scikit-learn's `EmpiricalCovariance`: directions without
    variance are ignored. Else a Cholesky factor gives the same at a tenth of the cost.

    Parameters
    ----------
    X : (n, d) float64 array
    labels : (n, K) float64 array of 0 and 1
        A class without a positive has no Gaussian.
    """

    def __init__(self, X: FloatArray, labels: FloatArray) -> None:
        counts = labels.sum(axis=0)
        labels, counts = labels[:, counts > 0], counts[counts > 0]
        self.centre = X.mean(axis=0)
        X = X - self.centre
        means = labels.T @ X / counts[:, None]
        # sum over pairs of (x - mu)(x - mu)^T in one product: x counts as often as it has labels
        within = X * np.sqrt(labels.sum(axis=1))[:, None]
        between = means * np.sqrt(counts)[:, None]
        total = within.T @ within
        floor = len(total) * np.finfo(np.float64).eps * total.diagonal().max() / counts.sum()
        covariance = (total - between.T @ between) / counts.sum()
        self.whitener = _whitener(covariance, floor)
        self.means = means @ self.whitener

    def distances(self, X: FloatArray) -> FloatArray:
        """Squared Mahalanobis distances (x - mu_k)^T P (x - mu_k): (n, d) -> (n, K)."""
        white = (X - self.centre) @ self.whitener
        squares = np.sum(white**2, axis=1)[:, None] + np.sum(self.means**2, axis=1)
        return np.maximum(squares - 2 * white @ self.means.T, 0)


def _whitener(covariance: FloatArray, floor: float) -> FloatArray:
    """A factor A of the (pseudo-)inverse, A A^T = P.

    A variance up to `floor` is taken for rounding error of none.
    """
    norm = np.linalg.norm(covariance, 1)
    try:
        # OpenBLAS's threads wait for each other here: twenty times slower beside another process.
        with threadpool_limits(1, user_api="blas"):
            factor = np.linalg.cholesky(covariance)
        rcond, _ = lapack.dpocon(factor, norm, uplo="L")
        if rcond * norm > floor:
            return solve_triangular(factor, np.eye(len(covariance)), lower=True).T
    except np.linalg.LinAlgError:
        pass
    variances, directions = np.linalg.eigh(covariance)
    kept = variances > floor
    return directions[:, kept] / np.sqrt(variances[kept])


def label_matrix(y: ArrayLike | None, n: int) -> FloatArray:
    """`y` as an (n, K) float64 label matrix.

    None is one class, a 1-d `y` class ids, a 2-d `y` a label matrix already.

    Raises
    ------
    ValueError
        Where `y` has another length, entries other than 0 and 1, or no positive at all.
    """
    if y is None:
        return np.ones((n, 1))
    y_array: NDArray[np.generic] = check_array(y, dtype=None, ensure_2d=False, input_name="y")
    check_consistent_length(np.empty(n), y_array)
    if y_array.ndim == 1:
        return (y_array[:, None] == np.unique(y_array)).astype(np.float64)
    if not np.isin(y_array, (0, 1)).all():
        other = y_array[~np.isin(y_array, (0, 1))][0]
        raise ValueError(f"y must hold 0 and 1 only where it is a label matrix, got {other}")
    if not np.any(y_array):
        raise ValueError("y must have a positive, got a label matrix of zeros")
    return y_array.astype(np.float64)
