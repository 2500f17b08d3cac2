"""The variance of a mean over trainings and images, where new ones of both are meant.

The model is that of readers and cases in radiology, both random: Obuchowski and Rockette,
"Hypothesis testing of diagnostic accuracy for multiple readers and multiple tests", 1995, and
Hillis, "A comparison of denominator degrees of freedom methods for multiple observer ROC analysis",
2007. Seeds are the readers, images the cases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

from snojoe.measures.clusters import Clusters
from snojoe.measures.metrics import FloatArray

NO_VARIANCE = 1e-18
"""Below this a variance is one of rounding: fractions of countable images vary by more."""


class Variances(NamedTuple):
    """Of p means: V = V_seeds + V_images, and how well each part is known.

    Attributes
    ----------
    total : (p,) float64 array
        V; NaN where it cannot be known, 0 where nothing varies.
    share_of_seeds : (p,) float64 array
        V_seeds / V, in [0, 1]; with two seeds 1, whose variance says next to nothing.
    df_of_seeds : int
        Number of seeds less one.
    df_of_images : (p,) float64 array
    """

    total: FloatArray
    share_of_seeds: FloatArray
    df_of_seeds: int
    df_of_images: FloatArray

    def p_values(self, differences: FloatArray) -> FloatArray:
        """Two-sided p-values of (p,) means being 0; NaN where V is 0 or unknown.

        The p-values of Student's t with the degrees of freedom of seeds and with those of images,
        weighted by their shares of V, as Cochran and Cox ("Experimental designs", 1950) weight the
        critical values of two t distributions. One t with Satterthwaite's degrees of freedom, which
        Hillis takes, rejects up to 8% at the 5% level with three seeds: where S^2 happens to be
        small, these are many.
        """
        known = self.total > 0
        root = np.sqrt(self.total, out=np.full_like(self.total, np.nan), where=known)
        return self._tails(np.abs(differences) / root)

    def quantile(self, level: float) -> FloatArray:
        """How many sqrt(V) an interval of `level` reaches to each side: (p,), NaN if unknown."""
        low, high = np.zeros_like(self.total), np.full_like(self.total, 1.0)
        for df in (self.df_of_images, max(self.df_of_seeds, 1)):
            high = np.fmax(high, stdtrit(df, (1 + level) / 2))
        for _ in range(45):  # halved to 1e-12 of itself
            middle = (low + high) / 2
            inside = self._tails(middle) > 1 - level
            low, high = np.where(inside, middle, low), np.where(inside, high, middle)
        return np.where(np.isnan(self.total), np.nan, high)

    def _tails(self, t: FloatArray) -> FloatArray:
        if self.df_of_seeds == 0:
            return 2 * stdtr(self.df_of_images, -t)
        share = self.share_of_seeds
        seeds, images = (stdtr(df, -t) for df in (self.df_of_seeds, self.df_of_images))
        return 2 * (share * seeds + (1 - share) * images)


class ImageCovariance(NamedTuple):
    """What ID, or OOD, images contribute to the covariance of the means of r rows.

    Attributes
    ----------
    clustered, independent : (r, r) float64 arrays
        With the clusters, and as if images were independent.
    df : float
    """

    clustered: FloatArray
    independent: FloatArray
    df: float


@dataclass(frozen=True, eq=False)
class Covariances:
    """Covariance of the means over seeds of r rows of a table, in its parts.

    Attributes
    ----------
    seeds : int
    of_seeds : (r, r) float64 array
        Sample covariance of the values per seed, over the number of seeds; 0 with one seed.
    of_images : tuple of two ImageCovariance
        Of ID and of OOD images; with several seeds the mean over pairs of different seeds.
    """

    seeds: int
    of_seeds: FloatArray
    of_images: tuple[ImageCovariance, ImageCovariance]

    def of(self, weights: FloatArray) -> Variances:
        """Variances of p linear combinations of the rows.

        V = S^2 / s + max(C_id + C_ood, 0), each C at least that of independent images: that of
        crossed clusters can come out negative.

        Parameters
        ----------
        weights : (p, r) float64 array
        """

        def form(matrix: FloatArray) -> FloatArray:
            return np.einsum("pr,pr->p", weights @ matrix, weights)

        of_seeds = form(self.of_seeds)
        parts = np.stack(
            [np.fmax(form(part.clustered), form(part.independent)) for part in self.of_images]
        )
        total = of_seeds + np.maximum(parts.sum(axis=0), 0)
        total[total < NO_VARIANCE] = 0
        known = total > 0
        if self.seeds == 2:
            share = np.ones_like(total)
        else:
            share = np.divide(of_seeds, total, out=np.zeros_like(total), where=known)
        df = np.array([[part.df] for part in self.of_images])
        if (df <= 0).any():
            total[:] = np.nan
            return Variances(total, share, self.seeds - 1, np.full_like(total, np.nan))
        spread = (parts**2 / df).sum(axis=0)
        over_images = np.full_like(total, df.min())
        np.divide(np.abs(parts).sum(axis=0) ** 2, spread, out=over_images, where=spread > 0)
        return Variances(total, share, self.seeds - 1, over_images)


def covariances(
    values: FloatArray,
    id_influence: FloatArray,
    ood_influence: FloatArray,
    id_clusters: Clusters,
    ood_clusters: Clusters,
) -> Covariances:
    """Covariance of the means over seeds of r rows.

    Parameters
    ----------
    values : (r, s) float64 array
        Metric of each row and seed.
    id_influence, ood_influence : (r, s, n) and (r, s, m) float64 arrays
        See `snojoe.measures.influence`.
    id_clusters, ood_clusters : Clusters
        Of the n and of the m images.
    """
    seeds = values.shape[1]
    with np.errstate(invalid="ignore"):  # the logarithm of a reduction to zero
        centred = values - values.mean(axis=1, keepdims=True)
    of_seeds = centred @ centred.T / (max(seeds - 1, 1) * seeds)
    parts = (
        _over_images(id_influence, id_clusters),
        _over_images(ood_influence, ood_clusters),
    )
    return Covariances(seeds, of_seeds, parts)


def _over_images(psi: FloatArray, clusters: Clusters) -> ImageCovariance:
    clustered = _between_seeds(psi, clusters)
    if not clusters.signs.size:
        return ImageCovariance(clustered, clustered, clusters.df)
    independent = _between_seeds(psi, Clusters.independent(clusters.n))
    return ImageCovariance(clustered, independent, clusters.df)


def _between_seeds(psi: FloatArray, clusters: Clusters) -> FloatArray:
    """(r, s, n) influences -> (r, r), mean over pairs of different seeds of their covariance.

    With one seed its covariance: nothing then tells the share of the training.
    """
    seeds = psi.shape[1]
    of_sum = clusters.covariance_of_means(psi.sum(axis=1))
    if seeds == 1:
        return of_sum
    within = [clusters.covariance_of_means(psi[:, seed]) for seed in range(seeds)]
    return (of_sum - np.sum(within, axis=0)) / (seeds * (seeds - 1))
