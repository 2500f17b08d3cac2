"""The pictures: each function draws one from arrays or data frames and writes it as a PNG.

Equal input gives equal bytes, whatever the user's matplotlib settings, so that a changed picture
in git is a changed result. The models are called ``control`` (no spectral normalisation,
SN) and ``sn``; joint energy on them is the paper's JointEnergy and SNoJoE.
"""

from __future__ import annotations

import contextlib
import itertools
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from snojoe.measures.drift import histogram_interval
from snojoe.measures.metrics import FloatArray, check_scores
from snojoe.measures.ood_metrics import OOD_METRICS, Metric
from snojoe.results.leaderboard import MODELS, Place
from snojoe.support.files import atomic_file

# Okabe and Ito's colours, which people with every common colour vision tell apart.
BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, BLACK = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#E69F00",
    "#CC79A7",
    "#56B4E9",
    "#000000",
)
# The two may give the same figures (depth 8 is depth 9 of a ResNet): dashes leave the line below
# visible.
MODEL_STYLES: dict[str, dict[str, Any]] = {
    "control": {"label": "control (JointEnergy)", "color": BLUE, "linestyle": "-"},
    "sn": {"label": "SN (SNoJoE)", "color": VERMILLION, "linestyle": (0, (4, 1.5))},
}
# Set by set and depth by depth; the markers tell apart what is printed in grey.
SET_STYLES: list[dict[str, Any]] = [
    {"color": color, "marker": marker}
    for color, marker in zip(
        (GREEN, PURPLE, SKY, ORANGE, BLACK, BLUE), ("o", "s", "^", "D", "v", "P"), strict=True
    )
]
SPLIT_STYLES: dict[str, dict[str, Any]] = {
    "train": {"linestyle": "-", "marker": "o", "markersize": 3},
    "val": {"linestyle": "--", "marker": "x", "markersize": 4},
}
CHANCE_STYLE: dict[str, Any] = {
    "color": "grey",
    "linewidth": 1,
    "linestyle": ":",
    "label": "chance",
}
DEPTH_COLORS = (VERMILLION, GREEN, ORANGE, PURPLE, SKY, BLACK)
BINS = 40
P_VALUE_BINS = 20
STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.dpi": 120,
    "figure.titlesize": 12,
    "font.size": 9,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "savefig.dpi": "figure",
}


def plot_histograms(
    path: Path,
    id_scores: Mapping[str, ArrayLike],
    ood_scores: Mapping[str, Mapping[str, ArrayLike]],
    thresholds: Mapping[str, float],
    *,
    seed: int,
) -> None:
    """Joint energies of the ID test images against those of each OOD set, one row a model.

    A row's panels share their axes. Scores far from all others are counted in the outermost bin,
    and the label then says so, so that one odd image does not press the rest together.

    Parameters
    ----------
    path : Path
        The PNG to write.
    id_scores : mapping of model to (n,) array
        Joint energies of the ID test images; the models are ``control``, ``sn`` or both.
    ood_scores : mapping of OOD set to mapping of model to (m,) array
        Joint energies of each OOD set's images.
    thresholds : mapping of model to float
        Where each model accepts from, chosen on the val images.
    seed : int
        The seed of the models shown, for the title.

    Raises
    ------
    ValueError
        For an unknown model, no OOD set, or empty, non-finite or not one-dimensional scores.
    """
    models = _styles(id_scores)
    if not ood_scores:
        raise ValueError("ood_scores must hold at least one OOD set, got none")
    title = f"Joint energy of ID test and OOD images\nhigher = more in-distribution; seed {seed}"
    size = (max(5.6, 2.9 * len(ood_scores)), 0.9 + 2.5 * len(models))
    with _figure(path, title, size) as figure:
        grid = figure.subplots(
            len(models), len(ood_scores), squeeze=False, sharex="row", sharey="row"
        )
        for row, (model, look) in zip(grid, models.items(), strict=True):
            id_ = check_scores(f"id_scores[{model!r}]", id_scores[model])
            ood = [
                check_scores(f"ood_scores[{name!r}][{model!r}]", scores[model])
                for name, scores in ood_scores.items()
            ]
            _draw_histograms(row, id_, ood, thresholds[model])
            row[0].set_ylabel(f"{look['label']}\n% of the set's images")
        for axes, name in zip(grid[0], ood_scores, strict=True):
            axes.set_title(f"{_wrapped(name)}\n{axes.get_title()}", fontsize=9)
        _legend_below(figure, *grid[0, 0].get_legend_handles_labels())


