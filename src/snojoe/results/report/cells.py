"""The tables of the report, as cells that the template lays out; all figures in percent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from snojoe.detectors import DETECTORS, PAPER_DETECTORS
from snojoe.measures.statistics import METRICS
from snojoe.results.tables import PaperFigures, depth_titles, named_scores, over_seeds


class Cell(NamedTuple):
    """A mean over seeds and what stands beside it.

    Attributes
    ----------
    mean, std : float
        Over seeds; `std` is NaN for one seed.
    interval : (float, float), optional
        95%, over images.
    best : bool
        Whether it is the column's best, or not separable from it.
    paper : float, optional
        The paper's own figure, where the data are the paper's.
    """

    mean: float
    std: float
    interval: Sequence[float] | None = None
    best: bool = False
    paper: float | None = None


class Row(NamedTuple):
    title: str
    cells: list[Cell]


class SetTable(NamedTuple):
    """A table's rows for one OOD set; `paper` says whether the paper has figures for it."""

    ood_set: str
    rows: list[Row]
    paper: bool = False


def table2_cells(
    table2: pd.DataFrame, statistics: Mapping[str, Any], paper: PaperFigures
) -> list[SetTable]:
    """The eight rows of Table 2.

    Parameters
    ----------
    table2, statistics
        ``metrics/table2.csv`` and ``metrics/statistics.json``.
    paper
        The paper's figures for the OOD sets that are its own.
    """
    titles = {each.name: each.title for each in PAPER_DETECTORS} | {"snojoe": "SNoJoE"}
    table = named_scores(table2)
    tables = []
    for ood_set, tree in statistics["ood_sets"].items():
        summary: Any = over_seeds(table[table.ood_set == ood_set], ["score"])
        figures = paper.get(ood_set, {})
        rows = [
            Row(
                title,
                [
                    Cell(
                        *_spread(summary, score, metric),
                        interval=tree["interval"][score][metric],
                        best=score in tree["bold"][metric],
                        paper=getattr(figures.get(score), metric, None),
                    )
                    for metric in METRICS
                ],
            )
            for score, title in titles.items()
        ]
        tables.append(SetTable(ood_set, rows, bool(figures)))
    return tables


def full_table2_cells(table2: pd.DataFrame) -> list[SetTable]:
    """Every score, its three metrics on the control and then on the SN model."""
    tables = []
    for ood_set in table2.ood_set.unique():
        summary: Any = over_seeds(table2[table2.ood_set == ood_set], ["score", "model"])
        rows = [
            Row(
                DETECTORS[score].title,
                [
                    Cell(*_spread(summary, (score, model), metric))
                    for model in ("control", "sn")
                    for metric in METRICS
                ],
            )
            for score in table2.score.unique()
        ]
        tables.append(SetTable(ood_set, rows))
    return tables


def table3_cells(
    table3: pd.DataFrame, intervals: pd.DataFrame, paper: PaperFigures
) -> list[SetTable]:
    """The depths of Table 3: its three metrics and the val mAP.

    Parameters
    ----------
    table3, intervals
        ``metrics/table3.csv`` and ``plots/ablation.csv``.
    paper
        As in `table2_cells`.
    """
    ends = intervals.set_index(["ood_set", "sn_layers"])
    titles = depth_titles(table3)
    tables = []
    for ood_set in table3.ood_set.unique():
        groups = table3[table3.ood_set == ood_set].groupby("sn_layers")
        summary: Any = groups[[*METRICS, "map"]].agg(["mean", "std"])
        figures = paper.get(ood_set, {})
        rows = []
        for depth, title in titles.items():
            bounds: Any = ends.loc[(ood_set, depth)]
            cells = [
                Cell(
                    *_spread(summary, depth, metric),
                    interval=(bounds[f"{metric}_low"], bounds[f"{metric}_high"]),
                    paper=getattr(figures.get(depth), metric, None),
                )
                for metric in METRICS
            ]
            rows.append(Row(title, [*cells, Cell(*_spread(summary, depth, "map"))]))
        tables.append(SetTable(ood_set, rows, bool(figures)))
    return tables


class LayerSigma(NamedTuple):
    """Largest spectral norm in a counted layer: (before, after) training, of each model."""

    layer: str
    weights: int
    sigmas: list[tuple[float, float]]


def sigma_by_layer(sigma: pd.DataFrame, names: Sequence[str]) -> list[LayerSigma]:
    """From ``plots/sigma.csv`` and the names of the counted layers; control, then SN."""
    last = sigma["epoch"].max()
    largest: Any = sigma.groupby(["layer", "model", "epoch"])["sigma"].max()
    weights = sigma[sigma["layer"] > 0].groupby("layer")["weight"].nunique()
    return [
        LayerSigma(
            layer=f"{layer} {names[layer - 1]}",
            weights=int(count),
            sigmas=[
                (largest[layer, model, 0], largest[layer, model, last])
                for model in ("control", "sn")
            ],
        )
        for layer, count in zip(weights.index.to_list(), weights, strict=True)
    ]


def mean_distances(distances: pd.DataFrame) -> list[tuple[str, str, list[float]]]:
    """From ``metrics/distances.csv``: pair, model and means over seeds of its four figures."""
    columns = ["lower", "upper", "spread", "spearman"]
    means: Any = distances.groupby(["pair", "model"], sort=False)[columns].mean()
    return [(*pair_and_model, row.to_list()) for pair_and_model, row in means.iterrows()]


def _spread(summary: Any, row: Any, metric: str) -> tuple[float, float]:
    """Mean and standard deviation over seeds."""
    return summary.loc[row, (metric, "mean")], summary.loc[row, (metric, "std")]
