"""Is a difference real? A paired t-test over seeds, a paired bootstrap over images, and Holm.

Seeds answer for the training, images for the test sets. All metrics are those of `metrics`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr

from snojoe.measures.metrics import FloatArray, check_scores, count_at_tpr
from snojoe.measures.ood_metrics import OOD_METRICS, Metric
from snojoe.support.progress import progress

FEWEST_SEEDS = 5
"""Below this many pairs a t-test says little, and its p-value carries a note."""

Method = TypeVar("Method", bound=Hashable)
"""What a row of a table is called: a score, or a depth of spectral normalisation."""

_BLOCK = 32  # resamples at once: their counts stay in the processor's cache


@dataclass(frozen=True)
class PairedTTest:
    """Outcome of `paired_t_test`.

    Attributes
    ----------
    n : int
        Number of pairs.
    mean_difference : float
    effect_size : float
        Cohen's d_z, the mean difference over its standard deviation; NaN where that is 0 or n < 2.
    p_value : float
        Two-sided; NaN where `effect_size` is.
    """

    n: int
    mean_difference: float
    effect_size: float
    p_value: float

    @property
    def note(self) -> str:
        """What a reader must know beside the p-value; empty from five seeds on."""
        if np.isnan(self.p_value):
            return f"n = {self.n}: no variance to test against"
        return f"n = {self.n} < {FEWEST_SEEDS}: weak evidence" if self.n < FEWEST_SEEDS else ""


def paired_t_test(first: ArrayLike, second: ArrayLike) -> PairedTTest:
    """Student's t-test of the mean of `first` - `second`, paired over seeds.

    Parameters
    ----------
    first, second : (n,) arrays
        A metric of two methods, one value per seed, in the order of the seeds.

    Raises
    ------
    ValueError
        For empty, non-finite or not one-dimensional values, or lengths that differ.
    """
    first, second = check_scores("first", first), check_scores("second", second)
    if first.size != second.size:
        raise ValueError(f"first and second must be pairs, got {first.size} and {second.size}")
    difference = first - second
    n, mean = difference.size, float(difference.mean())
    deviation = float(difference.std(ddof=1)) if n > 1 else 0.0
    if deviation <= 1e-12 * np.abs(difference).max():  # all equal, but for rounding
        return PairedTTest(n, mean, np.nan, np.nan)
    effect_size = mean / deviation
    p_value = 2 * float(stdtr(n - 1, -abs(effect_size) * np.sqrt(n)))
    return PairedTTest(n, mean, effect_size, p_value)


@dataclass(frozen=True)
class Bootstrap:
    """A statistic of the images and its values in resamples of them.

    Two of them are paired where they come from resamples of the same images (one call of
    `bootstrap_metrics`, or the same seed and numbers of images); then their difference is too.
    """

    estimate: float
    replicates: FloatArray

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Percentile interval (low, high), over the replicates that are defined."""
        if np.isnan(self.replicates).all():
            return np.nan, np.nan
        low, high = np.nanquantile(self.replicates, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def p_value(self) -> float:
        """Two-sided p-value of the statistic being 0, in (0, 1]."""
        side = min(np.sum(self.replicates <= 0), np.sum(self.replicates >= 0))
        return min(1.0, 2 * float(side + 1) / (self.replicates.size + 1))

    def __sub__(self, other: Bootstrap) -> Bootstrap:
        return Bootstrap(self.estimate - other.estimate, self.replicates - other.replicates)

    def relative_reduction(self, baseline: Bootstrap) -> Bootstrap:
        """1 - self / baseline, the paper's "cut of FPR95"; NaN where the baseline is 0."""
        return Bootstrap(
            float(_reduction(np.array(self.estimate), np.array(baseline.estimate))),
            _reduction(self.replicates, baseline.replicates),
        )


def bootstrap_metrics(
    id_scores: Mapping[Method, ArrayLike],
    ood_scores: Mapping[Method, ArrayLike],
    *,
    n_resamples: int = 2000,
    seed: int = 0,
) -> dict[Method, dict[str, Bootstrap]]:
    """Paired bootstrap over images of FPR95, AUROC and AUPR, means over seeds.

    ID and OOD images are resampled with replacement, each set to its own size; a resample of images
    is shared by all scores and seeds. The resamples of the ID images depend on `seed` alone, so
    they are shared by calls for several OOD sets.

    Parameters
    ----------
    id_scores : mapping from the name of a row to an (n,) or (seeds, n) array
        Scores of the same n images in every row, higher = more in-distribution.
    ood_scores : mapping from the same names to (m,) or (seeds, m) arrays
    n_resamples : int, default 2000
    seed : int, default 0
        Of the resampling.

    Returns
    -------
    dict
        ``[row][metric]``, metric one of ``fpr95``, ``auroc``, ``aupr``, as fractions.

    Raises
    ------
    ValueError
        For names, numbers of images or numbers of seeds that differ, no row at all, scores that
        `snojoe.measures.metrics` refuses, and `n_resamples` below 1.
    """
    if id_scores.keys() != ood_scores.keys() or not id_scores:
        raise ValueError(
            "id_scores and ood_scores must name the same rows, "
            f"got {sorted(map(str, id_scores))} and {sorted(map(str, ood_scores))}"
        )
    if n_resamples < 1:
        raise ValueError(f"n_resamples must be at least 1, got {n_resamples!r}")
    id_rows, n = _rows("id_scores", id_scores)
    ood_rows, m = _rows("ood_scores", ood_scores)
    pairs = {name: _paired_seeds(name, id_rows[name], ood_rows[name]) for name in id_rows}
    rankings = {name: [_Ranking(*seed) for seed in seeds] for name, seeds in pairs.items()}
    replicates = {name: np.empty((n_resamples, len(OOD_METRICS))) for name in pairs}
    blocks = -(-n_resamples // _BLOCK)
    for block, id_counts, ood_counts in progress(
        _resamples(n, m, n_resamples, seed), total=blocks, desc="intervals", unit="block"
    ):
        for name, seeds in rankings.items():
            values = [ranking.metrics(id_counts, ood_counts) for ranking in seeds]
            replicates[name][block] = np.mean(values, axis=0)
    return {
        name: {
            metric.name: Bootstrap(
                float(np.mean([metric.of(*scores) for scores in pairs[name]])), values[:, column]
            )
            for column, metric in enumerate(OOD_METRICS)
        }
        for name, values in replicates.items()
    }


def resample_counts(n: int, n_resamples: int, generator: np.random.Generator) -> NDArray[np.int32]:
    """How often each of n images is drawn in n draws: (n_resamples, n), rows sum to n."""
    draws = generator.integers(n, size=(n_resamples, n)) + n * np.arange(n_resamples)[:, None]
    counts = np.bincount(draws.ravel(), minlength=n_resamples * n)
    return counts.reshape(n_resamples, n).astype(np.int32)


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


def bold_rows(
    column: Mapping[Method, Bootstrap], metric: Metric, level: float = 0.05
) -> set[Method]:
    """Rows of a table column to set in bold: the best, and what is not separated from it.

    A row is separated where the Holm-corrected p-value of its paired bootstrap difference to the
    best row is below `level`. With B resamples no p-value is below 2 / (B + 1): 2,000 resamples can
    separate at most 50 rows at the 5% level.

    Parameters
    ----------
    column : mapping from row names to paired `Bootstrap`s of one metric
    metric : Metric
    """
    pick = max if metric.better == "higher" else min
    best = pick(column, key=lambda row: column[row].estimate)
    others = [row for row in column if row != best]
    adjusted = holm([(column[best] - column[row]).p_value() for row in others])
    return {best, *(row for row, p in zip(others, adjusted, strict=True) if p >= level)}


class _Ranking:
    """Scores sorted once: the metrics of any resample are then sums over its counts."""

    def __init__(self, id_scores: FloatArray, ood_scores: FloatArray) -> None:
        self.id_order = np.argsort(-id_scores, kind="stable")
        self.ood_order = np.argsort(-ood_scores, kind="stable")
        ranked = id_scores[self.id_order]
        self.last_of_tie = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
        thresholds, ascending = ranked[self.last_of_tie], ood_scores[self.ood_order[::-1]]
        self.accepted_ood = ood_scores.size - np.searchsorted(ascending, thresholds, "left")
        self.above_ood = ood_scores.size - np.searchsorted(ascending, thresholds, "right")

    def metrics(self, id_counts: NDArray[np.int32], ood_counts: NDArray[np.int32]) -> FloatArray:
        """`OOD_METRICS`, in order, of resamples: counts (b, n) and (b, m) -> (b, 3)."""
        n, m = id_counts.shape[1], ood_counts.shape[1]
        # Of every distinct ID score as a threshold, from the highest down: how many are accepted.
        true = _cumulated(id_counts, self.id_order).take(self.last_of_tie + 1, axis=1)
        ood = _cumulated(ood_counts, self.ood_order)
        false, above = ood.take(self.accepted_ood, axis=1), ood.take(self.above_ood, axis=1)
        hits = np.diff(true, axis=1, prepend=0)
        precision = true / np.maximum(true + false, 1)
        first = np.argmax(true >= count_at_tpr(n, 0.95), axis=1)
        fpr = np.take_along_axis(false, first[:, None], axis=1)[:, 0] / m
        area = 1 - np.einsum("ij,ij->i", hits, false + above, dtype=np.float64) / (2 * n * m)
        return np.stack([fpr, area, np.einsum("ij,ij->i", hits, precision) / n], axis=1)


def _cumulated(counts: NDArray[np.int32], order: NDArray[np.intp]) -> NDArray[np.int32]:
    """Sums of the first 0, 1, ..., n counts in `order`: (b, n) -> (b, n + 1)."""
    sums = np.zeros((counts.shape[0], counts.shape[1] + 1), np.int32)
    np.cumsum(counts.take(order, axis=1), axis=1, out=sums[:, 1:])
    return sums


def _resamples(
    n: int, m: int, n_resamples: int, seed: int
) -> Iterator[tuple[slice, NDArray[np.int32], NDArray[np.int32]]]:
    id_generator, ood_generator = np.random.default_rng(seed).spawn(2)
    for start in range(0, n_resamples, _BLOCK):
        size = min(_BLOCK, n_resamples - start)
        id_counts = resample_counts(n, size, id_generator)
        ood_counts = resample_counts(m, size, ood_generator)
        yield slice(start, start + size), id_counts, ood_counts


def _rows(
    argument: str, scores: Mapping[Method, ArrayLike]
) -> tuple[dict[Method, list[FloatArray]], int]:
    rows = {
        name: [check_scores(f"{argument}[{name!r}]", seed) for seed in np.atleast_2d(array)]
        for name, array in scores.items()
    }
    sizes = {name: seeds[0].size for name, seeds in rows.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"{argument} must be of the same images in every row, got {sizes}")
    return rows, next(iter(sizes.values()))


def _paired_seeds(
    name: Hashable, id_seeds: list[FloatArray], ood_seeds: list[FloatArray]
) -> list[tuple[FloatArray, FloatArray]]:
    if len(id_seeds) != len(ood_seeds):
        raise ValueError(
            f"{name!r} has {len(id_seeds)} seeds in id_scores, {len(ood_seeds)} in ood_scores"
        )
    return list(zip(id_seeds, ood_seeds, strict=True))


def _reduction(value: FloatArray, baseline: FloatArray) -> FloatArray:
    return 1 - np.divide(value, baseline, out=np.full_like(value, np.nan), where=baseline != 0)