def plot_roc(path: Path, roc: pd.DataFrame) -> None:
    """ROC of joint energy per OOD set: mean over seeds, with a band from lowest to highest.

    Parameters
    ----------
    path : Path
        The PNG to write.
    roc : DataFrame
        Columns ``ood_set``, ``model`` (``control`` or ``sn``), ``seed``, ``fpr``, ``tpr``:
        `snojoe.measures.curves.roc_series` of each; fractions.

    Raises
    ------
    ValueError
        For an empty frame, a missing column or an unknown model.
    """
    _check_frame("roc", roc, ["ood_set", "model", "seed", "fpr", "tpr"])
    with _curves(path, "ROC of joint energy, ID test against OOD", roc, "fpr", "tpr") as panels:
        for axes in panels.values():
            axes.plot([0, 1], [0, 1], **CHANCE_STYLE)
            axes.set_xlabel("false positive rate: OOD accepted")
            axes.set_ylabel("true positive rate: ID accepted")


def plot_pr(path: Path, pr: pd.DataFrame, chance: Mapping[str, float]) -> None:
    """Precision-recall curve per OOD set, ID positive, drawn as the ROC is.

    Parameters
    ----------
    path : Path
        The PNG to write.
    pr : DataFrame
        Columns ``ood_set``, ``model`` (``control`` or ``sn``), ``seed``, ``recall``,
        ``precision``: `snojoe.measures.curves.pr_series` of each; fractions.
    chance : mapping of OOD set to float
        Share of ID images in ID test and OOD set together, the precision of guessing.

    Raises
    ------
    ValueError
        For an empty frame, a missing column or an unknown model.
    """
    _check_frame("pr", pr, ["ood_set", "model", "seed", "recall", "precision"])
    title = "Precision and recall of joint energy, ID positive"
    with _curves(path, title, pr, "recall", "precision") as panels:
        for name, axes in panels.items():
            axes.axhline(chance[name], **CHANCE_STYLE)
            axes.set_xlabel("recall: share of ID accepted")
            axes.set_ylabel("precision: share of ID among accepted")


def plot_training(path: Path, history: pd.DataFrame) -> None:
    """Loss and val mAP by epoch for each depth, with a band over seeds.

    Parameters
    ----------
    path : Path
        The PNG to write.
    history : DataFrame
        Columns ``sn_layers``, ``seed``, ``epoch`` (from 1), ``train_loss``, ``val_loss`` and
        ``val_map`` (fraction).

    Raises
    ------
    ValueError
        For an empty frame or a missing column.
    """
    columns = ["sn_layers", "seed", "epoch", "train_loss", "val_loss", "val_map"]
    _check_frame("history", history, columns)
    title = f"Training, {_over_seeds(history)}"
    history = history.assign(val_map=100 * history["val_map"])
    colors = _depth_colors(history["sn_layers"].unique())
    with _figure(path, title, (8.4, 3.9)) as figure:
        loss, val_map = figure.subplots(1, 2)
        for depth, color in colors.items():
            runs = history[history["sn_layers"] == depth]
            _draw_seeds(loss, runs, "epoch", "train_loss", color=color, **SPLIT_STYLES["train"])
            _draw_seeds(loss, runs, "epoch", "val_loss", color=color, **SPLIT_STYLES["val"])
            _draw_seeds(val_map, runs, "epoch", "val_map", color=color, **SPLIT_STYLES["val"])
        loss.set_ylabel("binary cross-entropy per label")
        val_map.set_ylabel("val mAP (%)")
        for axes in (loss, val_map):
            axes.set(xlabel="epoch", xlim=(0.5, history["epoch"].max() + 0.5))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        labels = [f"SN on {depth} layers" if depth else "control" for depth in colors]
        handles = [Line2D([], [], color=color) for color in colors.values()]
        if len(colors) == 1:  # nothing to tell it apart from
            labels, handles = [], []
        labels += SPLIT_STYLES
        handles += [Line2D([], [], color="dimgrey", **look) for look in SPLIT_STYLES.values()]
        _legend_below(figure, handles, labels)


