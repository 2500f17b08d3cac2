"""Did spectral normalisation (SN) help? Sentences that are never surer than their statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from typing import Any, Literal, NamedTuple

import pandas as pd

from snojoe.measures.statistics import FEWEST_SEEDS, METRICS, holm
from snojoe.results.tables import (
    HEADINGS,
    markdown,
    mean_and_std,
    named_scores,
    over_seeds,
    p_value,
)

LEVEL = 0.05

Outcome = Literal["helped", "hurt", "not settled", "no difference"]


class Verdict(NamedTuple):
    """What may be said of one OOD set, and why."""

    ood_set: str
    outcome: Outcome
    sentence: str


def verdicts(scores: Mapping[str, Any], statistics: Mapping[str, Any]) -> list[Verdict]:
    """Whether SN changed FPR95, for each OOD set.

    It "helped" or "hurt" where the difference stands over the images and, with at least
    `FEWEST_SEEDS` of them, over the seeds: both p-values below 5%, after Holm's correction for the
    number of OOD sets. In all other cases that is "not settled".

    Parameters
    ----------
    scores, statistics : mapping
        Contents of ``metrics/scores.json`` and ``metrics/statistics.json``.
    """
    trees = {
        name: tree["snojoe_minus_joint_energy"] for name, tree in statistics["ood_sets"].items()
    }
    fpr95 = [tree["fpr95"] for tree in trees.values()]
    over_images = holm([_p(each["p_over_images"]) for each in fpr95])
    over_seeds = holm([_p(each["p_over_seeds"]) for each in fpr95])
    return [
        Verdict(name, "no difference", "control and SN model give the same figures.")
        if all(each["interval"] == [0, 0] for each in tree.values())
        else _verdict(name, scores[name], tree["fpr95"], images, seeds)
        for (name, tree), images, seeds in zip(trees.items(), over_images, over_seeds, strict=True)
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
    table2: pd.DataFrame, scores: Mapping[str, Any], statistics: Mapping[str, Any]
) -> str:
    """The verdicts, and JointEnergy beside SNoJoE: ``metrics/headline.md``.

    Parameters
    ----------
    table2 : DataFrame
        ``score_grid(...).metrics()``.
    scores, statistics : mapping
        As in `verdicts`.
    """
    found = verdicts(scores, statistics)
    summary: Any = over_seeds(named_scores(table2), ["ood_set", "score"])
    seeds = table2.seed.nunique()
    rows = []
    for verdict in found:
        tree = statistics["ood_sets"][verdict.ood_set]["snojoe_minus_joint_energy"]
        for metric in METRICS:
            cells = [
                mean_and_std(*summary.loc[(verdict.ood_set, score), metric])
                for score in ("joint_energy", "snojoe")
            ]
            each = tree[metric]
            rows.append(
                [
                    verdict.ood_set if metric == "fpr95" else "",
                    HEADINGS[metric],
                    *cells,
                    f"{each['difference']:+.2f} {interval(each['interval'])}",
                    p_value(_p(each["p_over_images"])),
                    p_value(_p(each["p_over_seeds"])),
                ]
            )
    header = ["OOD set", "percent", "JointEnergy", "SNoJoE", "difference", "over images"]
    header += [f"over {seeds} seeds" if seeds > 1 else "one seed"]
    spread = f"Mean ± standard deviation over {seeds} seeds" if seeds > 1 else "One seed"
    return "\n\n".join(
        [
            f"**{overall(found)}**",
            "\n".join(f"* {verdict.ood_set}: {verdict.sentence}" for verdict in found),
            markdown(header, rows),
            f"{spread}; [95% interval over images]; p by paired bootstrap over images and by "
            "paired t-test over seeds"
            + ("; corrected: by Holm, for the number of OOD sets.\n" if len(found) > 1 else ".\n"),
        ]
    )


def interval(ends: Sequence[float]) -> str:
    """``[-12.61, -6.06]``."""
    return f"[{ends[0]:.2f}, {ends[1]:.2f}]"


def _verdict(
    name: str,
    scores: Mapping[str, Any],
    difference: Mapping[str, Any],
    over_images: float,
    over_seeds: float,
) -> Verdict:
    """`over_images` and `over_seeds` are p-values after Holm's correction."""
    change = difference["difference"]
    before, after = scores["joint_energy"]["fpr95"], scores["snojoe"]["fpr95"]
    moved = f"{'fell' if change < 0 else 'rose'} from {before:.2f}% to" if change else "stayed at"
    seeds, proven = _seeds(difference, over_seeds)
    seen = over_images < LEVEL
    outcome: Outcome = "not settled"
    if seen and proven and change:
        outcome = "helped" if change < 0 else "hurt"
    sentence = (
        f"with SN, FPR95 {moved} {after:.2f}% ({change:+.2f} points, "
        f"95% interval over images {interval(difference['interval'])}). Over the images this is "
        f"{'more than' if seen else 'not separable from'} chance "
        f"({_corrected(difference['p_over_images'], over_images)}); {seeds}."
    )
    return Verdict(name, outcome, sentence)


def _seeds(difference: Mapping[str, Any], corrected: float) -> tuple[str, bool]:
    """What the t-test over seeds says, and whether it proves an effect."""
    n = difference["seeds"]
    if n == 1:
        return "one seed says nothing of another training", False
    over = f"over n = {n} seeds"
    if difference["p_over_seeds"] is None:
        return f"{over} there is no variance to test against", False
    stands = corrected < LEVEL
    said = "it stands" if stands else "it is not separable from the spread of training"
    note = _corrected(difference["p_over_seeds"], corrected)
    if n < FEWEST_SEEDS:
        return f"{over} {said} ({note}, and fewer than {FEWEST_SEEDS} are weak evidence)", False
    return f"{over} {said} ({note})", stands


def _corrected(p: float | None, corrected: float) -> str:
    """``p = 0.042, corrected 0.085``."""
    both = p_value(_p(p)), p_value(corrected)
    return both[0] if both[0] == both[1] else f"{both[0]}, corrected {both[1].removeprefix('p = ')}"


def _p(value: float | None) -> float:
    return nan if value is None else value


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
