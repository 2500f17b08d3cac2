"""Did spectral normalisation (SN) help? Sentences that are never surer than their statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from snojoe.measures.comparisons import holm
from snojoe.measures.ood_metrics import AUROC, FPR95, OOD_METRICS
from snojoe.results.at_work import AtWork
from snojoe.results.formatting import claim, interval, listed, markdown_table, p_value, points
from snojoe.results.scores_json import Means, Scores
from snojoe.results.statistics_json import LEVEL, ComparedSet, Difference, Statistics
from snojoe.results.tables import SetTable

Outcome = Literal["helped", "hurt", "not settled", "no difference"]


class Verdict(NamedTuple):
    """What may be said of one OOD set, and why."""

    ood_set: str
    outcome: Outcome
    sentence: str


def verdicts(scores: Scores, statistics: Statistics) -> list[Verdict]:
    """Whether SN changed AUROC, for each OOD set on which there is an SN model to say so.

    It "helped" or "hurt" where the test for new trainings and new images says so at 5%, after
    Holm's correction for the number of OOD sets. Everything else is "not settled", with what is
    excluded all the same; so is everything with one training, which says nothing of another.
    """
    differences = [each.snojoe_minus_joint_energy for each in statistics.compared.values()]
    # None, no test, is NaN here.
    corrected = holm(np.array([each[AUROC.name].p for each in differences], dtype=float))
    return [
        Verdict(name, "no difference", "control and SN model give the same figures.")
        if all(each.interval == (0, 0) for each in of_set.snojoe_minus_joint_energy.values())
        else _verdict(name, scores.ood[name], of_set, p, statistics.seeds)
        for (name, of_set), p in zip(statistics.compared.items(), corrected, strict=True)
    ]


def overall(found: Sequence[Verdict]) -> str:
    """One sentence over all OOD sets."""
    sets: dict[Outcome, list[str]] = {}
    for verdict in found:
        sets.setdefault(verdict.outcome, []).append(verdict.ood_set)
    said = {
        "helped": "SN helped on {}",
        "hurt": "SN hurt on {}",
        "not settled": "whether SN helps is not settled on {}",
        "no difference": "there is no difference on {}",
    }
    parts = [
        text.format(listed(sets[outcome])) for outcome, text in said.items() if outcome in sets
    ]
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}."


def headline_markdown(
    found: Sequence[Verdict], tables: Sequence[SetTable], statistics: Statistics, work: AtWork
) -> str:
    """``metrics/headline.md``: the verdicts, and JointEnergy beside SNoJoE; or of one network.

    Parameters
    ----------
    found : sequence of Verdict
        None where there is no SN model.
    tables : sequence of SetTable
        `tables.table2_sets`.
    statistics : Statistics
    work : AtWork
        What is said of one network.
    """
    seeds = statistics.seeds
    spread = f"Mean ± standard deviation over {seeds} seeds" if seeds > 1 else "One seed"
    if not found:
        table = _of_one_network(tables, f"{spread}; 95% interval for {claim(seeds)}")
        return f"**{work.sentence}**\n\n{table}"
    header = ["OOD set", "percent", "JointEnergy", "SNoJoE", "difference", "p", "equal within"]
    rows = [row for table in tables for row in _rows(table, statistics)]
    return "\n\n".join(
        [
            f"**{overall(found)}**",
            "\n".join(f"* {verdict.ood_set}: {verdict.sentence}" for verdict in found),
            markdown_table(header, rows),
            f"{spread}; [95% interval], p and margin of equivalence (5%) for {claim(seeds)}; "
            "images that belong together count together.\n",
        ]
    )


def _of_one_network(tables: Sequence[SetTable], note: str) -> str:
    header = ["OOD set", "percent", "JointEnergy", "95% interval"]
    rows = [
        ["" if i else table.ood_set, metric.heading, cell.text, interval(cell.interval or ())]
        for table in tables
        for i, (metric, cell) in enumerate(
            zip(OOD_METRICS, table.row("joint_energy").cells, strict=True)
        )
    ]
    return (
        f"{markdown_table(header, rows)}\n\n{note}; images that belong together count together.\n"
    )


def _rows(table: SetTable, statistics: Statistics) -> list[list[str]]:
    """One for each metric; the first has the name of the OOD set."""
    differences = statistics.compared[table.ood_set].snojoe_minus_joint_energy
    before, after = table.row("joint_energy"), table.row("snojoe")
    rows = []
    for i, metric in enumerate(OOD_METRICS):
        each = differences[metric.name]
        rows.append(
            [
                "" if i else table.ood_set,
                metric.heading,
                before.cells[i].text,
                after.cells[i].text,
                f"{each.difference:+.2f} {interval(each.interval)}",
                p_value(each.p),
                points(each.margin),
            ]
        )
    return rows


def _verdict(
    name: str, scores: Mapping[str, Means], of_set: ComparedSet, corrected: float, seeds: int
) -> Verdict:
    """`corrected` is the p-value of AUROC after Holm's correction."""
    auroc = of_set.snojoe_minus_joint_energy[AUROC.name]
    fpr95 = of_set.snojoe_minus_joint_energy[FPR95.name]
    before, after = (scores[score][AUROC.name] for score in ("joint_energy", "snojoe"))
    change = auroc.difference
    moved = f"{'rose' if change > 0 else 'fell'} from {before:.2f}% to" if change else "stayed at"
    outcome: Outcome = "not settled"
    if seeds > 1 and corrected < LEVEL and change:
        outcome = "helped" if change > 0 else "hurt"
    return Verdict(
        name,
        outcome,
        f"with SN, AUROC {moved} {after:.2f}% ({change:+.2f} points, 95% interval for "
        f"{claim(seeds)} {interval(auroc.interval)}; {_corrected(auroc.p, corrected)}). "
        f"{_known(auroc, outcome, seeds)}FPR95: {fpr95.difference:+.2f} points "
        f"{interval(fpr95.interval)}; {_papers_effects(of_set)}.",
    )


def _known(auroc: Difference, outcome: Outcome, seeds: int) -> str:
    """What "not settled" rules out."""
    if outcome != "not settled":
        return ""
    low, high = auroc.interval
    if low is None or high is None or auroc.margin is None:
        return "There is no variance to test against. "
    one = "One training says nothing of another. " if seeds == 1 else ""
    return (
        f"{one}Excluded: a gain of more than {max(high, 0):.2f} points and a loss of more than "
        f"{max(-low, 0):.2f}; equality is shown within {auroc.margin:.2f}. "
    )


def _papers_effects(of_set: ComparedSet) -> str:
    """``of the paper's effects -3.5 points are possible, a cut by 54% is excluded``."""
    excluded = of_set.papers_effects_excluded
    parts = [
        f"{said}: {listed(named)}"
        for said, whether in (("excluded", True), ("possible", False))
        if (named := [name for name, out in excluded.items() if out == whether])
    ]
    return f"the paper's effects {'; '.join(parts)}"


def _corrected(p: float | None, corrected: float) -> str:
    """``p = 0.042, corrected 0.085``."""
    both = p_value(p), p_value(corrected)
    if both[0] == both[1]:
        return both[0] if p is not None else "no test"
    return f"{both[0]}, corrected {both[1].removeprefix('p = ')}"
