"""The rows of Tables 2 and 3, built once; ``markdown`` and the report's template lay them out.

All figures are in percent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from snojoe.detectors import DETECTORS, PAPER_DETECTORS
from snojoe.measures.ood_metrics import OOD_METRICS
from snojoe.results.formatting import mean_and_std
from snojoe.results.grids import named_scores
from snojoe.results.paper import PaperFigures, Published
from snojoe.results.statistics_json import Interval, Statistics


class Cell(NamedTuple):
    """A mean over seeds and what stands beside it.

    Attributes
    ----------
    mean, std : float
        Over seeds; `std` is NaN for one seed.
    interval : (float, float), optional
        95%, for new trainings and new images; see `statistics_json`.
    bold : bool
        Whether it is the column's best, or not shown to be worse.
    published : tuple of float or None
        Figures of others on the same data, in the order of the table's `sources`.
    """

    mean: float
    std: float
    interval: Interval | None = None
    bold: bool = False
    published: tuple[float | None, ...] = ()

    @property
    def text(self) -> str:
        """Mean and standard deviation."""
        return mean_and_std(self.mean, self.std)


class TableRow(NamedTuple):
    """A method: its cells are in the order of `OOD_METRICS`; Table 3 has the val mAP too.

    `name` is the score, or the depth of spectral normalisation.
    """

    name: str | int
    title: str
    cells: list[Cell]
    val_map: Cell | None = None


class SetTable(NamedTuple):
    """A table for one OOD set; `sources` says whose figures stand beside ours, as "paper's"."""

    ood_set: str
    rows: list[TableRow]
    sources: tuple[str, ...]

    def row(self, name: str | int) -> TableRow:
        return next(row for row in self.rows if row.name == name)


class ScoreOnModels(NamedTuple):
    """A score on each compared model; cells in the order of `OOD_METRICS`."""

    title: str
    models: dict[str, list[Cell]]


class FullSetTable(NamedTuple):
    """Every score on every compared model, for one OOD set."""

    ood_set: str
    rows: list[ScoreOnModels]


def table2_sets(
    table2: pd.DataFrame, statistics: Statistics, published: Mapping[str, Published]
) -> list[SetTable]:
    """Table 2: each score on the control, then SNoJoE, if any; a table for each OOD set.

    Parameters
    ----------
    table2 : DataFrame
        ``score_grid(...).metrics()``, or ``metrics/table2.csv``.
    statistics : Statistics
    published : mapping
        By source, its figures for the OOD sets that are its own: `paper.beside_table2`.
    """
    titles = {detector.name: detector.title for detector in PAPER_DETECTORS} | {"snojoe": "SNoJoE"}
    table = named_scores(table2)
    tables = []
    for ood_set, of_set in statistics.ood_sets.items():
        summary = over_seeds(table[table.ood_set == ood_set], ["score"])
        beside = _beside(ood_set, published)
        rows = []
        for score in [name for name in titles if name in of_set.interval]:
            bold = [metric for metric, scores in of_set.bold.items() if score in scores]
            cells = _cells(summary, score)
            cells = _compared(cells, of_set.interval[score], bold, _row(beside, score))
            rows.append(TableRow(score, titles[score], cells))
        tables.append(SetTable(ood_set, rows, tuple(beside)))
    return tables


def full_table2_sets(table2: pd.DataFrame) -> list[FullSetTable]:
    """Every score on the compared models: a grid that the paper has not. `table2` as above."""
    tables = []
    for ood_set in table2.ood_set.unique():
        summary = over_seeds(table2[table2.ood_set == ood_set], ["score", "model"])
        rows = [
            ScoreOnModels(
                DETECTORS[score].title,
                {model: _cells(summary, (score, model)) for model in table2.model.unique()},
            )
            for score in table2.score.unique()
        ]
        tables.append(FullSetTable(ood_set, rows))
    return tables


def table3_sets(
    table3: pd.DataFrame,
    intervals: pd.DataFrame,
    published: Mapping[str, Published],
    bold: Mapping[str, Mapping[str, set[int]]] | None = None,
) -> list[SetTable]:
    """Table 3: JointEnergy with spectral normalisation on the first layers, and the val mAP.

    Parameters
    ----------
    table3, intervals : DataFrame
        ``metrics/table3.csv`` and ``plots/ablation.csv``, as they are or before they are written.
    published : mapping
        As in `table2_sets`.
    bold : mapping of OOD set to mapping of metric to set of depths, optional
        No file has them.
    """
    ends = intervals.set_index(["ood_set", "sn_layers"])
    titles = depth_titles(table3)
    tables = []
    for ood_set in table3.ood_set.unique():
        summary = over_seeds(table3[table3.ood_set == ood_set], ["sn_layers"], ["map"])
        beside = _beside(ood_set, published)
        in_bold = bold[ood_set] if bold else {}
        rows = []
        for depth, title in titles.items():
            of_depth: Any = ends.loc[(ood_set, depth)]
            by_metric = {
                metric.name: (of_depth[f"{metric.name}_low"], of_depth[f"{metric.name}_high"])
                for metric in OOD_METRICS
            }
            *cells, val_map = _cells(summary, depth, ["map"])
            best = [metric for metric, depths in in_bold.items() if depth in depths]
            cells = _compared(cells, by_metric, best, _row(beside, depth))
            rows.append(TableRow(depth, title, cells, val_map))
        tables.append(SetTable(ood_set, rows, tuple(beside)))
    return tables


def over_seeds(table: pd.DataFrame, keys: Sequence[str], more: Sequence[str] = ()) -> pd.DataFrame:
    """Mean and standard deviation (n - 1) over seeds: columns (metric, "mean" | "std").

    `more` are columns beside `OOD_METRICS`.
    """
    names = [*(metric.name for metric in OOD_METRICS), *more]
    return table.groupby(list(keys), sort=False)[names].agg(["mean", "std"])


def depth_titles(table3: pd.DataFrame) -> dict[int, str]:
    """Depth -> what its row is called; it says which depths normalise the same weights."""
    weights = dict(zip(table3.sn_layers, table3.normalized_weights, strict=True))
    titles: dict[int, str] = {}
    for depth, count in weights.items():
        same = [d for d in titles if weights[d] == count]
        titles[depth] = f"{depth} ({count} weights{f', those of {same[0]}' if same else ''})"
    return titles


def _cells(summary: Any, row: Any, more: Sequence[str] = ()) -> list[Cell]:
    """Means and standard deviations of a row of `over_seeds`."""
    names = [*(metric.name for metric in OOD_METRICS), *more]
    return [
        Cell(summary.loc[row, (name, "mean")], summary.loc[row, (name, "std")]) for name in names
    ]


def _beside(
    ood_set: str, published: Mapping[str, Published]
) -> dict[str, Mapping[Any, PaperFigures]]:
    """The sources that have figures for an OOD set, and these by row."""
    return {source: sets[ood_set] for source, sets in published.items() if ood_set in sets}


def _row(beside: Mapping[str, Mapping[Any, PaperFigures]], row: Any) -> list[PaperFigures | None]:
    return [rows.get(row) for rows in beside.values()]


def _compared(
    cells: Sequence[Cell],
    intervals: Mapping[str, Interval],
    bold: Collection[str],
    figures: Sequence[PaperFigures | None],
) -> list[Cell]:
    """The cells of a row with what stands beside each; all by metric."""
    return [
        cell._replace(
            interval=intervals[metric.name],
            bold=metric.name in bold,
            published=tuple(getattr(each, metric.name, None) for each in figures),
        )
        for metric, cell in zip(OOD_METRICS, cells, strict=True)
    ]
