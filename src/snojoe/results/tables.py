"""From the long tables to what people read: summaries over seeds, JSON, Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any, NamedTuple

import pandas as pd

from snojoe.detectors import DETECTORS, PAPER_DETECTORS
from snojoe.measures.statistics import METRICS, Bootstrap, PairedTTest, bold_rows, paired_t_test
from snojoe.results.grids import ScoreRow
from snojoe.results.paper import Figures
from snojoe.support.text import aligned

HEADINGS = {"fpr95": "FPR95 ↓", "auroc": "AUROC ↑", "aupr": "AUPR ↑"}

PaperFigures = Mapping[str, Mapping[Any, Figures]]
"""OOD set -> row -> the paper's figures, where the data are the paper's."""

Bootstraps = Mapping[str, Mapping[Any, Mapping[str, Bootstrap]]]
"""OOD set -> row -> metric -> its resamples, as fractions."""


def paper_rows(sn_layers: int) -> dict[str, ScoreRow]:
    """The eight rows of Table 2 by name: scores on the control, and JointEnergy with SN."""
    control = {detector.name: ScoreRow(detector.name, "control", 0) for detector in PAPER_DETECTORS}
    return control | {"snojoe": ScoreRow("joint_energy", "sn", sn_layers)}


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


class Comparison(NamedTuple):
    """SNoJoE - JointEnergy in one metric: over images, and paired over seeds (percent)."""

    over_images: Bootstrap
    over_seeds: PairedTTest


def compare(table2: pd.DataFrame, bootstraps: Bootstraps) -> dict[str, dict[str, Comparison]]:
    """SNoJoE - JointEnergy: ``[ood_set][metric]``."""
    table = named_scores(table2)
    comparisons: dict[str, dict[str, Comparison]] = {}
    for ood_set, rows in bootstraps.items():
        of_set = table[table.ood_set == ood_set]
        snojoe, joint_energy = (of_set[of_set.score == s] for s in ("snojoe", "joint_energy"))
        comparisons[ood_set] = {
            metric: Comparison(
                rows["snojoe"][metric] - rows["joint_energy"][metric],
                paired_t_test(snojoe[metric], joint_energy[metric]),
            )
            for metric in METRICS
        }
    return comparisons


def statistics_tree(
    bootstraps: Bootstraps,
    comparisons: Mapping[str, Mapping[str, Comparison]],
    images: Mapping[str, int],
    tuning: Mapping[str, Any],
) -> dict[str, Any]:
    """Content of ``metrics/statistics.json``, in percent; docs/statistics.md has the keys."""
    first = next(iter(bootstraps.values()))["snojoe"]["fpr95"]
    tree: dict[str, Any] = {
        "resamples": first.replicates.size,
        "images": dict(images),
        "tuning": dict(tuning),
        "ood_sets": {},
    }
    for ood_set, rows in bootstraps.items():
        reduction = rows["snojoe"]["fpr95"].relative_reduction(rows["joint_energy"]["fpr95"])
        tree["ood_sets"][ood_set] = {
            "interval": {
                row: {metric: _percent(*cell.interval()) for metric, cell in cells.items()}
                for row, cells in rows.items()
            },
            "bold": {metric: sorted(_bold(rows, metric)) for metric in METRICS},
            "snojoe_minus_joint_energy": {
                metric: {
                    "difference": _percent(over_images.estimate)[0],
                    "interval": _percent(*over_images.interval()),
                    "p_over_images": round(over_images.p_value(), 7),
                    "p_over_seeds": _number(over_seeds.p_value),
                    "effect_size": _number(over_seeds.effect_size),
                    "seeds": over_seeds.n,
                    "note": over_seeds.note,
                }
                for metric, (over_images, over_seeds) in comparisons[ood_set].items()
            },
            "relative_reduction_of_fpr95": {
                "reduction": _percent(reduction.estimate)[0],
                "interval": _percent(*reduction.interval()),
            },
        }
    return tree


def table2_markdown(
    table2: pd.DataFrame,
    bootstraps: Bootstraps,
    images: Mapping[str, int],
    paper: PaperFigures,
) -> str:
    """Table 2: each score on the control, then SNoJoE, and their difference; for each OOD set.

    Parameters
    ----------
    table2 : DataFrame
        ``score_grid(...).metrics()``.
    bootstraps : mapping
        Of the rows that ``paper_rows`` names.
    images : mapping
        Number of images of "id" and of each OOD set.
    paper : mapping
    """
    titles = {d.name: d.title for d in PAPER_DETECTORS} | {"snojoe": "SNoJoE"}
    table = named_scores(table2)
    comparisons = compare(table2, bootstraps)
    parts = []
    for ood_set, cells in bootstraps.items():
        rows = table[(table.ood_set == ood_set) & table.score.isin(list(titles))]
        figures = paper.get(ood_set, {})
        parts.append(_block(ood_set, "score", rows, "score", titles, figures, cells))
        n = f"{images['id']:,} + {images[ood_set]:,} images"
        parts.append(_comparison_block(comparisons[ood_set], cells, n, figures))
    return "\n\n".join(parts) + "\n"


def full_table2_markdown(table2: pd.DataFrame) -> str:
    """Every score on both models, for each OOD set: a grid that the paper does not have."""
    model = table2.model.map({"control": "control", "sn": "with SN"})
    table = table2.assign(row=table2.score.map(lambda s: DETECTORS[s].title) + ", " + model)
    titles = {row: row for row in table.row}
    parts = [
        _block(s, "score", table[table.ood_set == s], "row", titles, {})
        for s in table.ood_set.unique()
    ]
    return "\n\n".join(parts) + "\n"


def table3_markdown(table3: pd.DataFrame, bootstraps: Bootstraps, paper: PaperFigures) -> str:
    """Table 3: JointEnergy with spectral normalisation on the first #layers, and the val mAP.

    Parameters
    ----------
    table3 : DataFrame
        ``depth_grid(...).metrics()``, and of each model its ``map``.
    bootstraps : mapping
        Of the depths.
    paper : mapping
    """
    titles = depth_titles(table3)
    parts = []
    for ood_set, cells in bootstraps.items():
        rows = table3[table3.ood_set == ood_set]
        figures = paper.get(ood_set, {})
        quality: Any = rows.groupby("sn_layers")["map"].agg(["mean", "std"])
        maps = {depth: mean_and_std(*quality.loc[depth]) for depth in titles}
        block = _block(
            ood_set, "#layers", rows, "sn_layers", titles, figures, cells, {"val mAP ↑": maps}
        )
        parts.append(block)
    return "\n\n".join(parts) + "\n"


def depths_in_short(table3: pd.DataFrame) -> str:
    """FPR95 on each OOD set and val mAP of each depth, mean ± standard deviation, for a terminal.

    `table3` as in `table3_markdown`.
    """
    wide = table3.pivot_table(index=["sn_layers", "seed"], columns="ood_set", values="fpr95")
    wide = wide[list(table3.ood_set.unique())]
    wide["val mAP"] = table3.groupby(["sn_layers", "seed"])["map"].first()
    summary: Any = wide.groupby("sn_layers").agg(["mean", "std"])
    rows = [["sn_layers", *wide.columns]]
    rows += [
        [str(depth), *(mean_and_std(*summary.loc[depth, name]) for name in wide.columns)]
        for depth in summary.index
    ]
    return aligned(rows)


def depth_titles(table3: pd.DataFrame) -> dict[int, str]:
    """Depth -> what its row is called; it says which depths normalise the same weights."""
    weights = dict(zip(table3.sn_layers, table3.normalized_weights, strict=True))
    titles: dict[int, str] = {}
    for depth, count in weights.items():
        same = [d for d in titles if weights[d] == count]
        titles[depth] = f"{depth} ({count} weights{f', those of {same[0]}' if same else ''})"
    return titles


def id_test_note(report: Mapping[str, Any]) -> str:
    """A sentence to end a table with where the ID test set is the val split, otherwise nothing."""
    if not report["id_test_is_val"]:
        return ""
    return "\nThe in-distribution test set is the val split, by choice (data.splits.test).\n"


def ablation_series(table3: pd.DataFrame, bootstraps: Bootstraps) -> pd.DataFrame:
    """Content of ``plots/ablation.csv``: means over seeds and 95% intervals, percent.

    Columns ``ood_set``, ``sn_layers`` and, of each metric, ``fpr95``, ``fpr95_low``,
    ``fpr95_high``.
    """
    means = table3.groupby(["ood_set", "sn_layers"], as_index=False)[list(METRICS)].mean()
    for metric in METRICS:
        intervals = [
            _percent(*bootstraps[ood_set][depth][metric].interval())
            for ood_set, depth in zip(means.ood_set, means.sn_layers, strict=True)
        ]
        means[f"{metric}_low"], means[f"{metric}_high"] = zip(*intervals, strict=True)
    ends = [f"{metric}{end}" for metric in METRICS for end in ("", "_low", "_high")]
    return means[["ood_set", "sn_layers", *ends]]


def tuning_markdown(tuning: Mapping[str, Mapping[str, Any]]) -> str:
    """What tuning chose, or that nothing was tuned.

    Parameters
    ----------
    tuning : mapping
        From "control" and "sn" to seed to ``Experiment.tuning``.
    """
    rows = [
        [
            f"{DETECTORS[score].title}, {model}, seed {seed}",
            f"{chosen['eps']:g}",
            ", ".join(f"{value:g}" for value in chosen["params"].values()),
            f"{chosen['fpr95']:.2f}",
        ]
        for model, by_seed in tuning.items()
        for seed, by_score in by_seed.items()
        for score, chosen in by_score.items()
    ]
    if not rows:
        return "ODIN has T = 1 and, as Mahalanobis, no input noise: `infer.tune` is off.\n"
    return (
        "Tuned on pseudo-OOD images made of val:\n\n"
        f"{markdown(['score', 'ε', 'T', 'mean FPR95 there'], rows)}\n"
    )


def _means(rows: pd.DataFrame) -> dict[str, float]:
    return {metric: round(float(rows[metric].mean()), 2) for metric in METRICS}


def _block(
    caption: str,
    heading: str,
    rows: pd.DataFrame,
    key: str,
    titles: Mapping[Any, str],
    figures: Mapping[Any, Figures],
    bootstraps: Mapping[Any, Mapping[str, Bootstrap]] | None = None,
    more: Mapping[str, Mapping[Any, str]] | None = None,
) -> str:
    """One table; `more` are further columns: heading -> row -> text."""
    more = more or {}
    summary = over_seeds(rows, [key])
    bold = {metric: _bold(bootstraps, metric) if bootstraps else set() for metric in METRICS}
    header = [heading, *HEADINGS.values(), *more]
    if figures:
        header += [f"paper's {m.upper()}" for m in METRICS]
    body = []
    for name, row in summary.iterrows():
        cells = []
        for metric in METRICS:
            cell = mean_and_std(row[metric, "mean"], row[metric, "std"])
            if bootstraps:
                cell += f" {_interval(bootstraps[name][metric])}"
            cells.append(f"**{cell}**" if name in bold[metric] else cell)
        cells += [column[name] for column in more.values()]
        if figures:
            known = figures.get(name)
            cells += [f"{getattr(known, m):.2f}" if known else "" for m in METRICS]
        body.append([titles[name], *cells])
    seeds = rows.seed.nunique()
    note = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    if bootstraps:
        note += ", [95% interval over images]; bold: the best, and what is not separable from it"
    return f"**{caption}** (percent; {note})\n\n{markdown(header, body)}"


def _comparison_block(
    comparison: Mapping[str, Comparison],
    cells: Mapping[str, Mapping[str, Bootstrap]],
    images: str,
    figures: Mapping[str, Figures],
) -> str:
    over_images = [each.over_images for each in comparison.values()]
    over_seeds = [each.over_seeds for each in comparison.values()]
    n = over_seeds[0].n
    rows = [
        ["difference", *(f"{100 * d.estimate:+.2f} {_interval(d)}" for d in over_images)],
        [f"bootstrap, n = {images}", *(p_value(d.p_value()) for d in over_images)],
        [
            f"paired t-test, n = {n} seeds",
            *(
                f"**{p_value(t.p_value)}**" if t.significant() else p_value(t.p_value)
                for t in over_seeds
            ),
        ],
        [
            "effect size d",
            *("" if isnan(t.effect_size) else f"{t.effect_size:+.2f}" for t in over_seeds),
        ],
    ]
    reduction = cells["snojoe"]["fpr95"].relative_reduction(cells["joint_energy"]["fpr95"])
    cut = f"{100 * reduction.estimate:.1f}% {_interval(reduction)}"
    if isnan(reduction.estimate):
        cut = "none, JointEnergy's is 0"
    if figures:
        cut += f"; the paper's: {paper_cut(figures):.0f}%"
    notes = dict.fromkeys(t.note for t in over_seeds if t.note)
    table = markdown(["SNoJoE - JointEnergy", *HEADINGS.values()], rows)
    return "\n\n".join([table, f"Relative cut of FPR95: {cut}", *notes])


def paper_cut(figures: Mapping[str, Figures]) -> float:
    """The paper's relative cut of FPR95 by SN, in percent, from its own Table 2."""
    return 100 * (1 - figures["snojoe"].fpr95 / figures["joint_energy"].fpr95)


