"""From the long tables to what people read: summaries over seeds, JSON, Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from snojoe.detectors import DETECTORS, PAPER_DETECTORS
from snojoe.evaluation import METRICS
from snojoe.paper import Figures

HEADINGS = {"fpr95": "FPR95 ↓", "auroc": "AUROC ↑", "aupr": "AUPR ↑"}

PaperFigures = Mapping[str, Mapping[Any, Figures]]


def named_scores(table2: pd.DataFrame) -> pd.DataFrame:
    """The rows under the names of Table 2: scores on the control, and JointEnergy with SN.

    The latter is called ``snojoe``; the other scores on the SN model are left out.
    """
    control = table2[table2.model == "control"]
    sn = table2[(table2.model == "sn") & (table2.score == "joint_energy")]
    return pd.concat([control, sn.assign(score="snojoe")], ignore_index=True)


def over_seeds(table: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Mean and standard deviation (n - 1) over seeds: columns (metric, "mean" | "std")."""
    groups = table.groupby(list(keys), sort=False)[list(METRICS)]
    return groups.agg(["mean", "std"])


def scores_tree(table2: pd.DataFrame, classifier: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Content of ``metrics/scores.json``: means over seeds, percent, two decimals.

    ``{"id": {"map": .., ..}, "<ood set>": {"<score>": {"fpr95": .., "auroc": .., "aupr": ..}}}``
    """
    tree: dict[str, Any] = {"id": {}}
    for model, frame in classifier.items():
        suffix = "" if model == "sn" else "_control"
        for name in ("map", "map_interpolated", "accepted"):
            tree["id"][f"{name}{suffix}"] = round(frame[name].mean(), 2)
    tree["id"]["classes"] = int(classifier["sn"].classes.min())
    for (ood_set, score), rows in named_scores(table2).groupby(["ood_set", "score"], sort=False):
        tree.setdefault(str(ood_set), {})[str(score)] = _means(rows)
    return tree


def ablation_tree(table3: pd.DataFrame) -> dict[str, Any]:
    """Content of ``metrics/ablation.json``: ``{"<ood set>": {"<depth>": {"fpr95": .., ..}}}``."""
    tree: dict[str, Any] = {}
    for (ood_set, depth), rows in table3.groupby(["ood_set", "sn_layers"], sort=False):
        tree.setdefault(str(ood_set), {})[str(depth)] = _means(rows)
    return tree


def summary_tree(
    scores: Mapping[str, Any], sn_layers: int, normalized_weights: int
) -> dict[str, Any]:
    """Content of ``metrics/summary.json``: at most a dozen numbers for ``dvc metrics diff``.

    Of each OOD set SNoJoE's three metrics and JointEnergy's FPR95; with more than two sets, the
    means over them.
    """
    sets = {name: tree for name, tree in scores.items() if name != "id"}
    if len(sets) > 2:
        mean = {
            score: {
                m: round(sum(tree[score][m] for tree in sets.values()) / len(sets), 2)
                for m in METRICS
            }
            for score in ("snojoe", "joint_energy")
        }
        sets = {f"mean of {len(sets)} sets": mean}
    return {
        "sn_layers": sn_layers,
        "normalized_weights": normalized_weights,
        "map": scores["id"]["map"],
        "accepted": scores["id"]["accepted"],
        **{
            name: {**tree["snojoe"], "fpr95_control": tree["joint_energy"]["fpr95"]}
            for name, tree in sets.items()
        },
    }


def table2_markdown(table2: pd.DataFrame, paper: PaperFigures, *, every_score: bool = False) -> str:
    """Table 2: each score on the control, then SNoJoE, for each OOD set.

    Parameters
    ----------
    table2 : DataFrame
        As ``score_grid`` gives it.
    paper : mapping
        From OOD set and score to the paper's figures, where the data are the paper's.
    every_score : bool
        Whether to list all scores on both models, or the paper's eight.
    """
    parts = []
    for ood_set in table2.ood_set.unique():
        of_set = table2[table2.ood_set == ood_set]
        if every_score:
            rows = of_set.assign(
                row=[
                    f"{DETECTORS[s].title} ({m})"
                    for s, m in zip(of_set.score, of_set.model, strict=True)
                ]
            )
            titles = None
        else:
            wanted = [detector.name for detector in PAPER_DETECTORS] + ["snojoe"]
            rows = named_scores(of_set)
            rows = rows[rows.score.isin(wanted)].assign(row=lambda frame: frame.score)
            titles = {d.name: d.title for d in PAPER_DETECTORS} | {"snojoe": "SNoJoE"}
        figures = paper.get(ood_set, {})
        parts.append(_block(f"{ood_set}", "score", rows, "row", titles, figures))
    return "\n\n".join(parts) + "\n"


def table3_markdown(table3: pd.DataFrame, paper: PaperFigures) -> str:
    """Table 3: JointEnergy with spectral normalisation on the first #layers.

    Depths that normalise the same weights are one and the same model, and the table says so.
    """
    weights = dict(zip(table3.sn_layers, table3.normalized_weights, strict=True))
    titles: dict[Any, str] = {}
    for depth, count in weights.items():
        same = [d for d in titles if weights[d] == count]
        note = f", the same as {same[0]}" if same else ""
        titles[depth] = f"{depth} ({count} weights{note})"
    parts = [
        _block(s, "#layers", table3[table3.ood_set == s], "sn_layers", titles, paper.get(s, {}))
        for s in table3.ood_set.unique()
    ]
    return "\n\n".join(parts) + "\n"


def _means(rows: pd.DataFrame) -> dict[str, float]:
    return {metric: round(float(rows[metric].mean()), 2) for metric in METRICS}


def _block(
    caption: str,
    heading: str,
    rows: pd.DataFrame,
    key: str,
    titles: Mapping[Any, str] | None,
    figures: Mapping[Any, Figures],
) -> str:
    summary = over_seeds(rows, [key])
    header = [heading, *HEADINGS.values()]
    if figures:
        header += [f"paper's {m.upper()}" for m in METRICS]
    body = []
    for name, row in summary.iterrows():
        cells = [titles[name] if titles else str(name)]
        cells += [mean_and_std(row[m, "mean"], row[m, "std"]) for m in METRICS]
        if figures:
            known = figures.get(name)
            cells += [f"{getattr(known, m):.2f}" if known else "" for m in METRICS]
        body.append(cells)
    seeds = rows.seed.nunique()
    spread = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    return f"**{caption}** (percent, {spread})\n\n{markdown(header, body)}"


def mean_and_std(mean: float, std: float) -> str:
    """``12.34 ± 0.56``, or ``12.34`` where one seed has no spread."""
    return f"{mean:.2f}" if pd.isna(std) else f"{mean:.2f} ± {std:.2f}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up in a terminal too."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(header), line(rule), *(line(row) for row in rows)])
