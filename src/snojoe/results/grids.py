"""Every score against every OOD set: the grids behind Tables 2 and 3, metrics in percent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Self, TypeAlias, TypeVar

import numpy as np
import pandas as pd

from snojoe.detectors import (
    DETECTORS,
    PAPER_DETECTORS,
    Detector,
    JointEnergy,
    ModelOutputs,
    fit_detector,
    fit_variants,
)
from snojoe.measures.clusters import Clusters
from snojoe.measures.estimates import Estimate, estimates
from snojoe.measures.metrics import FloatArray
from snojoe.measures.ood_metrics import ALL_METRICS, Metric
from snojoe.results.stored import Experiment
from snojoe.support.progress import progress

Estimates = Mapping[str, Mapping[Any, Mapping[str, Estimate]]]
"""OOD set -> row -> metric -> its estimate, a fraction."""


class ScoreRow(NamedTuple):
    """A row of the full Table 2; `model` is "control" or "sn"."""

    score: str
    model: str
    sn_layers: int


class DepthRow(NamedTuple):
    """A row of Table 3."""

    sn_layers: int
    normalized_weights: int


GridRow = TypeVar("GridRow", ScoreRow, DepthRow)
Name = TypeVar("Name", str, int)
Keep: TypeAlias = Callable[[GridRow, int, Detector], None]
"""What takes a row's fitted detector of a seed."""
Choose: TypeAlias = Callable[[ScoreRow, int, Sequence[Detector]], Detector | None]
"""Which of a row's fitted variants of a seed is the tuned one, if there is something to tune by."""


def compared_models(sn_layers: int) -> dict[str, int]:
    """The models of Table 2 -> their depth: the control, without SN, and the one with it, if any.

    The last is the one that detects.
    """
    return {"control": 0, "sn": sn_layers} if sn_layers else {"control": 0}


@dataclass(frozen=True)
class Grid(Generic[GridRow]):
    """Scores of every image by row and seed; all metrics and how sure they are follow from them.

    Parameters
    ----------
    seeds : sequence of int
    id : dict of row to (seeds, n) float64 array
        Scores of the ID test images.
    ood : dict of OOD set to dict of row to (seeds, m) float64 array
    """

    seeds: Sequence[int]
    id: dict[GridRow, FloatArray]
    ood: dict[str, dict[GridRow, FloatArray]]

    @classmethod
    def empty(cls, experiment: Experiment) -> Self:
        """A grid that no row was added to."""
        return cls(experiment.seeds, {}, {name: {} for name in experiment.ood_sets})

    def scores(self, row: GridRow) -> dict[str, FloatArray]:
        """Scores of "id" and of each OOD set by one row: (seeds, images) each."""
        return {"id": self.id[row], **{name: rows[row] for name, rows in self.ood.items()}}

    def metrics(self, of: Sequence[Metric] = ALL_METRICS) -> pd.DataFrame:
        """The long table, in percent.

        Columns: ``ood_set``, the fields of the rows, ``seed``, and each of the metrics.
        """
        return pd.DataFrame(
            {
                "ood_set": ood_set,
                **row._asdict(),
                "seed": seed,
                **{metric.name: 100 * metric.of(*scores) for metric in of},
            }
            for ood_set, rows in self.ood.items()
            for row in rows
            for seed, *scores in zip(self.seeds, self.id[row], rows[row], strict=True)
        )

    def estimates(
        self, rows: Mapping[Name, GridRow], clusters: Mapping[str, Clusters]
    ) -> dict[str, dict[Name, dict[str, Estimate]]]:
        """Estimates of the given rows: ``[ood_set][name][metric]``, fractions.

        `clusters` has those of the images of "id" and of each OOD set.
        """
        id_scores = {name: self.id[row] for name, row in rows.items()}
        return {
            ood_set: estimates(
                id_scores,
                {name: scores[row] for name, row in rows.items()},
                clusters["id"],
                clusters[ood_set],
            )
            for ood_set, scores in self.ood.items()
        }

    def add(self, row: GridRow, by_seed: Iterable[Sequence[FloatArray]]) -> None:
        """Take in a row: for each seed its scores of "id" and of each OOD set."""
        self.id[row], *others = (np.stack(seeds) for seeds in zip(*by_seed, strict=True))
        for rows, scores in zip(self.ood.values(), others, strict=True):
            rows[row] = scores

    def images(self) -> dict[str, int]:
        """Number of images of "id" and of each OOD set."""
        sets = {"id": self.id, **self.ood}
        return {name: next(iter(rows.values())).shape[1] for name, rows in sets.items()}


def score_grid(
    experiment: Experiment, sn_layers: int, keep: Keep[ScoreRow] | None = None
) -> Grid[ScoreRow]:
    """Every score on the compared models, as tuned where it was tuned (Table 2).

    LOF and Isolation Forest are fitted on all of val, as in the protocol: a ranking needs no
    threshold, for which images have to be left. `keep` is handed each detector, which is forgotten
    then.
    """
    grid, _ = score_grids(experiment, sn_layers, keep=keep)
    return grid


