"""Did spectral normalisation (SN) help? Sentences that are never surer than their statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from snojoe.measures.ood_metrics import FPR95, OOD_METRICS
from snojoe.measures.statistics import FEWEST_SEEDS, holm
from snojoe.results.formatting import interval, markdown_table, p_value
from snojoe.results.scores_json import Means, Scores
from snojoe.results.statistics_json import LEVEL, Difference, Statistics
from snojoe.results.tables import SetTable

Outcome = Literal["helped", "hurt", "not settled", "no difference"]


class Verdict(NamedTuple):
    """What may be said of one OOD set, and why."""

    ood_set: str
    outcome: Outcome
    sentence: str


def verdicts(scores: Scores, statistics: Statistics) -> list[Verdict]:
    """Whether SN changed FPR95, for each OOD set.

    It "helped" or "hurt" where the difference stands over the images and, with at least
    `FEWEST_SEEDS` of them, over the seeds: both p-values below 5%, after Holm's correction for the
    number of OOD sets. In all other cases that is "not settled".
    """
    differences = {
        name: of_set.snojoe_minus_joint_energy for name, of_set in statistics.ood_sets.items()
    }
    fpr95 = [by_metric[FPR95.name] for by_metric in differences.values()]
    over_images = holm([each.p_over_images for each in fpr95])
    # None, no test, is NaN here.
    over_seeds = holm(np.array([each.p_over_seeds for each in fpr95], dtype=float))
    return [
        Verdict(name, "no difference", "control and SN model give the same figures.")
        if all(each.interval == (0, 0) for each in by_metric.values())
        else _verdict(name, scores.ood[name], by_metric[FPR95.name], images, seeds)
        for (name, by_metric), images, seeds in zip(
            differences.items(), over_images, over_seeds, strict=True
        )
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
        text.format(_listed(sets[outcome])) for outcome, text in said.items() if outcome in sets
    ]
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}."


def headline_markdown(
    found: Sequence[Verdict], tables: Sequence[SetTable], statistics: Statistics, seeds: int
) -> str:
    """The verdicts, and JointEnergy beside SNoJoE: ``metrics/headline.md``.

    Parameters
    ----------
    found : sequence of Verdict
    tables : sequence of SetTable
        `tables.table2_sets`.
    statistics : Statistics
    seeds : int
        Their number.
    """
    header = ["OOD set", "percent", "JointEnergy", "SNoJoE", "difference", "over images"]
    header += [f"over {seeds} seeds" if seeds > 1 else "one seed"]
    rows = [row for table in tables for row in _rows(table, statistics)]
    spread = f"Mean ± standard deviation over {seeds} seeds" if seeds > 1 else "One seed"
    corrected = "; corrected: by Holm, for the number of OOD sets" if len(found) > 1 else ""
    return "\n\n".join(
        [
            f"**{overall(found)}**",
            "\n".join(f"* {verdict.ood_set}: {verdict.sentence}" for verdict in found),
            markdown_table(header, rows),
            f"{spread}; [95% interval over images]; p by paired bootstrap over images and by "
            f"paired t-test over seeds{corrected}.\n",
        ]
    )


def _rows(table: SetTable, statistics: Statistics) -> list[list[str]]:
    """One for each metric; the first has the name of the OOD set."""
    differences = statistics.ood_sets[table.ood_set].snojoe_minus_joint_energy
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
                p_value(each.p_over_images),
                p_value(each.p_over_seeds),
            ]
        )
    return rows


def _verdict(
    name: str,
    scores: Mapping[str, Means],
    difference: Difference,
    over_images: float,
    over_seeds: float,
) -> Verdict:
    """`over_images` and `over_seeds` are p-values after Holm's correction."""
    change = difference.difference
    before, after = (scores[score][FPR95.name] for score in ("joint_energy", "snojoe"))
    moved = f"{'fell' if change < 0 else 'rose'} from {before:.2f}% to" if change else "stayed at"
    seeds, proven = _seeds(difference, over_seeds)
    seen = over_images < LEVEL
    outcome: Outcome = "not settled"
    if seen and proven and change:
        outcome = "helped" if change < 0 else "hurt"
    sentence = (
        f"with SN, FPR95 {moved} {after:.2f}% ({change:+.2f} points, "
        f"95% interval over images {interval(difference.interval)}). Over the images this is "
        f"{'more than' if seen else 'not separable from'} chance "
        f"({_corrected(difference.p_over_images, over_images)}); {seeds}."
    )
    return Verdict(name, outcome, sentence)


def _seeds(difference: Difference, corrected: float) -> tuple[str, bool]:
    """What the t-test over seeds says, and whether it proves an effect."""
    n = difference.seeds
    if n == 1:
        return "one seed says nothing of another training", False
    over = f"over n = {n} seeds"
    if difference.p_over_seeds is None:
        return f"{over} there is no variance to test against", False
    stands = corrected < LEVEL
    said = "it stands" if stands else "it is not separable from the spread of training"
    note = _corrected(difference.p_over_seeds, corrected)
    if n < FEWEST_SEEDS:
        return f"{over} {said} ({note}, and fewer than {FEWEST_SEEDS} are weak evidence)", False
    return f"{over} {said} ({note})", stands


def _corrected(p: float, corrected: float) -> str:
    """``p = 0.042, corrected 0.085``."""
    both = p_value(p), p_value(corrected)
    return both[0] if both[0] == both[1] else f"{both[0]}, corrected {both[1].removeprefix('p = ')}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
