"""How numbers look wherever a person reads them: in Markdown, in the report, in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan


def mean_and_std(mean: float, std: float) -> str:
    """``12.34 ± 0.56``, or ``12.34`` where one seed has no spread."""
    return f"{mean:.2f}" if isnan(std) else f"{mean:.2f} ± {std:.2f}"


def interval(ends: Sequence[float | None]) -> str:
    """``[-12.61, -6.06]``; a dash stands for an end that is not defined."""
    low, high = ("–" if end is None else f"{end:.2f}" for end in ends)
    return f"[{low}, {high}]"


def p_value(p: float | None) -> str:
    """``p = 0.012``, ``p < 0.001``, or a dash where there is no test."""
    if p is None or isnan(p):
        return "–"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def points(margin: float | None) -> str:
    """``2.31``, or a dash where nothing is known."""
    return "–" if margin is None else f"{margin:.2f}"


def claim(seeds: int) -> str:
    """What intervals and p-values of so many seeds are about."""
    return "new trainings and new images" if seeds > 1 else "this training and new images"


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def relative_cut(reduction: float | None, ends: Sequence[float | None]) -> str:
    """``8.3% [8.14, 8.40]``, or why there is none."""
    if reduction is None:
        return "none, JointEnergy's is 0"
    return f"{reduction:.1f}% {interval(ends)}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up in a terminal too."""
    # Two at least: a rule that says "to the right" is a dash and a colon.
    widths = [max(2, *(len(row[i]) for row in [header, *rows])) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(header), line(rule), *(line(row) for row in rows)])