def score_grids(
    experiment: Experiment,
    sn_layers: int,
    choose: Choose | None = None,
    keep: Keep[ScoreRow] | None = None,
) -> tuple[Grid[ScoreRow], Grid[ScoreRow]]:
    """`score_grid`, and beside it the scores with a grid as `choose` has tuned them.

    The second has those rows alone of which a variant was chosen for every seed.
    """
    models = compared_models(sn_layers)
    scores = usable_scores(experiment)
    rows = [ScoreRow(score, m, depth) for score in scores for m, depth in models.items()]
    grid: Grid[ScoreRow] = Grid.empty(experiment)
    tuned: Grid[ScoreRow] = Grid.empty(experiment)
    for row in progress(rows, total=len(rows), desc="scores", unit="score"):
        by_seed, tuned_by_seed = [], []
        for seed in experiment.seeds:
            val = experiment.outputs(row.sn_layers, seed, "val")
            chosen = None
            if choose and DETECTORS[row.score].grid:
                variants = fit_row_variants(experiment, row, seed, val)
                detector, chosen = variants[0], choose(row, seed, variants)
                del variants
            else:
                detector = fit_row(experiment, row, seed, val)
            both = [detector] if chosen in (None, detector) else [detector, chosen]
            found = _scores_of(experiment, row, seed, both)
            by_seed.append(found[0])
            if chosen:
                tuned_by_seed.append(found[-1])
            if keep:
                keep(row, seed, detector)
        grid.add(row, by_seed)
        if len(tuned_by_seed) == len(by_seed):
            tuned.add(row, tuned_by_seed)
    return grid, tuned


def fit_row(experiment: Experiment, row: ScoreRow, seed: int, val: ModelOutputs) -> Detector:
    """The detector of a row and seed, on train or on the given images of val.

    What is fitted on train and matched on val sees of val the images that are there to choose.
    """
    return fit_detector(row.score, **_to_fit(experiment, row, seed, val))


def fit_row_variants(
    experiment: Experiment, row: ScoreRow, seed: int, val: ModelOutputs
) -> list[Detector]:
    """`fit_row`, and beside it the detectors with each other value of the score's grid."""
    return fit_variants(row.score, **_to_fit(experiment, row, seed, val))


def usable_scores(experiment: Experiment) -> list[str]:
    """The scores whose arrays the models give: without a linear head some have no columns."""
    outputs = experiment.outputs(0, experiment.seeds[0], "val")
    return [
        name
        for name, detector in DETECTORS.items()
        if all(getattr(outputs, field).shape[1] for field in detector.consumes)
    ]


def depth_grid(experiment: Experiment, depths: Iterable[int]) -> Grid[DepthRow]:
    """JointEnergy for every depth of spectral normalisation (Table 3)."""
    rows = [DepthRow(depth, experiment.normalized_weights(depth)) for depth in sorted(set(depths))]

    grid: Grid[DepthRow] = Grid.empty(experiment)
    for row in progress(rows, total=len(rows), desc="scores", unit="score"):
        by_seed = []
        for seed in experiment.seeds:
            val = experiment.outputs(row.sn_layers, seed, "val")
            by_seed += _scores_of(experiment, row, seed, [JointEnergy().fit(val.logits)])
        grid.add(row, by_seed)
    return grid


def paper_rows(sn_layers: int) -> dict[str, ScoreRow]:
    """The rows of Table 2 by name: scores on the control, and JointEnergy with SN, if any."""
    control = {detector.name: ScoreRow(detector.name, "control", 0) for detector in PAPER_DETECTORS}
    snojoe = {"snojoe": ScoreRow(JointEnergy.name, "sn", sn_layers)}
    return control | (snojoe if sn_layers else {})


def named_scores(table2: pd.DataFrame) -> pd.DataFrame:
    """The rows under the names of Table 2: scores on the control, and JointEnergy with SN.

    The latter is called ``snojoe``; the other scores on the SN model are left out.
    """
    control = table2[table2.model == "control"]
    sn = table2[(table2.model == "sn") & (table2.score == JointEnergy.name)]
    return pd.concat([control, sn.assign(score="snojoe")], ignore_index=True)


def _to_fit(experiment: Experiment, row: ScoreRow, seed: int, val: ModelOutputs) -> dict[str, Any]:
    if DETECTORS[row.score].matched_on:
        val = experiment.to_choose(row.sn_layers, seed)
    tuned = experiment.tuning(row.sn_layers, seed).get(row.score)
    return {
        "train": experiment.outputs(row.sn_layers, seed, "train"),
        "val": val,
        "head": experiment.head(row.sn_layers, seed),
        **(tuned.params if tuned else {}),
    }


def _scores_of(
    experiment: Experiment, row: ScoreRow | DepthRow, seed: int, variants: Sequence[Detector]
) -> list[list[FloatArray]]:
    """Of each variant the scores of the images of "id" and of each OOD set."""
    first = variants[0]
    by_set = [
        first.score_variants(variants, experiment.outputs(row.sn_layers, seed, name, first.name))
        for name in experiment.test_sets.values()
    ]
    return [list(of_one) for of_one in zip(*by_set, strict=True)]