def plot_ablation(path: Path, table3: pd.DataFrame, intervals: pd.DataFrame) -> None:
    """FPR95, AUROC and AUPR of joint energy by depth of SN (Table 3).

    Each seed is a dot; the bars are 95% intervals for new trainings and new images.

    Parameters
    ----------
    path : Path
        The PNG to write.
    table3 : DataFrame
        Columns ``ood_set``, ``sn_layers``, ``seed``, ``fpr95``, ``auroc``, ``aupr``; percent.
    intervals : DataFrame
        As `table3.ablation_series` gives it: the means over seeds, and of each metric its
        ``_low`` and ``_high`` end.

    Raises
    ------
    ValueError
        For an empty frame or a missing column.
    """
    columns = ["ood_set", "sn_layers", "seed", *(metric.name for metric in OOD_METRICS)]
    _check_frame("table3", table3, columns)
    seeds = table3["seed"].nunique()
    spread = f"mean of {seeds} seeds (dots: each)" if seeds > 1 else "one seed"
    title = f"Joint energy by depth of SN, {spread}, 95% interval"
    with _figure(path, title, (10.2, 4.2)) as figure:
        panels = figure.subplots(1, len(OOD_METRICS))
        for axes, metric in zip(panels, OOD_METRICS, strict=True):
            _draw_depths(axes, table3, intervals, metric)
        _legend_below(figure, *panels[0].get_legend_handles_labels())


def plot_leaderboard(path: Path, places: Sequence[Place]) -> None:
    """Mean rank of every row over the OOD sets, the best at the top, with its 95% interval.

    Parameters
    ----------
    path : Path
        The PNG to write.
    places : sequence of Place
        `leaderboard.leaderboard`, the best first.

    Raises
    ------
    ValueError
        For no place.
    """
    if not places:
        raise ValueError("places must hold at least one row, got none")
    scores = list(dict.fromkeys(place.title for place in places))
    height = {title: len(scores) - i for i, title in enumerate(scores)}
    title = "Mean rank over the OOD sets, by AUROC, 95% interval"
    with _figure(path, title, (6.4, 1.4 + 0.24 * len(scores))) as figure:
        axes = figure.subplots()
        models = _styles({place.model for place in places})
        for model, style in models.items():
            rows = [place for place in places if place.model == model]
            at = [height[row.title] - 0.15 * (model == "sn") for row in rows]
            color = style["color"]
            axes.hlines(at, [row.low for row in rows], [row.high for row in rows], color=color)
            marker = "os"[model == "sn"]
            label = MODELS[model] if len(models) > 1 else style["label"]
            axes.plot([row.rank for row in rows], at, marker, color=color, label=label)
        axes.set_yticks(list(height.values()), list(height))
        axes.set(xlabel=f"mean rank of {len(places)}, 1 is the best", ylim=(0.3, len(scores) + 0.7))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend_below(figure, *axes.get_legend_handles_labels())


def plot_sigmas(path: Path, sigmas: pd.DataFrame) -> None:
    """Spectral norm of every weight before and after training, control and SN, from input on.

    Parameters
    ----------
    path : Path
        The PNG to write.
    sigmas : DataFrame
        Columns ``model`` (``control`` or ``sn``), ``epoch`` (0 is before), ``weight``, ``sigma``,
        ``normalized``; one seed. Weights are drawn in the order of the frame.

    Raises
    ------
    ValueError
        For an empty frame, a missing column or an unknown model.
    """
    _check_frame("sigmas", sigmas, ["model", "epoch", "weight", "sigma", "normalized"])
    models = _styles(sigmas["model"].unique())
    last = sigmas["epoch"].max()
    title = f"Spectral norm of each weight, from the input on, {last} epochs"
    with _figure(path, title, (max(7.0, 0.06 * sigmas["weight"].nunique()), 3.8)) as figure:
        axes = figure.subplots()
        for model, look in models.items():
            runs = sigmas[sigmas["model"] == model]
            for epoch, fill in ((0, "none"), (last, "full")):
                rows = runs[runs["epoch"] == epoch]
                when = "before" if epoch == 0 else "after"
                axes.plot(
                    np.arange(1, len(rows) + 1),
                    rows["sigma"],
                    color=look["color"],
                    fillstyle=fill,
                    label=f"{look['label']}, {when}",
                    linewidth=0.7,
                    marker="os"[model == "sn"],
                    markersize=4.5 if len(rows) < 60 else 2.5,
                )
        axes.set(xlabel="weight, counted from the input", ylabel="σ of the reshaped kernel")
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend_below(figure, *axes.get_legend_handles_labels())