def _bold(rows: Mapping[Any, Mapping[str, Bootstrap]], metric: str) -> set[Any]:
    column = {name: cells[metric] for name, cells in rows.items()}
    return bold_rows(column, higher_is_better=metric != "fpr95")


def _interval(bootstrap: Bootstrap) -> str:
    low, high = bootstrap.interval()
    return f"[{100 * low:.2f}, {100 * high:.2f}]"


def _percent(*fractions: float) -> list[float | None]:
    return [_number(100 * fraction, digits=2) for fraction in fractions]


def _number(value: float, digits: int = 5) -> float | None:
    """For JSON, which has no NaN."""
    return None if isnan(value) else round(value, digits)


def p_value(p: float) -> str:
    """``p = 0.012``, ``p < 0.001``, or a dash where there is no test."""
    return "–" if isnan(p) else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def mean_and_std(mean: float, std: float) -> str:
    """``12.34 ± 0.56``, or ``12.34`` where one seed has no spread."""
    return f"{mean:.2f}" if pd.isna(std) else f"{mean:.2f} ± {std:.2f}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up in a terminal too."""
    # Two at least: a rule that says "to the right" is a dash and a colon.
    widths = [max(2, *(len(row[i]) for row in [header, *rows])) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(header), line(rule), *(line(row) for row in rows)])
