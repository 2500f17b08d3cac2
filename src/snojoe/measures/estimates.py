"""How sure is a metric, for new trainings and new images? Its interval and its p-value."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from snojoe.measures.clusters import Clusters
from snojoe.measures.influence import influence
from snojoe.measures.metrics import FloatArray, check_scores
from snojoe.measures.ood_metrics import OOD_METRICS
from snojoe.measures.variances import Covariances, Variances, covariances

Row = TypeVar("Row", bound=Hashable)
"""What a row of a table is called: a score, or a depth of spectral normalisation."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """A metric of one row of a table, or a difference or ratio of two, on seeds and images.

    Attributes
    ----------
    per_seed : (s,) float64 array
        Values of the metric; of a relative reduction, of the logarithm of the ratio.
    id_influence, ood_influence : (s, n) and (s, m) float64 arrays
        See `snojoe.measures.influence`.
    id_clusters, ood_clusters : Clusters
        Which images are dependent.
    kind : "fraction", "difference" or "reduction"
        What it is, which decides the form of the interval.
    """

    per_seed: FloatArray
    id_influence: FloatArray
    ood_influence: FloatArray
    id_clusters: Clusters
    ood_clusters: Clusters
    kind: Literal["fraction", "difference", "reduction"] = "fraction"

    @property
    def seeds(self) -> int:
        """Number of trainings; with one, all that is said is of this training alone."""
        return self.per_seed.size

    @property
    def value(self) -> float:
        """Mean over seeds; of a reduction 1 - mean / mean."""
        mean = float(self.per_seed.mean())
        return 1 - float(np.exp(mean)) if self.kind == "reduction" else mean

    @property
    def variance(self) -> float:
        """Of the mean over seeds, for new trainings and new images; NaN where it cannot be known.

        S^2 / s + max(C, 0): S^2 the variance of the s values, C the mean over pairs of seeds of
        the covariance over images, that of ID images and that of OOD images added. With one seed C
        is the variance over images, and nothing else is known.
        """
        return float(self._variances.total[0])

    @cached_property
    def _variances(self) -> Variances:
        return joint_covariances([self]).of(np.ones((1, 1)))

    @property
    def effective_images(self) -> tuple[float, float]:
        """How many independent ID and OOD images say as much; NaN where none says anything."""
        parts = (self.id_clusters, self.id_influence), (self.ood_clusters, self.ood_influence)
        effects = [clusters.design_effects(psi.mean(axis=0)[None])[0] for clusters, psi in parts]
        return self.id_clusters.n / float(effects[0]), self.ood_clusters.n / float(effects[1])

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Confidence interval (low, high); NaN where no variance is known.

        Of a difference value -+ t sqrt(V); of a reduction the same of the logarithm of the ratio;
        of a fraction Wilson's (1927) with value (1 - value) / V as the number of images, which
        stays within [0, 1]. Where V is 0, at 0 and 1, that number is the effective one of the
        smaller set.
        """
        if np.isnan(self.variance):
            return np.nan, np.nan
        t = float(self._variances.quantile(level)[0])
        if self.kind == "fraction":
            return self._wilson(t)
        if self.variance == 0 and self.per_seed.any():
            return np.nan, np.nan
        mean, reach = float(self.per_seed.mean()), t * self.variance**0.5
        if self.kind == "reduction":
            return 1 - float(np.exp(mean + reach)), 1 - float(np.exp(mean - reach))
        return mean - reach, mean + reach

    def _wilson(self, t: float) -> tuple[float, float]:
        p, spread = self.value, self.value * (1 - self.value)
        if self.variance == 0 or spread <= 0:
            number = min(self.id_clusters.effective, self.ood_clusters.effective)
        else:
            number = spread / self.variance
        middle = (p + t**2 / (2 * number)) / (1 + t**2 / number)
        reach = t / (1 + t**2 / number) * (spread / number + (t / number) ** 2 / 4) ** 0.5
        low, high = max(0.0, middle - reach), min(1.0, middle + reach)
        return low if p > 0 else 0.0, high if p < 1 else 1.0

    def p_value(self) -> float:
        """Two-sided p-value of a difference, or a reduction, being 0; NaN without a variance."""
        if self.kind == "fraction":
            raise ValueError("a p-value is of a difference, not of a metric itself")
        return float(self._variances.p_values(self.per_seed.mean(keepdims=True))[0])

    def margin(self, level: float = 0.05) -> float:
        """Smallest margin within which two rows are shown to be equal, by two one-sided tests.

        The larger end, in absolute value, of the interval of 1 - 2 `level` (Schuirmann 1987): a
        difference that is "not settled" is at most this. NaN where there is no interval.
        """
        if self.kind != "difference":
            raise ValueError(f"a margin is of a difference, not of a {self.kind}")
        low, high = self.interval(1 - 2 * level)
        return max(abs(low), abs(high))

    def __sub__(self, other: Estimate) -> Estimate:
        """The difference, paired: the same seeds and images in both."""
        self._check_paired(other)
        return Estimate(
            self.per_seed - other.per_seed,
            self.id_influence - other.id_influence,
            self.ood_influence - other.ood_influence,
            self.id_clusters,
            self.ood_clusters,
            "difference",
        )

    def relative_reduction(self, baseline: Estimate) -> Estimate:
        """1 - self / baseline, of the means over seeds: the paper's "cut of FPR95".

        Its variance is that of log(self) - log(baseline), to first order. NaN where the baseline
        is 0; 1 without an interval where only `self` is.
        """
        self._check_paired(baseline)
        mean, base = self.value, baseline.value
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.log(np.divide(mean, base)) if base else np.nan
            per_seed, id_influence, ood_influence = (
                np.divide(ours, mean) - np.divide(theirs, base)
                for ours, theirs in (
                    (self.per_seed, baseline.per_seed),
                    (self.id_influence, baseline.id_influence),
                    (self.ood_influence, baseline.ood_influence),
                )
            )
        if not np.isfinite(ratio):
            per_seed = np.zeros(self.seeds)
            id_influence, ood_influence = id_influence * np.nan, ood_influence * np.nan
        return Estimate(
            ratio + per_seed,
            id_influence,
            ood_influence,
            self.id_clusters,
            self.ood_clusters,
            "reduction",
        )

    def _check_paired(self, other: Estimate) -> None:
        if {self.kind, other.kind} != {"fraction"}:
            raise ValueError(f"both must be a fraction, got a {self.kind} and a {other.kind}")
        shapes = [(row.seeds, row.id_clusters.n, row.ood_clusters.n) for row in (self, other)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                "both must be of the same seeds, ID images and OOD images, "
                f"got {shapes[0]} and {shapes[1]} of them"
            )