def plot_distances(path: Path, distances: pd.DataFrame) -> None:
    """Feature distance against input distance of pairs of images, one panel a model.

    The lines through the origin are the smallest and the largest ratio: the empirical bounds of
    eq. 14.

    Parameters
    ----------
    path : Path
        The PNG to write.
    distances : DataFrame
        Columns ``model``, ``seed``, ``pair`` (``id``: two ID images, else one ID image and one of
        the OOD set of that name), ``input``, ``feature``; one seed.

    Raises
    ------
    ValueError
        For an empty frame, a missing column or an unknown model.
    """
    _check_frame("distances", distances, ["model", "pair", "input", "feature"])
    models = _styles(distances["model"].unique())
    names = list(distances["pair"].unique())
    title = "Distance of two images to the network's features, against that of the images"
    with _figure(path, title, (max(6.4, 4.5 * len(models)), 4.6)) as figure:
        panels = figure.subplots(1, len(models), squeeze=False)[0]
        for axes, (model, style) in zip(panels, models.items(), strict=True):
            rows = distances[distances["model"] == model]
            for name, look in zip(names, itertools.cycle(SET_STYLES), strict=False):
                of_pair = rows[rows["pair"] == name]
                label = "two ID images" if name == "id" else f"ID and {name}"
                axes.plot(
                    of_pair["input"],
                    of_pair["feature"],
                    linestyle="",
                    alpha=0.3,
                    markersize=2.5,
                    label=label,
                    **look,
                )
            ratio = rows["feature"] / rows["input"]
            x = np.array([0, rows["input"].max()])
            bounds = ratio.min(), ratio.max()
            for bound in bounds:
                axes.plot(x, bound * x, color=BLACK, linewidth=0.8, linestyle="--")
            axes.set(xlabel="distance of the normalised images", ylabel="distance of the features")
            axes.set_title(f"{style['label']}\nratios from {bounds[0]:.2g} to {bounds[1]:.2g}")
            axes.set_xlim(0)
            axes.set_ylim(0, 1.15 * rows["feature"].max())
        _legend_below(figure, *axes.get_legend_handles_labels())


def plot_drift(
    path: Path,
    dates: Sequence[str],
    flagged: ArrayLike,
    promised: ArrayLike,
    drifted: ArrayLike,
    ranks: Sequence[ArrayLike],
    n: int,
) -> None:
    """Share of images that is flagged by day, and all conformal p-values: `snojoe drift`.

    Parameters
    ----------
    path : Path
        The PNG to write.
    dates : sequence of d str
    flagged : (d,) array
        Share of each day's images, a fraction.
    promised : (d, 2) array
        Within which it is expected.
    drifted : (d,) bool array
    ranks : sequence of d int arrays
        For each image of a day the number of calibration scores that are as low.
    n : int
        Number of calibration images.
    """
    shares, bounds, out = np.asarray(flagged), np.asarray(promised), np.asarray(drifted, bool)
    with _figure(path, "Are the images like those of the calibration?", (9, 3.6)) as figure:
        by_day, all_days = figure.subplots(1, 2, width_ratios=[3, 2])
        place = np.arange(len(dates))
        height = 100 * (bounds[:, 1] - bounds[:, 0])
        look: dict[str, Any] = {"color": SKY, "alpha": 0.4}
        by_day.bar(place, height, 0.8, 100 * bounds[:, 0], label="promised, 95% of days", **look)
        for which, color, marker, label in (
            (~out, BLUE, "o", "flagged"),
            (out, VERMILLION, "X", "flagged, on a day of drift"),
        ):
            if which.any():
                by_day.scatter(
                    place[which], 100 * shares[which], color=color, marker=marker, label=label
                )
        step = ceil(len(dates) / 8)
        by_day.set_xticks(place[::step], dates[::step], rotation=30, ha="right")
        by_day.set_ylabel("% of the day's images")
        by_day.set_ylim(bottom=0)
        by_day.set_title("out-of-distribution by day (UTC)")

        p = [(np.asarray(of_day) + 1) / (n + 1) for of_day in ranks]
        images = sum(each.size for each in p)
        expected = 100 * histogram_interval(images, n, P_VALUE_BINS) / images
        edges = np.linspace(0, 1, P_VALUE_BINS + 1)
        all_days.stairs(expected[:, 1], edges, baseline=expected[:, 0], fill=True, **look)
        drift = [each for each, is_out in zip(p, out, strict=True) if is_out]
        for values, color, label in ((p, BLUE, "all days"), (drift, VERMILLION, "days of drift")):
            if values:
                together = np.concatenate(values)
                shown = 100 * np.histogram(together, edges)[0] / together.size
                all_days.stairs(shown, edges, baseline=None, color=color, label=label)
        all_days.set_xlabel("conformal p-value")
        all_days.set_ylabel("% of images")
        all_days.set_title("shaded: 95% without drift")
        all_days.set_ylim(bottom=0)
        all_days.margins(x=0)
        both = [axes.get_legend_handles_labels() for axes in (by_day, all_days)]
        _legend_below(figure, both[0][0] + both[1][0], both[0][1] + both[1][1])


