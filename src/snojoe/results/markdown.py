"""Tables 2 and 3 in Markdown, for ``metrics/*.md``."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from snojoe.data.overlap import Known, describe
from snojoe.data.prepared import PreparedSets
from snojoe.data.pseudo_ood import SEEN
from snojoe.detectors import DETECTORS
from snojoe.inference.tuned import Tuning
from snojoe.measures.ood_metrics import ALL_METRICS, OOD_METRICS
from snojoe.results.formatting import claim, interval, markdown_table, p_value, points, relative_cut
from snojoe.results.paper import JOINT_ENERGYS, OF_JOINT_ENERGYS
from snojoe.results.statistics_json import ComparedSet, Statistics
from snojoe.results.tables import Cell, FullSetTable, SetTable

_HEADINGS = [metric.heading for metric in OOD_METRICS]
_ALL_HEADINGS = [metric.heading for metric in ALL_METRICS]


def table2_markdown(
    tables: Sequence[SetTable], statistics: Statistics, paper_cuts: Mapping[str, float]
) -> str:
    """Table 2, and below each OOD set's rows the difference SNoJoE - JointEnergy, if any.

    Parameters
    ----------
    tables : sequence of SetTable
        `tables.table2_sets`.
    statistics : Statistics
    paper_cuts : mapping
        OOD set -> the paper's own relative cut of FPR95, in percent.
    """
    parts = []
    for table in tables:
        parts.append(_set_table("score", table, statistics.seeds))
        if of_set := statistics.compared.get(table.ood_set):
            images = [statistics.images[name] for name in ("id", table.ood_set)]
            parts.append(_difference(of_set, statistics.seeds, images))
            parts.append(_cuts(of_set, paper_cuts.get(table.ood_set)))
    return "\n\n".join(parts) + "\n"


def full_table2_markdown(tables: Sequence[FullSetTable], seeds: int) -> str:
    """Every score on the compared models, for each OOD set: `tables.full_table2_sets`."""
    of_model = {"control": ", control", "sn": ", with SN"}
    parts = []
    for table in tables:
        rows = [
            [row.title + (of_model[model] if len(row.models) > 1 else ""), *map(_cell, cells)]
            for row in table.rows
            for model, cells in row.models.items()
        ]
        caption = f"**{table.ood_set}** (percent; {_spread(seeds)})"
        parts.append(f"{caption}\n\n{markdown_table(['score', *_ALL_HEADINGS], rows)}")
    return "\n\n".join(parts) + "\n"


def table3_markdown(tables: Sequence[SetTable], seeds: int) -> str:
    """Table 3: `tables.table3_sets`."""
    return "\n\n".join(_set_table("#layers", table, seeds) for table in tables) + "\n"


def tuning_markdown(tuning: Mapping[str, Mapping[str, Tuning]], seen: bool = False) -> str:
    """What tuning chose, or that nothing was tuned; from "control" and "sn" to seed.

    `seen` says whether the models were trained with pseudo-OOD images.
    """
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
        + (f"\n{seen_note(seen).strip()}\n" if seen else "")
    )


def id_test_note(sets: PreparedSets) -> str:
    """A sentence to end a table with where the ID test set is the val split, otherwise nothing."""
    if not sets.id_test_is_val:
        return ""
    return "\nThe in-distribution test set is the val split, by choice (data.splits.test).\n"


def seen_note(seen: bool) -> str:
    """A sentence to end with where the models were trained with pseudo-OOD images, or nothing."""
    return f" {SEEN[0].upper()}{SEEN[1:]}." if seen else ""


def known_note(known: Mapping[str, Sequence[Known]]) -> str:
    """A sentence for each OOD set of which the in-distribution set seems to know classes."""
    return "".join(
        f"\nNot all of {name} is out-of-distribution: {describe(classes)}.\n"
        for name, classes in known.items()
        if classes
    )


def left_out_note(scores: Container[str]) -> str:
    """A sentence on the scores that a table does not have, otherwise nothing."""
    titles = [detector.title for name, detector in DETECTORS.items() if name not in scores]
    if not titles:
        return ""
    return f"\nLeft out, since the head is not one linear layer: {', '.join(titles)}.\n"


def _set_table(heading: str, table: SetTable, seeds: int) -> str:
    has_map = any(row.val_map for row in table.rows)
    header = [heading, *_HEADINGS, *(["val mAP ↑"] * has_map)]
    header += [f"{source} {metric.title}" for source in table.sources for metric in OOD_METRICS]
    rows = []
    for row in table.rows:
        cells = [*row.cells, *([row.val_map] if row.val_map else [])]
        beside = [
            _published(cell.published[i]) for i in range(len(table.sources)) for cell in row.cells
        ]
        rows.append([row.title, *map(_cell, cells), *beside])
    note = f"{_spread(seeds)}, [95% interval]; bold: the best, and what is not shown to be worse"
    text = f"**{table.ood_set}** (percent; {note})\n\n{markdown_table(header, rows)}"
    return f"{text}\n\n{OF_JOINT_ENERGYS}" if JOINT_ENERGYS in table.sources else text


def _cell(cell: Cell) -> str:
    text = f"{cell.text} {interval(cell.interval)}" if cell.interval else cell.text
    return f"**{text}**" if cell.bold else text


def _published(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.2f}"


def _spread(seeds: int) -> str:
    return f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"


def _difference(of_set: ComparedSet, seeds: int, images: Sequence[int]) -> str:
    """SNoJoE - JointEnergy: a column for each metric."""
    each = [of_set.snojoe_minus_joint_energy[metric.name] for metric in OOD_METRICS]
    rows = [
        ["difference", *(f"{d.difference:+.2f} {interval(d.interval)}" for d in each)],
        ["p", *(p_value(d.p) for d in each)],
        ["equal within", *(points(d.margin) for d in each)],
    ]
    effective = of_set.effective_images
    independent = ", ".join(
        f"{count:,} {name} images"
        + ("" if effective[key] is None else f" (as {effective[key]:,} independent ones)")
        for key, name, count in zip(("id", "ood"), ("ID", "OOD"), images, strict=True)
    )
    table = markdown_table(["SNoJoE - JointEnergy", *_HEADINGS], rows)
    return f"{table}\n\nFor {claim(seeds)}: {seeds} seed{'s' * (seeds > 1)}, {independent}."


def _cuts(of_set: ComparedSet, paper_cut: float | None) -> str:
    """The relative cut of FPR95, and which of the paper's effects are excluded."""
    reduction = of_set.relative_reduction_of_fpr95
    cut = relative_cut(reduction.reduction, reduction.interval)
    if paper_cut is not None:
        cut += f"; the paper's: {paper_cut:.0f}%"
    effects = of_set.papers_effects_excluded
    said = [f"{name} {'excluded' if out else 'possible'}" for name, out in effects.items()]
    return f"Relative cut of FPR95: {cut}\n\nThe paper's effects on FPR95: {', '.join(said)}"
