"""Table 3: JointEnergy with spectral normalisation on the first #layers."""

from __future__ import annotations

import json

import pandas as pd

from snojoe.data.prepare import read_classes
from snojoe.experiment import Folders
from snojoe.params import Params
from snojoe.results.grids import Experiment, classifier_metrics, depth_grid
from snojoe.results.paper import TABLE_3, paper_set
from snojoe.results.plots import plot_ablation
from snojoe.results.tables import (
    ablation_series,
    ablation_tree,
    depths_in_short,
    id_test_note,
    table3_markdown,
)
from snojoe.support.files import write_json, write_text


def write_table3(params: Params, folders: Folders) -> None:
    """Write what the `ablate` stage writes, and print it in short.

    Raises
    ------
    SnojoeError
        If models or outputs are missing or damaged.
    """
    experiment = Experiment(folders.models, folders.outputs, list(params.data.ood), params.seeds)
    experiment.check_models(params.ablation.sn_layers)
    grid = depth_grid(experiment, params.ablation.sn_layers)
    table3 = grid.metrics()
    depths = dict.fromkeys(table3.sn_layers)
    quality = pd.concat(classifier_metrics(experiment, d).assign(sn_layers=d) for d in depths)
    table3 = table3.merge(quality[["sn_layers", "seed", "map"]], on=["sn_layers", "seed"])
    rows = {row.sn_layers: row for row in grid.id}
    bootstraps = grid.bootstrap(rows, params.score.resamples)
    write_text(folders.metrics / "table3.csv", table3.round(6).to_csv(index=False))
    write_json(folders.metrics / "ablation.json", ablation_tree(table3))

    report = json.loads((folders.prepared / "report.json").read_text(encoding="utf-8"))
    classes = read_classes(folders.prepared)
    known = {name: paper_set(name, report, classes) for name in params.data.ood}
    figures = {name: TABLE_3[paper] for name, paper in known.items() if paper}
    text = table3_markdown(table3, bootstraps, figures) + id_test_note(report)
    write_text(folders.metrics / "table3.md", text)
    print(f"\nFPR95 and val mAP by depth of SN, percent:\n{depths_in_short(table3)}")

    series = ablation_series(table3, bootstraps)
    plot_ablation(folders.plots / "ablation.png", table3, series)
    write_text(folders.plots / "ablation.csv", series.round(4).to_csv(index=False))
    print(f"with AUROC, AUPR and intervals: {folders.metrics / 'table3.md'}")