@contextlib.contextmanager
def _figure(path: Path, title: str, size: tuple[float, float]) -> Iterator[Figure]:
    """Yield a figure of `size` inches that is written to `path` when the block succeeds."""
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=size, layout="constrained")
        figure.suptitle(title)
        yield figure
        with atomic_file(path) as temporary:
            figure.savefig(
                temporary, format="png", metadata={"Software": None}, pil_kwargs={"optimize": True}
            )


@contextlib.contextmanager
def _curves(
    path: Path, title: str, curves: pd.DataFrame, x: str, y: str
) -> Iterator[dict[str, Axes]]:
    """Yield one square panel per OOD set, the models' curves drawn."""
    models = _styles(curves["model"].unique())
    names = list(curves["ood_set"].unique())
    columns = len(names) if len(names) <= 3 else ceil(len(names) / 2)
    rows = ceil(len(names) / columns)
    size = (max(5.2, 3.4 * columns), 0.8 + 3.6 * rows)
    with _figure(path, f"{title}\n{_over_seeds(curves)}", size) as figure:
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for unused in grid[len(names) :]:
            unused.remove()
        panels = dict(zip(names, grid, strict=False))
        for name, axes in panels.items():
            for model, look in models.items():
                runs = curves[(curves["ood_set"] == name) & (curves["model"] == model)]
                _draw_seeds(axes, runs, x, y, **look)
            axes.set(title=_wrapped(name), xlim=(0, 1), ylim=(0, 1.01), box_aspect=1)
        yield panels
        _legend_below(figure, *grid[0].get_legend_handles_labels())


def _draw_seeds(axes: Axes, runs: pd.DataFrame, x: str, y: str, **line: Any) -> None:
    """Mean of `y` over the seeds at each `x`, with a band from lowest to highest."""
    by_seed = runs.pivot_table(index=x, columns="seed", values=y)
    axes.plot(by_seed.index, by_seed.mean(axis=1), **line)
    if by_seed.shape[1] > 1:
        low, high = by_seed.min(axis=1), by_seed.max(axis=1)
        axes.fill_between(by_seed.index, low, high, color=line["color"], alpha=0.18, linewidth=0)


def _draw_depths(axes: Axes, table3: pd.DataFrame, intervals: pd.DataFrame, metric: Metric) -> None:
    """A metric by depth: the OOD sets beside one another, seeds as dots, intervals as bars."""
    depths = sorted(table3["sn_layers"].unique())
    sets = list(table3["ood_set"].unique())
    offsets = 0.13 * (np.arange(len(sets)) - (len(sets) - 1) / 2)
    for offset, name, look in zip(offsets, sets, itertools.cycle(SET_STYLES), strict=False):
        runs = table3[table3["ood_set"] == name]
        axes.plot(
            runs["sn_layers"].map(depths.index) + offset + 0.05,
            runs[metric.name],
            "o",
            color=look["color"],
            alpha=0.35,
            markersize=2.5,
        )
        of_set = intervals[intervals["ood_set"] == name].set_index("sn_layers").loc[depths]
        mean, low, high = (of_set[f"{metric.name}{end}"] for end in ("", "_low", "_high"))
        axes.errorbar(
            np.arange(len(depths)) + offset,
            mean,
            yerr=[mean - low, high - mean],
            capsize=2.5,
            elinewidth=1,
            linewidth=0.7,
            markersize=4.5,
            label=_wrapped(name),
            **look,
        )
    axes.set(
        xlabel="layers with SN (0 = control)",
        ylabel=f"{metric.title} (%), {metric.better} is better",
    )
    axes.set_xticks(range(len(depths)), [str(depth) for depth in depths])
    axes.set_xlim(-0.5, len(depths) - 0.5)
    axes.grid(visible=False, axis="x")


