"""Which rows of a table rank where over several OOD sets, and how sure that is."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from scipy.linalg import block_diag
from scipy.stats import rankdata

from snojoe.measures.estimates import Estimate, joint_covariances
from snojoe.measures.metrics import FloatArray
from snojoe.measures.variances import covariances

Row = TypeVar("Row", bound=Hashable)

DRAWS = 2000


class MeanRank(NamedTuple):
    """The mean rank of a row over OOD sets, 1 being the best, and its 95% interval.

    The interval is NaN where nothing is known of the images' variance.
    """

    rank: float
    low: float
    high: float


def mean_ranks(
    sets: Sequence[Mapping[Row, Estimate]], *, draws: int = DRAWS, seed: int = 0
) -> dict[Row, MeanRank]:
    """Rank rows by a metric of which more is better, in each set, and take the means.

    New trainings and new images would give other values: these are drawn from the normal
    distribution with the covariance of all values, of which rows share trainings and images and
    sets share trainings and ID images. The interval has 95% of the mean ranks of `draws` of them.
    With three trainings their part of the covariance is itself vague.

    Parameters
    ----------
    sets : sequence of mapping
        For each OOD set, row -> estimate; the same rows, seeds and ID images in all.
    """
    rows = list(sets[0])
    cells = [found[row] for found in sets for row in rows]
    shape = len(sets), len(rows)
    values = np.array([cell.value for cell in cells])
    means = _ranks(values.reshape(shape)).mean(axis=0)
    roots = _root(_covariance(sets, cells))
    if roots is None:
        return {row: MeanRank(rank, np.nan, np.nan) for row, rank in zip(rows, means, strict=True)}
    normal = np.random.default_rng(seed).standard_normal((draws, len(cells)))
    drawn = _ranks((values + normal @ roots.T).reshape(draws, *shape)).mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    ends = zip(rows, means, low, high, strict=True)
    return {row: MeanRank(*map(float, found)) for row, *found in ends}


def _ranks(values: FloatArray) -> FloatArray:
    return rankdata(-values, axis=-1)


def _covariance(sets: Sequence[Mapping[Row, Estimate]], cells: Sequence[Estimate]) -> FloatArray:
    first = cells[0]
    shared = covariances(
        np.stack([cell.per_seed for cell in cells]),
        np.stack([cell.id_influence for cell in cells]),
        np.zeros((len(cells), first.seeds, first.ood_clusters.n)),
        first.id_clusters,
        first.ood_clusters,
    )
    own = [joint_covariances(list(found.values())).of_images[1].clustered for found in sets]
    return shared.of_seeds + shared.of_images[0].clustered + block_diag(*own)


def _root(covariance: FloatArray) -> FloatArray | None:
    """A with A A' = covariance, but for the negative variances that crossed clusters can give."""
    if not np.isfinite(covariance).all():
        return None
    variances, directions = np.linalg.eigh(covariance)
    return directions * np.sqrt(np.maximum(variances, 0))
