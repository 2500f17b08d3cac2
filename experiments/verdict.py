"""What the trainings of experiments/findings.py say, by the plan: docs/findings/plan.md.

    python experiments/verdict.py docs/findings/digits.csv

writes beside the CSV the tables (``digits.md``) and a picture (``digits.png``).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import stats

from snojoe.measures.comparisons import holm
from snojoe.measures.ood_metrics import AUPR, AUROC, FPR95, Metric
from snojoe.results.formatting import interval, markdown_table, mean_and_std, p_value
from snojoe.results.paper import EFFECTS
from snojoe.results.plots import BLUE, STYLE, VERMILLION
from snojoe.support.files import atomic_file, write_text

METRICS = (AUROC, FPR95, AUPR)
MARGINS = {AUROC.name: 2.0, FPR95.name: 3.5}
BOUNDS = {"none": "none", "hard": "hard", "soft3": "soft 3"}
BATCH_NORMS = {
    "frozen3": "frozen after 3",
    "train": "train mode",
    "due": "train mode, bounded scale",
}
# (bound, batch_norm, sn_layers), the plan's two families.
MAIN = [("hard", batch_norm, depth) for batch_norm in ("frozen3", "train") for depth in (9, 10)]
OTHERS = [("soft3", "frozen3", 9), ("soft3", "train", 9), ("none", "due", 9), ("hard", "due", 9)]


class Comparison(NamedTuple):
    """An arm and its control on one OOD set in one metric, paired; percent.

    Attributes
    ----------
    arm, control : (draws, seeds) float64 arrays
    """

    ood_set: str
    title: str
    metric: Metric
    arm: NDArray[np.float64]
    control: NDArray[np.float64]

    @property
    def differences(self) -> NDArray[np.float64]:
        """(draws,): means over the seeds of a draw."""
        return (self.arm - self.control).mean(axis=1)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Student's, over draws."""
        mean, error = self.differences.mean(), stats.sem(self.differences)
        low, high = stats.t.interval(level, self.differences.size - 1, mean, error)
        return float(low), float(high)

    def p_value(self) -> float:
        return float(stats.ttest_1samp(self.differences, 0).pvalue)

    def margin(self) -> float:
        """Smallest margin within which equivalence is shown at 5%: two one-sided tests."""
        return max(abs(end) for end in self.interval(0.9))

    def relative_cut(self) -> tuple[float, tuple[float, float]]:
        """1 - mean / mean and its 95% interval, by the delta method on the log ratio; percent."""
        ours, theirs = self.arm.mean(axis=1), self.control.mean(axis=1)
        log_ratio = np.log(ours.mean() / theirs.mean())
        error = stats.sem(ours / ours.mean() - theirs / theirs.mean())
        low, high = stats.t.interval(0.95, ours.size - 1, log_ratio, error)
        return 100 * (1 - np.exp(log_ratio)), (100 * (1 - np.exp(high)), 100 * (1 - np.exp(low)))

    def spread(self) -> tuple[float, float]:
        """Standard deviation of a difference between seeds of a draw, and between draws."""
        each = self.arm - self.control
        within = each.var(axis=1, ddof=1).mean()
        between = self.differences.var(ddof=1) - within / each.shape[1]
        return float(np.sqrt(within)), float(np.sqrt(max(between, 0)))


def comparisons(table: pd.DataFrame, metric: Metric, arms: list[Any]) -> list[Comparison]:
    """All of one family: arms by OOD set."""
    found = []
    for ood_set in table.ood_set.unique():
        for bound, batch_norm, depth in arms:
            of_set = table[table.ood_set == ood_set]
            arm = _by_draw(of_set, bound, batch_norm, depth, metric)
            plain = "train" if batch_norm == "due" else batch_norm
            control = _by_draw(of_set, "none", plain, 0, metric).loc[arm.index]
            title = f"{BOUNDS[bound]}, {BATCH_NORMS[batch_norm]}, depth {depth}"
            found.append(Comparison(ood_set, title, metric, arm.to_numpy(), control.to_numpy()))
    return found


def _by_draw(
    table: pd.DataFrame, bound: str, batch_norm: str, depth: int, metric: Metric
) -> pd.DataFrame:
    """Draws as rows, seeds (first, second) as columns."""
    rows = table[
        (table.bound == bound) & (table.batch_norm == batch_norm) & (table.sn_layers == depth)
    ]
    return rows.assign(which=rows.seed % 10).pivot_table(
        index="draw", columns="which", values=metric.name
    )


def conclusion(difference: Comparison, corrected: float) -> str:
    """The plan's sentence."""
    if corrected < 0.05:
        better = (difference.differences.mean() > 0) == (difference.metric.better == "higher")
        return "SN helps" if better else "SN harms"
    margin = MARGINS.get(difference.metric.name)
    if margin is not None and difference.margin() < margin:
        return f"no effect of {margin:g} points"
    return "not settled"


def family_markdown(found: list[Comparison]) -> str:
    """A row for each comparison of one family and metric."""
    corrected = holm([each.p_value() for each in found])
    header = ["OOD set", "arm", "control", "with it", "difference", "p (Holm)", "equal within", ""]
    rows = [
        [
            each.ood_set,
            each.title,
            mean_and_std(each.control.mean(), each.control.std(ddof=1)),
            mean_and_std(each.arm.mean(), each.arm.std(ddof=1)),
            f"{each.differences.mean():+.2f} {interval(each.interval())}",
            f"{p_value(each.p_value()).removeprefix('p = ')} ({p:.2f})",
            f"{each.margin():.2f}",
            conclusion(each, p),
        ]
        for each, p in zip(found, corrected, strict=True)
    ]
    return markdown_table(header, rows)