def joint_covariances(rows: Sequence[Estimate]) -> Covariances:
    """Covariance of the means of rows, which are of the same seeds, images and clusters."""
    return covariances(
        np.stack([row.per_seed for row in rows]),
        np.stack([row.id_influence for row in rows]),
        np.stack([row.ood_influence for row in rows]),
        rows[0].id_clusters,
        rows[0].ood_clusters,
    )


def estimates(
    id_scores: Mapping[Row, ArrayLike],
    ood_scores: Mapping[Row, ArrayLike],
    id_clusters: Clusters | None = None,
    ood_clusters: Clusters | None = None,
) -> dict[Row, dict[str, Estimate]]:
    """FPR95, AUROC and AUPR of every row of a table against one OOD set.

    Parameters
    ----------
    id_scores : mapping from the name of a row to an (n,) or (seeds, n) array
        Scores of the same n images in every row, higher = more in-distribution.
    ood_scores : mapping from the same names to (m,) or (seeds, m) arrays
    id_clusters, ood_clusters : Clusters, optional
        Of these images; without them images are independent.

    Returns
    -------
    dict
        ``[row][metric]``, metric one of ``fpr95``, ``auroc``, ``aupr``, as fractions.

    Raises
    ------
    ValueError
        For names, numbers of images or numbers of seeds that differ, no row at all, scores that
        `snojoe.measures.metrics` refuses, and clusters of another number of images.
    """
    if id_scores.keys() != ood_scores.keys() or not id_scores:
        raise ValueError(
            "id_scores and ood_scores must name the same rows, "
            f"got {sorted(map(str, id_scores))} and {sorted(map(str, ood_scores))}"
        )
    id_rows, n = _rows("id_scores", id_scores)
    ood_rows, m = _rows("ood_scores", ood_scores)
    clusters = _clusters("id_clusters", id_clusters, n), _clusters("ood_clusters", ood_clusters, m)
    return {row: _of_row(row, id_rows[row], ood_rows[row], clusters) for row in id_rows}


def _of_row(
    row: Hashable,
    id_seeds: list[FloatArray],
    ood_seeds: list[FloatArray],
    clusters: tuple[Clusters, Clusters],
) -> dict[str, Estimate]:
    if len(id_seeds) != len(ood_seeds):
        raise ValueError(
            f"{row!r} has {len(id_seeds)} seeds in id_scores, {len(ood_seeds)} in ood_scores"
        )
    pairs = list(zip(id_seeds, ood_seeds, strict=True))
    of_metric = {}
    for metric in OOD_METRICS:
        id_parts, ood_parts = zip(*(influence(metric, *pair) for pair in pairs), strict=True)
        values = np.array([metric.of(*pair) for pair in pairs])
        of_metric[metric.name] = Estimate(
            values, np.stack(id_parts), np.stack(ood_parts), *clusters
        )
    return of_metric


def _rows(
    argument: str, scores: Mapping[Row, ArrayLike]
) -> tuple[dict[Row, list[FloatArray]], int]:
    rows = {
        name: [check_scores(f"{argument}[{name!r}]", seed) for seed in np.atleast_2d(array)]
        for name, array in scores.items()
    }
    sizes = {name: seeds[0].size for name, seeds in rows.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"{argument} must be of the same images in every row, got {sizes}")
    return rows, next(iter(sizes.values()))


def _clusters(argument: str, clusters: Clusters | None, n: int) -> Clusters:
    if clusters is None:
        return Clusters.independent(n)
    if clusters.n != n:
        raise ValueError(f"{argument} must be of {n} images, got clusters of {clusters.n}")
    return clusters
