"""Table 3: JointEnergy with spectral normalisation on the first #layers."""

from __future__ import annotations

from typing import Any

import pandas as pd

from snojoe.data.overlap import read_known
from snojoe.data.prepared import read_classes, read_prepared_sets
from snojoe.experiment import Folders
from snojoe.measures.ood_metrics import FPR95, OOD_METRICS
from snojoe.params import Params
from snojoe.results.classifier import classifier_metrics
from snojoe.results.formatting import mean_and_std
from snojoe.results.grids import DepthRow, Estimates, Grid, depth_grid
from snojoe.results.markdown import id_test_note, known_note, table3_markdown
from snojoe.results.paper import PAPERS, TABLE_3, published
from snojoe.results.plots import plot_ablation
from snojoe.results.scores_json import Means, means_over_seeds
from snojoe.results.statistics_json import bold_by_metric, interval_in_percent
from snojoe.results.stored import Experiment
from snojoe.results.tables import table3_sets
from snojoe.support.files import write_json, write_text
from snojoe.support.text import aligned


def write_table3(params: Params, folders: Folders) -> None:
    """Write what the `ablate` stage writes, and print it in short.

    Raises
    ------
    SnojoeError
        If models, outputs or the prepared sets are missing or damaged.
    """
    experiment = Experiment.of(params, folders)
    experiment.check_models(params.ablation.sn_layers)
    grid = depth_grid(experiment, params.ablation.sn_layers)
    table3 = long_table3(experiment, grid)
    estimates = grid.estimates({row.sn_layers: row for row in grid.id}, experiment.clusters())
    intervals = ablation_series(table3, estimates)
    sets = read_prepared_sets(folders.prepared)
    paper = published(TABLE_3, sets, read_classes(folders.prepared))
    bold = {ood_set: bold_by_metric(rows) for ood_set, rows in estimates.items()}
    tables = table3_sets(table3, intervals, {PAPERS: paper}, bold)

    write_text(folders.metrics / "table3.csv", table3.round(6).to_csv(index=False))
    write_json(folders.metrics / "ablation.json", ablation_means(table3))
    text = table3_markdown(tables, len(experiment.seeds)) + id_test_note(sets)
    text += known_note(read_known(folders.prepared))
    write_text(folders.metrics / "table3.md", text)
    plot_ablation(folders.plots / "ablation.png", table3, intervals)
    write_text(folders.plots / "ablation.csv", intervals.round(4).to_csv(index=False))
    print(f"\nFPR95 and val mAP by depth of SN, percent:\n{depths_in_short(table3)}")
    print(f"with AUROC, AUPR and intervals: {folders.metrics / 'table3.md'}")


def long_table3(experiment: Experiment, grid: Grid[DepthRow]) -> pd.DataFrame:
    """``grid.metrics()`` and of each model its ``map``, the mean average precision on val."""
    quality = pd.concat(
        classifier_metrics(experiment, row.sn_layers, energies).assign(sn_layers=row.sn_layers)
        for row, energies in grid.id.items()
    )
    keys = ["sn_layers", "seed"]
    return grid.metrics(OOD_METRICS).merge(quality[[*keys, "map"]], on=keys)


def ablation_means(table3: pd.DataFrame) -> dict[str, dict[str, Means]]:
    """Content of ``metrics/ablation.json``: ``{"<ood set>": {"<depth>": {"fpr95": .., ..}}}``."""
    means: dict[str, dict[str, Means]] = {}
    for (ood_set, depth), rows in table3.groupby(["ood_set", "sn_layers"], sort=False):
        means.setdefault(str(ood_set), {})[str(depth)] = means_over_seeds(rows)
    return means


def ablation_series(table3: pd.DataFrame, estimates: Estimates) -> pd.DataFrame:
    """Content of ``plots/ablation.csv``: means over seeds and 95% intervals, percent.

    Columns ``ood_set``, ``sn_layers`` and, of each metric, ``fpr95``, ``fpr95_low``,
    ``fpr95_high``.
    """
    names = [metric.name for metric in OOD_METRICS]
    means = table3.groupby(["ood_set", "sn_layers"], as_index=False)[names].mean()
    for name in names:
        intervals = [
            interval_in_percent(estimates[ood_set][depth][name])
            for ood_set, depth in zip(means.ood_set, means.sn_layers, strict=True)
        ]
        means[f"{name}_low"], means[f"{name}_high"] = zip(*intervals, strict=True)
    ends = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    return means[["ood_set", "sn_layers", *ends]]


def depths_in_short(table3: pd.DataFrame) -> str:
    """FPR95 on each OOD set and val mAP of each depth, mean ± standard deviation, for a terminal.

    `table3` as `long_table3` gives it.
    """
    keys = ["sn_layers", "seed"]
    wide = table3.pivot_table(index=keys, columns="ood_set", values=FPR95.name)
    wide = wide[list(table3.ood_set.unique())]
    wide["val mAP"] = table3.groupby(keys)["map"].first()
    summary: Any = wide.groupby("sn_layers").agg(["mean", "std"])
    rows = [["sn_layers", *wide.columns]]
    rows += [
        [str(depth), *(mean_and_std(*summary.loc[depth, name]) for name in wide.columns)]
        for depth in summary.index
    ]
    return aligned(rows)