def _draw_histograms(
    panels: Iterable[Axes], id_scores: FloatArray, ood_scores: list[FloatArray], tau: float
) -> None:
    """One panel for each OOD set, beside the ID images and the threshold."""
    edges, label = _bins(np.concatenate([id_scores, *ood_scores, [tau]]))
    for axes, scores in zip(panels, ood_scores, strict=True):
        _draw_shares(axes, id_scores, edges, color=GREEN, label="ID test")
        _draw_shares(axes, scores, edges, color=ORANGE, label="OOD")
        axes.axvline(tau, color=BLACK, linewidth=1, linestyle="--", label="val threshold τ")
        accepted = f"ID {_share_from(id_scores, tau)}, OOD {_share_from(scores, tau)}"
        axes.set_title(f"≥ τ = {tau:.4g}: {accepted}", fontsize=9)
        axes.set_xlabel(label)
        axes.margins(x=0)


def _draw_shares(axes: Axes, scores: FloatArray, edges: FloatArray, **look: Any) -> None:
    """Histogram in per cent of the set, so that sets of different size compare."""
    counts, _ = np.histogram(np.clip(scores, edges[0], edges[-1]), edges)
    axes.stairs(100 * counts / scores.size, edges, fill=True, alpha=0.3, color=look["color"])
    axes.stairs(100 * counts / scores.size, edges, color=look["color"], label=look["label"])


def _bins(scores: FloatArray) -> tuple[FloatArray, str]:
    """Bin edges that span all scores but those far outside the middle 99%, and the axis label."""
    low, high = np.percentile(scores, [0.5, 99.5])
    margin = (high - low) / 2
    ends = max(scores.min(), low - margin), min(scores.max(), high + margin)
    within = ends == (scores.min(), scores.max())
    label = "joint energy" if within else "joint energy (outermost bins: all beyond)"
    return np.histogram_bin_edges([], BINS, range=ends), label


def _share_from(scores: FloatArray, tau: float) -> str:
    return f"{100 * np.mean(scores >= tau):.1f}%"


def _depth_colors(depths: Iterable[int]) -> dict[int, str]:
    normalised = sorted(int(depth) for depth in depths if depth)
    colors = {depth: DEPTH_COLORS[i % len(DEPTH_COLORS)] for i, depth in enumerate(normalised)}
    return {0: BLUE, **colors} if 0 in depths else colors


def _legend_below(figure: Figure, handles: list[Any], labels: list[str]) -> None:
    widths = sorted(0.6 + 0.065 * max(map(len, label.split("\n"))) for label in labels)
    fitting = [n for n in range(1, len(widths) + 1) if sum(widths[-n:]) < figure.get_figwidth()]
    figure.legend(handles, labels, loc="outside lower center", ncols=max(fitting, default=1))


def _over_seeds(runs: pd.DataFrame) -> str:
    seeds = runs["seed"].nunique()
    return f"mean of {seeds} seeds, band from lowest to highest" if seeds > 1 else "one seed"


def _wrapped(name: str) -> str:
    """`name` in lines that break behind an underscore or hyphen where there is one."""
    lines = textwrap.wrap(name.replace("_", "_ "), width=36)
    return "\n".join(line.replace("_ ", "_") for line in lines)


def _styles(models: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Of each model; one alone is no control of anything."""
    given = set(models)
    if not given or not given <= MODEL_STYLES.keys():
        raise ValueError(f"models must be among {', '.join(MODEL_STYLES)}; got {sorted(given)}")
    if given == {"control"}:
        return {"control": MODEL_STYLES["control"] | {"label": "network"}}
    return {model: style for model, style in MODEL_STYLES.items() if model in given}


def _check_frame(name: str, frame: pd.DataFrame, columns: list[str]) -> None:
    missing = [column for column in columns if column not in frame]
    if missing:
        raise ValueError(f"{name} must have the columns {', '.join(columns)}; misses {missing}")
    if frame.empty:
        raise ValueError(f"{name} must have at least one row, got none")