def paper_markdown(found: list[Comparison]) -> str:
    """Whether the paper's effects on FPR95 lie in the intervals."""
    header = ["OOD set", "arm", "points", "relative cut (%)"]
    header += [f"{each.points:.2f}" for each in EFFECTS] + [f"{each.cut:.0f}%" for each in EFFECTS]
    rows = []
    for each in found:
        cut, ends = each.relative_cut()
        by_points, by_cut = each.interval(), ends
        inside = [by_points[0] <= effect.points <= by_points[1] for effect in EFFECTS]
        inside += [by_cut[0] <= effect.cut <= by_cut[1] for effect in EFFECTS]
        row = [each.ood_set, each.title, interval(by_points), f"{cut:.1f} {interval(ends)}"]
        rows.append([*row, *("possible" if it else "excluded" for it in inside)])
    return markdown_table(header, rows)


def spread_markdown(found: list[Comparison]) -> str:
    """Where the differences' variance comes from."""
    rows = []
    for each in found:
        within, between = each.spread()
        rows.append([each.ood_set, each.title, f"{within:.2f}", f"{between:.2f}"])
    return markdown_table(["OOD set", "arm", "between seeds", "between draws"], rows)


def quality_markdown(table: pd.DataFrame) -> str:
    """The classifiers' val mAP, and how many trainings there were."""
    once = table.drop_duplicates(["draw", "seed", "bound", "batch_norm", "sn_layers"])
    arms: Any = once.groupby(["bound", "batch_norm", "sn_layers"], sort=False)
    rows = [
        [
            f"{BOUNDS[bound]}, {BATCH_NORMS[batch_norm]}, depth {depth}",
            str(len(of_arm)),
            mean_and_std(of_arm.val_map.mean(), of_arm.val_map.std()),
            f"{of_arm.val_map.min():.2f}",
        ]
        for (bound, batch_norm, depth), of_arm in arms
    ]
    return markdown_table(["arm", "trainings", "val mAP", "lowest"], rows)


def as_markdown(table: pd.DataFrame) -> str:
    """All tables."""
    parts = [f"## {len(table) // table.ood_set.nunique()} trainings", quality_markdown(table)]
    for name, arms in (("main arms", MAIN), ("other arms, exploratory", OTHERS)):
        if name != "main arms" and not (table.bound == "soft3").any():
            continue
        for metric in METRICS:
            found = comparisons(table, metric, arms)
            draws, seeds = found[0].arm.shape
            parts.append(f"## {metric.heading}, {name}: {draws} draws of {seeds} seeds")
            parts.append(family_markdown(found))
        parts.append(f"## The paper's effects on FPR95, {name}")
        parts.append(paper_markdown(comparisons(table, FPR95, arms)))
    parts.append("## Standard deviation of the difference of AUROC, points, main arms")
    parts.append(spread_markdown(comparisons(table, AUROC, MAIN)))
    return "\n\n".join(parts) + "\n"


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draws as dots, their mean with its 95% interval, for each OOD set and metric."""
    sets = list(table.ood_set.unique())
    arms = MAIN + (OTHERS if (table.bound == "soft3").any() else [])
    with matplotlib.style.context(["default", STYLE]):
        height = 1.2 + 0.34 * len(arms) * len(sets)
        figure = Figure(figsize=(10, height), layout="constrained")
        grid = figure.subplots(len(sets), 2, squeeze=False)
        for column, metric in enumerate((AUROC, FPR95)):
            found = comparisons(table, metric, arms)
            for axes, ood_set in zip(grid[:, column], sets, strict=True):
                rows = [each for each in found if each.ood_set == ood_set]
                axes.axvline(0, color="black", linewidth=0.8)
                for position, each in enumerate(rows):
                    values, (low, high) = each.differences, each.interval()
                    mean = values.mean()
                    places = [position] * values.size
                    axes.plot(values, places, "o", color=BLUE, alpha=0.3, markersize=3)
                    axes.errorbar(
                        mean,
                        position,
                        xerr=[[mean - low], [high - mean]],
                        fmt="D",
                        color=VERMILLION,
                        capsize=3,
                        markersize=4,
                    )
                better = "left" if metric.better == "lower" else "right"
                axes.set_title(f"{ood_set}: {metric.title}, better to the {better}", fontsize=10)
                axes.set_xlabel("difference to the control, points; dots: draws")
                axes.set_ylim(len(rows) - 0.5, -0.5)
                titles = [each.title for each in rows] if column == 0 else []
                axes.set_yticks(range(len(rows)), titles or [""] * len(rows), fontsize=8)
        with atomic_file(path) as temporary:
            figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, help="CSV that experiments/findings.py wrote")
    results = parser.parse_args().results
    table = pd.read_csv(results)
    write_text(results.with_suffix(".md"), as_markdown(table))
    draw(table, results.with_suffix(".png"))
    print(as_markdown(table))


if __name__ == "__main__":
    main()
