"""``metrics/statistics.json``: intervals, bold rows and tests; percent, rounded.

Every table, the headline and the report say what stands here. docs/statistics.md has what the
figures are.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from snojoe.inference.tuned import Tuning
from snojoe.measures.comparisons import bold_rows
from snojoe.measures.estimates import Estimate
from snojoe.measures.ood_metrics import AUROC, FPR95, OOD_METRICS
from snojoe.results.grids import Estimates
from snojoe.results.paper import EFFECTS
from snojoe.support.errors import SnojoeError
from snojoe.support.files import write_json

LEVEL = 0.05

Interval = tuple[float | None, float | None]
"""95%, percent; None where nothing is known."""


class Difference(BaseModel):
    """SNoJoE - JointEnergy in one metric, in points, for new trainings and new images.

    With one seed: for new images alone, of this training.

    Attributes
    ----------
    difference : float
    interval : (float, float)
        95%.
    p : float or None
        Of no difference; None where there is no variance to test against.
    margin : float or None
        The two are shown to be equal within this many points, at 5%.
    """

    difference: float
    interval: Interval
    p: float | None
    margin: float | None

    def excludes(self, points: float) -> bool:
        """Whether a difference lies outside the interval."""
        return _outside(points, self.interval)


class Reduction(BaseModel):
    """1 - SNoJoE / JointEnergy, in percent; None where JointEnergy's is 0."""

    reduction: float | None
    interval: Interval

    def excludes(self, cut: float) -> bool:
        """Whether a relative cut lies outside the interval."""
        return _outside(cut, self.interval)


class SetStatistics(BaseModel):
    """What is known of one OOD set.

    Attributes
    ----------
    interval : dict of row to dict of metric to (float, float)
        95%, for new trainings and new images; rows by their names in Table 2.
    bold : dict of metric to list of rows
        The best, and what is not shown to be worse.
    """

    interval: dict[str, dict[str, Interval]]
    bold: dict[str, list[str]]


class ComparedSet(SetStatistics):
    """What is known of one OOD set where there is an SN model beside the control.

    Attributes
    ----------
    snojoe_minus_joint_energy : dict of metric to Difference
    relative_reduction_of_fpr95 : Reduction
    effective_images : dict of str to int or None
        How many independent images of "id" and "ood" would say as much of the difference of AUROC;
        None where the difference is 0 for every image.
    papers_effects_excluded : dict of str to bool
        Of each effect of the paper on FPR95, "-3.47 points" or "cut by 11%", whether it lies
        outside the interval.
    """

    snojoe_minus_joint_energy: dict[str, Difference]
    relative_reduction_of_fpr95: Reduction
    effective_images: dict[str, int | None]
    papers_effects_excluded: dict[str, bool]


class Statistics(BaseModel):
    """The content of the file.

    Attributes
    ----------
    seeds : int
        Number of trainings of each model.
    images : dict of str to int
        Numbers of images of "id" and of each OOD set.
    tuning : dict of model to dict of seed to Tuning
        Without the models of which nothing was tuned.
    ood_sets : dict of str to SetStatistics
        Each a ComparedSet where there is an SN model.
    """

    seeds: int
    images: dict[str, int]
    tuning: dict[str, dict[str, Tuning]]
    ood_sets: dict[str, ComparedSet | SetStatistics]

    @property
    def compared(self) -> dict[str, ComparedSet]:
        """The OOD sets on which SNoJoE is compared with JointEnergy: none without an SN model."""
        return {
            name: of_set
            for name, of_set in self.ood_sets.items()
            if isinstance(of_set, ComparedSet)
        }


def statistics_of(
    estimates: Estimates, images: Mapping[str, int], tuning: Mapping[str, Mapping[str, Tuning]]
) -> Statistics:
    """What trainings and images say of Table 2.

    Parameters
    ----------
    estimates : mapping
        Of the rows that `grids.paper_rows` names.
    images, tuning : mapping
        As in `Statistics`.
    """
    first = next(iter(estimates.values()))["joint_energy"][FPR95.name]
    return Statistics(
        seeds=first.seeds,
        images=dict(images),
        tuning={model: dict(by_seed) for model, by_seed in tuning.items()},
        ood_sets={ood_set: _set_statistics(rows) for ood_set, rows in estimates.items()},
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


def bold_by_metric(rows: Mapping[Any, Mapping[str, Estimate]]) -> dict[str, set[Any]]:
    """Of each metric the rows of one OOD set's table to set in bold."""
    return {
        metric.name: bold_rows({row: of[metric.name] for row, of in rows.items()}, metric)
        for metric in OOD_METRICS
    }


def interval_in_percent(estimate: Estimate) -> Interval:
    """95%, to two decimals."""
    low, high = estimate.interval()
    return _number(100 * low, 2), _number(100 * high, 2)


def _set_statistics(rows: Mapping[str, Mapping[str, Estimate]]) -> SetStatistics:
    names = [metric.name for metric in OOD_METRICS]
    of_rows = SetStatistics(
        interval={
            row: {name: interval_in_percent(of[name]) for name in names} for row, of in rows.items()
        },
        bold={name: sorted(bold) for name, bold in bold_by_metric(rows).items()},
    )
    if "snojoe" not in rows:
        return of_rows
    snojoe, joint_energy = rows["snojoe"], rows["joint_energy"]
    differences = {name: snojoe[name] - joint_energy[name] for name in names}
    of_metric = {name: _difference(each) for name, each in differences.items()}
    reduction = snojoe[FPR95.name].relative_reduction(joint_energy[FPR95.name])
    cut = Reduction(
        reduction=_number(100 * reduction.value, 2), interval=interval_in_percent(reduction)
    )
    excluded = {
        f"{each.points:.2f} points": of_metric[FPR95.name].excludes(each.points) for each in EFFECTS
    }
    excluded |= {f"cut by {each.cut:.0f}%": cut.excludes(each.cut) for each in EFFECTS}
    effective = differences[AUROC.name].effective_images
    return ComparedSet(
        **of_rows.model_dump(),
        snojoe_minus_joint_energy=of_metric,
        relative_reduction_of_fpr95=cut,
        effective_images={
            name: None if isnan(number) else round(number)
            for name, number in zip(("id", "ood"), effective, strict=True)
        },
        papers_effects_excluded=excluded,
    )


def _difference(estimate: Estimate) -> Difference:
    return Difference(
        difference=round(100 * estimate.value, 2),
        interval=interval_in_percent(estimate),
        p=_number(estimate.p_value(), 5),
        margin=_number(100 * estimate.margin(LEVEL), 2),
    )


def _outside(value: float, interval: Interval) -> bool:
    low, high = interval
    return low is not None and high is not None and not low <= value <= high


def _number(value: float, digits: int) -> float | None:
    """For JSON, which has no NaN."""
    return None if isnan(value) else round(value, digits)
