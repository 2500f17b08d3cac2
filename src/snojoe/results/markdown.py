"""Tables 2 and 3 in Markdown, for ``metrics/*.md``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from snojoe.data.prepared import PreparedSets
from snojoe.detectors import DETECTORS
from snojoe.inference.tuned import Tuning
from snojoe.measures.ood_metrics import OOD_METRICS
from snojoe.results.formatting import interval, markdown_table, p_value, relative_cut
from snojoe.results.statistics_json import SetStatistics, Statistics
from snojoe.results.tables import Cell, FullSetTable, SetTable

_HEADINGS = [metric.heading for metric in OOD_METRICS]


def table2_markdown(
    tables: Sequence[SetTable], statistics: Statistics, paper_cuts: Mapping[str, float], seeds: int
) -> str:
    """Table 2, and below each OOD set's rows the difference SNoJoE - JointEnergy.

    Parameters
    ----------
    tables : sequence of SetTable
        `tables.table2_sets`.
    statistics : Statistics
    paper_cuts : mapping
        OOD set -> the paper's own relative cut of FPR95, in percent.
    seeds : int
        Their number.
    """
    parts = []
    for table in tables:
        images = f"{statistics.images['id']:,} + {statistics.images[table.ood_set]:,} images"
        of_set = statistics.ood_sets[table.ood_set]
        parts.append(_set_table("score", table, seeds))
        parts.append(_difference(of_set, images, paper_cuts.get(table.ood_set)))
    return "\n\n".join(parts) + "\n"


def full_table2_markdown(tables: Sequence[FullSetTable], seeds: int) -> str:
    """Every score on both models, for each OOD set: `tables.full_table2_sets`."""
    parts = []
    for table in tables:
        rows = [
            [f"{row.title}, {model}", *map(_cell, cells)]
            for row in table.rows
            for model, cells in (("control", row.control), ("with SN", row.sn))
        ]
        caption = f"**{table.ood_set}** (percent; {_spread(seeds)})"
        parts.append(f"{caption}\n\n{markdown_table(['score', *_HEADINGS], rows)}")
    return "\n\n".join(parts) + "\n"


def table3_markdown(tables: Sequence[SetTable], seeds: int) -> str:
    """Table 3: `tables.table3_sets`."""
    return "\n\n".join(_set_table("#layers", table, seeds) for table in tables) + "\n"


def tuning_markdown(tuning: Mapping[str, Mapping[str, Tuning]]) -> str:
    """What tuning chose, or that nothing was tuned; from "control" and "sn" to seed."""
    rows = [
        [
            f"{DETECTORS[score].title}, {model}, seed {seed}",
            f"{tuned.eps:g}",
            ", ".join(f"{value:g}" for value in tuned.params.values()),
            f"{tuned.fpr95:.2f}",
        ]
        for model, by_seed in tuning.items()
        for seed, by_score in by_seed.items()
        for score, tuned in by_score.items()
    ]
    if not rows:
        return "ODIN has T = 1 and, as Mahalanobis, no input noise: `infer.tune` is off.\n"
    return (
        "Tuned on pseudo-OOD images made of val:\n\n"
        f"{markdown_table(['score', 'ε', 'T', 'mean FPR95 there'], rows)}\n"
    )


def id_test_note(sets: PreparedSets) -> str:
    """A sentence to end a table with where the ID test set is the val split, otherwise nothing."""
    if not sets.id_test_is_val:
        return ""
    return "\nThe in-distribution test set is the val split, by choice (data.splits.test).\n"


def _set_table(heading: str, table: SetTable, seeds: int) -> str:
    has_map = any(row.val_map for row in table.rows)
    header = [heading, *_HEADINGS, *(["val mAP ↑"] * has_map)]
    if table.published:
        header += [f"paper's {metric.title}" for metric in OOD_METRICS]
    rows = []
    for row in table.rows:
        cells = [*row.cells, *([row.val_map] if row.val_map else [])]
        beside = [_published(cell) for cell in row.cells] if table.published else []
        rows.append([row.title, *map(_cell, cells), *beside])
    note = (
        f"{_spread(seeds)}, [95% interval over images]; bold: the best, and what is not "
        "separable from it"
    )
    return f"**{table.ood_set}** (percent; {note})\n\n{markdown_table(header, rows)}"


def _cell(cell: Cell) -> str:
    text = f"{cell.text} {interval(cell.interval)}" if cell.interval else cell.text
    return f"**{text}**" if cell.bold else text


def _published(cell: Cell) -> str:
    return "" if cell.published is None else f"{cell.published:.2f}"


def _spread(seeds: int) -> str:
    return f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"


def _difference(of_set: SetStatistics, images: str, paper_cut: float | None) -> str:
    """SNoJoE - JointEnergy: a column for each metric, and the relative cut of FPR95."""
    each = [of_set.snojoe_minus_joint_energy[metric.name] for metric in OOD_METRICS]
    over_seeds = [(p_value(d.p_over_seeds), d.stands_over_seeds) for d in each]
    effects = ["" if d.effect_size is None else f"{d.effect_size:+.2f}" for d in each]
    rows = [
        ["difference", *(f"{d.difference:+.2f} {interval(d.interval)}" for d in each)],
        [f"bootstrap, n = {images}", *(p_value(d.p_over_images) for d in each)],
        [
            f"paired t-test, n = {each[0].seeds} seeds",
            *(f"**{p}**" if stands else p for p, stands in over_seeds),
        ],
        ["effect size d", *effects],
    ]
    reduction = of_set.relative_reduction_of_fpr95
    cut = relative_cut(reduction.reduction, reduction.interval)
    if paper_cut is not None:
        cut += f"; the paper's: {paper_cut:.0f}%"
    notes = dict.fromkeys(d.note for d in each if d.note)
    table = markdown_table(["SNoJoE - JointEnergy", *_HEADINGS], rows)
    return "\n\n".join([table, f"Relative cut of FPR95: {cut}", *notes])
