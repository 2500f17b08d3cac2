"""Does spectral normalisation help? Every arm of experiments/findings.py against its own control.

    python experiments/verdict.py docs/findings/digits.csv

writes beside the CSV a table (``digits.md``) and a picture (``digits.png``): the difference of
JointEnergy's metrics to the control with the same BatchNorm and seed, paired over seeds, with
Holm's correction for all tests of one metric in the table.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import t as student

from snojoe.measures.ood_metrics import AUROC, FPR95
from snojoe.measures.statistics import holm, paired_t_test
from snojoe.results.formatting import markdown_table, mean_and_std
from snojoe.results.plots import BLUE, STYLE, VERMILLION
from snojoe.support.files import atomic_file

METRICS = (FPR95, AUROC)
BOUNDS = {"none": "none", "hard": "hard", "soft3": "soft 3"}
BATCH_NORMS = {
    "train": "train mode",
    "frozen1": "frozen after 1",
    "frozen3": "frozen after 3",
    "spectral": "bounded scale",
}


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """One row for each OOD set and arm: metrics, their differences over seeds, and tests."""
    rows = []
    # The control of an arm with a bounded BatchNorm has a plain one: depth 0 bounds nothing.
    for (ood_set, batch_norm), group in table.groupby(["ood_set", "batch_norm"], sort=False):
        control = group[group.sn_layers == 0].drop_duplicates("seed").set_index("seed")
        arms = group[group.sn_layers > 0].groupby(["bound", "sn_layers"], sort=False)
        for (bound, depth), arm in arms:
            arm = arm.set_index("seed").loc[control.index]
            row: dict[str, Any] = {
                "ood_set": ood_set,
                "batch_norm": batch_norm,
                "bound": bound,
                "sn_layers": depth,
                "seeds": len(arm),
                "map": arm["map"].mean(),
                "map_control": control["map"].mean(),
            }
            for name in (metric.name for metric in METRICS):
                row[name], row[f"{name}_control"] = arm[name], control[name]
                row[f"{name}_test"] = paired_t_test(arm[name], control[name])
            rows.append(row)
    frame = pd.DataFrame(rows)
    for name in (metric.name for metric in METRICS):
        frame[f"{name}_holm"] = holm([test.p_value for test in frame[f"{name}_test"]])
    return frame


def as_markdown(frame: pd.DataFrame) -> str:
    """A table for each OOD set; in parentheses mAP of the control and the corrected p-value."""
    parts = []
    for ood_set, rows in frame.groupby("ood_set", sort=False):
        header = ["arm", "val mAP (control)"]
        for metric in METRICS:
            header += [metric.title, "difference", "p (Holm)"]
        body = []
        for row in rows.to_dict("records"):
            cells = [arm_title(row), f"{row['map']:.1f} ({row['map_control']:.1f})"]
            for name in (metric.name for metric in METRICS):
                values, test = row[name], row[f"{name}_test"]
                difference = values - row[f"{name}_control"]
                cells += [
                    mean_and_std(values.mean(), values.std()),
                    f"{difference.mean():+.2f} ± {difference.std():.2f}",
                    f"{test.p_value:.3f} ({row[f'{name}_holm']:.2f})",
                ]
            body.append(cells)
        n = rows.seeds.iloc[0]
        parts.append(f"**{ood_set}**, mean ± standard deviation of n = {n} seeds\n\n")
        parts.append(markdown_table(header, body) + "\n\n")
    return "".join(parts)


def arm_title(row: Mapping[Any, Any]) -> str:
    return f"{BOUNDS[row['bound']]}, {BATCH_NORMS[row['batch_norm']]}, depth {row['sn_layers']}"


def draw(frame: pd.DataFrame, path: Path) -> None:
    """Seeds as dots, their mean with its 95% interval (Student), for each OOD set and metric."""
    sets = list(dict.fromkeys(frame.ood_set))
    arms = len(frame) // len(sets)
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(10, 1.2 + 0.34 * arms * len(sets)), layout="constrained")
        grid = figure.subplots(len(sets), 2, squeeze=False)
        for axes_row, ood_set in zip(grid, sets, strict=True):
            rows = frame[frame.ood_set == ood_set].to_dict("records")
            for axes, metric in zip(axes_row, METRICS, strict=True):
                axes.axvline(0, color="black", linewidth=0.8)
                for position, row in enumerate(rows):
                    values = (row[metric.name] - row[f"{metric.name}_control"]).to_numpy()
                    mean, n = values.mean(), len(values)
                    half = student.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)
                    axes.plot(values, [position] * n, "o", color=BLUE, alpha=0.45, markersize=4)
                    axes.errorbar(
                        mean,
                        position,
                        xerr=half,
                        fmt="D",
                        color=VERMILLION,
                        capsize=3,
                        markersize=5,
                    )
                better = "left" if metric.better == "lower" else "right"
                axes.set_title(f"{ood_set}: {metric.title}, better to the {better}", fontsize=10)
                axes.set_xlabel("difference to the control of the same seed, points")
                axes.set_ylim(len(rows) - 0.5, -0.5)
                axes.set_yticks(range(len(rows)))
            axes_row[0].set_yticklabels([arm_title(row) for row in rows], fontsize=8)
            axes_row[1].set_yticklabels([])
        with atomic_file(path) as temporary:
            figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, help="CSV that experiments/findings.py wrote")
    results = parser.parse_args().results
    frame = differences(pd.read_csv(results))
    results.with_suffix(".md").write_text(as_markdown(frame), encoding="utf-8")
    draw(frame, results.with_suffix(".png"))
    print(as_markdown(frame))


if __name__ == "__main__":
    main()
