"""``metrics/statistics.json``: intervals, bold rows and tests; percent, rounded.

Every table, the headline and the report say what stands here. docs/statistics.md has what the
figures are.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ValidationError

from snojoe.inference.tuned import Tuning
from snojoe.measures.ood_metrics import FPR95, OOD_METRICS
from snojoe.measures.statistics import (
    FEWEST_SEEDS,
    Bootstrap,
    PairedTTest,
    bold_rows,
    paired_t_test,
)
from snojoe.results.grids import Bootstraps, named_scores
from snojoe.support.errors import SnojoeError
from snojoe.support.files import write_json

LEVEL = 0.05

Interval = tuple[float, float]


class Difference(BaseModel):
    """SNoJoE - JointEnergy in one metric, in points.

    Attributes
    ----------
    difference : float
    interval : (float, float)
        95%, over images.
    p_over_images : float
        By paired bootstrap.
    p_over_seeds, effect_size : float or None
        By paired t-test; None where there is no variance to test against.
    seeds : int
        Number of pairs.
    note : str
        What a reader must know beside `p_over_seeds`; may be empty.
    """

    difference: float
    interval: Interval
    p_over_images: float
    p_over_seeds: float | None
    effect_size: float | None
    seeds: int
    note: str

    @property
    def stands_over_seeds(self) -> bool:
        """Whether `p_over_seeds` is small and stands on enough seeds to be set in bold."""
        p = self.p_over_seeds
        return self.seeds >= FEWEST_SEEDS and p is not None and p < LEVEL


class Reduction(BaseModel):
    """1 - SNoJoE / JointEnergy, in percent; None where JointEnergy's is 0."""

    reduction: float | None
    interval: tuple[float | None, float | None]


class SetStatistics(BaseModel):
    """What is known of one OOD set.

    Attributes
    ----------
    interval : dict of row to dict of metric to (float, float)
        95%, over images; rows by their names in Table 2.
    bold : dict of metric to list of rows
        The best, and what is not separable from it.
    snojoe_minus_joint_energy : dict of metric to Difference
    relative_reduction_of_fpr95 : Reduction
    """

    interval: dict[str, dict[str, Interval]]
    bold: dict[str, list[str]]
    snojoe_minus_joint_energy: dict[str, Difference]
    relative_reduction_of_fpr95: Reduction


class Statistics(BaseModel):
    """The content of the file.

    Attributes
    ----------
    resamples : int
    images : dict of str to int
        Numbers of images of "id" and of each OOD set.
    tuning : dict of model to dict of seed to Tuning
        Without the models of which nothing was tuned.
    ood_sets : dict of str to SetStatistics
    """

    resamples: int
    images: dict[str, int]
    tuning: dict[str, dict[str, Tuning]]
    ood_sets: dict[str, SetStatistics]


def statistics_of(
    table2: pd.DataFrame,
    bootstraps: Bootstraps,
    images: Mapping[str, int],
    tuning: Mapping[str, Mapping[str, Tuning]],
) -> Statistics:
    """What the images and the seeds say of Table 2.

    Parameters
    ----------
    table2 : DataFrame
        ``score_grid(...).metrics()``.
    bootstraps : mapping
        Of the rows that `grids.paper_rows` names.
    images, tuning : mapping
        As in `Statistics`.
    """
    table = named_scores(table2)
    first = next(iter(bootstraps.values()))["snojoe"][FPR95.name]
    return Statistics(
        resamples=first.replicates.size,
        images=dict(images),
        tuning={model: dict(by_seed) for model, by_seed in tuning.items()},
        ood_sets={
            ood_set: _set_statistics(table[table.ood_set == ood_set], rows)
            for ood_set, rows in bootstraps.items()
        },
    )


def write_statistics(path: Path, statistics: Statistics) -> None:
    write_json(path, statistics.model_dump())


def read_statistics(path: Path) -> Statistics:
    """What `write_statistics` wrote.

    Raises
    ------
    SnojoeError
        If the file is missing or damaged.
    """
    try:
        return Statistics.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise SnojoeError(f"{path}: not readable ({error})") from None


def bold_by_metric(rows: Mapping[Any, Mapping[str, Bootstrap]]) -> dict[str, set[Any]]:
    """Of each metric the rows of one OOD set's table to set in bold."""
    return {
        metric.name: bold_rows({row: of[metric.name] for row, of in rows.items()}, metric)
        for metric in OOD_METRICS
    }


def interval_in_percent(bootstrap: Bootstrap) -> Interval:
    """95%, over images, to two decimals."""
    low, high = bootstrap.interval()
    return round(100 * low, 2), round(100 * high, 2)


def _set_statistics(
    table: pd.DataFrame, rows: Mapping[str, Mapping[str, Bootstrap]]
) -> SetStatistics:
    snojoe, joint_energy = (table[table.score == score] for score in ("snojoe", "joint_energy"))
    names = [metric.name for metric in OOD_METRICS]
    reduction = rows["snojoe"][FPR95.name].relative_reduction(rows["joint_energy"][FPR95.name])
    low, high = reduction.interval()
    return SetStatistics(
        interval={
            row: {name: interval_in_percent(of[name]) for name in names} for row, of in rows.items()
        },
        bold={name: sorted(bold) for name, bold in bold_by_metric(rows).items()},
        snojoe_minus_joint_energy={
            name: _difference(
                rows["snojoe"][name] - rows["joint_energy"][name],
                paired_t_test(snojoe[name], joint_energy[name]),
            )
            for name in names
        },
        relative_reduction_of_fpr95=Reduction(
            reduction=_number(100 * reduction.estimate, 2),
            interval=(_number(100 * low, 2), _number(100 * high, 2)),
        ),
    )


def _difference(over_images: Bootstrap, over_seeds: PairedTTest) -> Difference:
    return Difference(
        difference=round(100 * over_images.estimate, 2),
        interval=interval_in_percent(over_images),
        p_over_images=round(over_images.p_value(), 7),
        p_over_seeds=_number(over_seeds.p_value, 5),
        effect_size=_number(over_seeds.effect_size, 5),
        seeds=over_seeds.n,
        note=over_seeds.note,
    )


def _number(value: float, digits: int) -> float | None:
    """For JSON, which has no NaN."""
    return None if isnan(value) else round(value, digits)
