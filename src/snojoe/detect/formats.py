"""Detections as a table for people, or as CSV or JSON for programs; each is written as it comes."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TextIO

import numpy as np

from snojoe.data.images import ImageError
from snojoe.model.decision import (
    JOINT_ENERGY,
    Decision,
    Detection,
    with_false_discovery_rate,
)

Results = Iterator[tuple[str, Detection | ImageError]]

OOD = "out-of-distribution"
UNREADABLE = "not readable"

_ROWS_AT_A_TIME = 16
_SHARES = 3


def write_table(
    results: Results, decision: Decision, out: TextIO, names: Iterable[str] = ()
) -> None:
    """Aligned columns; the three labels that contribute most say why.

    Where not the energy decides, the score that does stands before it, under its name.

    The columns are as wide as the first rows and, where they are known, all `names` of images need;
    what is longer below is cut, so that nothing shifts.
    """
    own = [] if decision.score == JOINT_ENERGY else [decision.score]
    widths = [0] * (5 + len(own))
    header = ["image", "decision", *own, "energy", "p", "labels", "energy from"]
    rows: list[Sequence[str]] = [header]
    longest = max((len(printable(name)) for name in names), default=0)
    while True:
        rows += [_cells(*each, bool(own)) for each in islice(results, _ROWS_AT_A_TIME)]
        if not rows:
            return
        if not any(widths):
            for row in rows:
                aligned = row[:-1]
                widths[: len(aligned)] = map(max, widths, map(len, aligned))
            widths[0] = max(widths[0], longest)
        for row in rows:
            padded = map(_fitted, row[:-1], widths)
            print("  ".join([*padded, row[-1]]), file=out)
        out.flush()
        rows = []


def write_csv(results: Results, decision: Decision, out: TextIO) -> None:
    """One row per image, one column per label for its probability and its share of the energy.

    An image that could not be read is not in-distribution, so that the column is of booleans.
    """
    shared = [
        "image",
        "error",
        "in_distribution",
        "energy",
        "energy_std",
        "score_name",
        "score",
        "tau",
        "p_value",
        "labels",
    ]
    by_label = [f"{what}({name})" for what in ("p", "share") for name in decision.classes]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(shared + by_label)
    for name, result in results:
        record = _record(name, result, decision)
        cells = [record.get(column) for column in shared]
        cells[2] = str(record.get("in_distribution", False)).lower()
        if isinstance(result, Detection):
            cells[-1] = ";".join(result.labels)
            cells += [*record["probabilities"].values(), *record["contributions"].values()]
        writer.writerow(cells)


def write_jsonl(results: Results, decision: Decision, out: TextIO) -> None:
    """One JSON object per line, with the time of the decision and whose it is: a log."""
    log = _log_facts(decision)
    for name, result in results:
        print(json.dumps(_record(name, result, decision) | {"time": _now(), **log}), file=out)


def write_json(results: Results, decision: Decision, out: TextIO) -> None:
    """A JSON list of the objects that `write_jsonl` writes."""
    separator = "[\n"
    log = _log_facts(decision)
    for name, result in results:
        record = _record(name, result, decision) | {"time": _now(), **log}
        out.write(separator + json.dumps(record))
        separator = ",\n"
    out.write("[]\n" if separator == "[\n" else "\n]\n")


def decided_together(results: Results, fdr: float) -> Results:
    """The same results, decided by `with_false_discovery_rate` once all are there."""
    seen = list(results)
    found = [result for _, result in seen if isinstance(result, Detection)]
    decided = iter(with_false_discovery_rate(found, fdr))
    for name, result in seen:
        yield name, next(decided) if isinstance(result, Detection) else result


def outcome(result: Detection | ImageError) -> str:
    """The result in a word, for a summary."""
    if isinstance(result, ImageError):
        return UNREADABLE
    return "in-distribution" if result.in_distribution else OOD


def largest_shares(result: Detection) -> list[tuple[str, float]]:
    """The three labels that contribute most to the energy, with their shares of it: why."""
    return sorted(result.contributions.items(), key=lambda item: -item[1])[:_SHARES]


FORMATS: dict[str, Callable[[Results, Decision, TextIO], None]] = {
    "table": write_table,
    "csv": write_csv,
    "json": write_json,
    "jsonl": write_jsonl,
}


def printable(name: str) -> str:
    """A file's name for people: it may hold line breaks, commands to a terminal and no UTF-8."""
    return name if name.isprintable() else repr(name)


def _fitted(cell: str, width: int) -> str:
    return cell.ljust(width) if len(cell) <= width else cell[: width - 1] + "…"


def _cells(name: str, result: Detection | ImageError, with_score: bool) -> Sequence[str]:
    name = printable(name)
    if isinstance(result, ImageError):
        return name, "error", str(result)
    energy = f"{result.energy:.2f}"
    if result.energy_std is not None:
        energy += f" ± {result.energy_std:.2f}"
    labels = [f"{label} {result.probabilities[label]:.2f}" for label in result.labels]
    shares = [f"{label} {share:.0%}" for label, share in largest_shares(result)]
    decision = "in" if result.in_distribution else "OUT"
    own = [f"{result.score:.4g}"] if with_score else []
    p = f"{result.p_value:.3f}"
    return name, decision, *own, energy, p, ", ".join(labels) or "-", ", ".join(shares)


def _record(name: str, result: Detection | ImageError, decision: Decision) -> dict[str, Any]:
    if isinstance(result, ImageError):
        return {"image": name, "error": str(result)}
    found = _rounded({"score_name": decision.score, "tau": decision.tau, **asdict(result)})
    return {"image": name, "error": None, **found}


def _log_facts(decision: Decision) -> dict[str, Any]:
    """What `snojoe.detect.drift` has to know of a rule, so that a log is enough.

    ``detector`` names it, by all that decides; ``calibration_images`` are n, and ``alpha`` is the
    largest p-value that its tau flags, k / (n + 1).
    """
    n = len(decision.calibration)
    rank = 1 + int(np.count_nonzero(decision.calibration < decision.tau))
    parts = [decision.score, *decision.classes, repr(decision.tau)]
    known = json.dumps(parts).encode() + np.sort(decision.calibration).tobytes()
    return {
        "detector": hashlib.sha256(known).hexdigest()[:12],
        "calibration_images": n,
        "alpha": round(rank / (n + 1), 9),
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return round(value, 6) if isinstance(value, float) else value
