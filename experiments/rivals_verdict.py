"""What the trainings of experiments/rivals.py say, by the plan: docs/findings/rivals-plan.md.

    python experiments/rivals_verdict.py docs/findings/rivals.csv

prints the tables of what every arm has finished.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from rivals import ARMS, CONTROL, SCORES
from scipy.stats import t
from verdict import MARGINS, Comparison

from snojoe.detectors import DETECTORS
from snojoe.measures.comparisons import holm
from snojoe.measures.ood_metrics import AUROC, FPR95, Metric
from snojoe.results.formatting import interval, markdown_table


def as_markdown(table: pd.DataFrame) -> str:
    """All tables, of what every arm has finished."""
    parts = []
    for experiment, found in table.groupby("experiment", sort=False):
        counts = found.groupby(["draw", "seed"]).arm.nunique()
        whole = found.set_index(["draw", "seed"])
        whole = whole[whole.index.isin(counts.index[counts == len(ARMS)])].reset_index()
        n = len(whole[["draw", "seed"]].drop_duplicates())
        trainings = len(found[["draw", "seed", "arm"]].drop_duplicates())
        parts.append(f"## {experiment}: {n} of each arm, {trainings} trainings in all")
        parts.append(means_markdown(whole))
        if n > 1:
            parts += [differences_markdown(whole, metric) for metric in (AUROC, FPR95)]
        parts.append(scores_markdown(whole))
        parts.append(leaderboard_markdown(whole))
    return "\n\n".join(parts) + "\n"


def means_markdown(table: pd.DataFrame) -> str:
    """Joint energy: a row for each arm, in the form of the leaderboard."""
    energy = table[table.score == "joint_energy"]
    sets = sorted(energy.ood_set.unique())
    lines = []
    for arm in ARMS:
        mine = energy[energy.arm == arm]
        by_set = mine.groupby("ood_set")[["auroc", "fpr95"]].mean()
        pairs = [by_set.mean(), *(by_set.loc[each] for each in sets)]
        lines.append([arm, f"{mine['map'].mean():.2f}", *(f"{a:.2f}, {f:.2f}" for a, f in pairs)])
    heading = ["mean of all", *sets]
    return markdown_table(
        ["JointEnergy", "mAP ↑", *(f"{each}: AUROC ↑, FPR95 ↓" for each in heading)], lines
    )


def differences_markdown(table: pd.DataFrame, metric: Metric) -> str:
    """Joint energy: each rival against the control, paired, with Holm's p over all of them."""
    energy = table[table.score == "joint_energy"]
    compared = []
    for ood_set in sorted(energy.ood_set.unique()):
        of_set = energy[energy.ood_set == ood_set]
        values = of_set.pivot_table(index=["draw", "seed"], columns="arm", values=metric.name)
        for arm in ARMS:
            if arm != CONTROL:
                arrays = values[[arm]].to_numpy(), values[[CONTROL]].to_numpy()
                compared.append(Comparison(ood_set, arm, metric, *arrays))
    corrected = holm([each.p_value() for each in compared])
    lines = []
    for each, p in zip(compared, corrected, strict=True):
        mean = each.differences.mean()
        verdict = "not settled"
        if p < 0.05:
            verdict = "helps" if (mean > 0) == (metric.better == "higher") else "harms"
        elif each.margin() < MARGINS[metric.name]:
            verdict = f"no effect of {MARGINS[metric.name]:g} points"
        p_values = f"{each.p_value():.3f} ({p:.3f})"
        found = f"{mean:+.2f} {interval(each.interval())}"
        lines.append([f"{each.ood_set}: {each.title}", found, p_values, verdict])
    return markdown_table(["JointEnergy", f"{metric.heading} difference", "p (Holm)", ""], lines)


def scores_markdown(table: pd.DataFrame) -> str:
    """Every score that was stored: AUROC and FPR95, means."""
    by = table.groupby(["ood_set", "arm", "score"])[["auroc", "fpr95"]].mean()
    lines = [
        [f"{ood_set}: {arm}"]
        + [f"{by.auroc[ood_set, arm, s]:.2f}, {by.fpr95[ood_set, arm, s]:.2f}" for s in SCORES]
        for ood_set in sorted(table.ood_set.unique())
        for arm in ARMS
    ]
    return markdown_table(["AUROC ↑, FPR95 ↓", *SCORES], lines)


def leaderboard_markdown(table: pd.DataFrame) -> str:
    """Every score under every training, by its mean rank over the OOD sets, the best first.

    Ranks are by AUROC, in each set of each draw and seed; the interval is Student's over these.
    """
    key = ["draw", "seed", "ood_set"]
    ranks = table.assign(rank=table.groupby(key).auroc.rank(ascending=False))
    rows: list[tuple[float, list[str]]] = []
    for score, arm in product(SCORES, ARMS):
        found = ranks[(ranks.score == score) & (ranks.arm == arm)]
        each = found.groupby(["draw", "seed"])["rank"].mean().to_numpy(np.float64)
        mean, n = float(each.mean()), len(each)
        cells = [f"{mean:.1f}", "–"]
        if n > 1:
            half = t.ppf(0.975, n - 1) * each.std(ddof=1) / n**0.5
            cells[1] = f"{max(1, mean - half):.1f} to {mean + half:.1f}"
        by_set = found.groupby("ood_set")[["auroc", "fpr95"]].mean()
        pairs = [by_set.mean(), *(by_set.loc[name] for name in sorted(by_set.index))]
        cells += [f"{a:.2f}, {f:.2f}" for a, f in pairs]
        rows.append((mean, [f"{DETECTORS[score].title}, {arm}", *cells]))
    names = ["mean of all", *sorted(table.ood_set.unique())]
    sets = [f"{name}: AUROC ↑, FPR95 ↓" for name in names]
    header = ["", "mean rank", "95% interval", *sets]
    return markdown_table(header, [row for _, row in sorted(rows, key=lambda row: row[0])])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("result", type=Path, help="CSV that experiments/rivals.py wrote")
    print(as_markdown(pd.read_csv(parser.parse_args().result)))


if __name__ == "__main__":
    main()
