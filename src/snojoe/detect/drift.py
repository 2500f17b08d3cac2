"""Over time: whether what `snojoe detect --format jsonl` logged has drifted.

Each line has to have ``time``, ``detector``, ``calibration_images``, ``alpha``, ``p_value`` and
``labels``; a day is one of UTC. All that is tested is corrected together, by Holm, so that without
drift one call in 20 finds some, however many days and labels there are.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from snojoe.measures.comparisons import holm
from snojoe.measures.conformal import share_interval
from snojoe.measures.drift import flagged_interval, flagged_test, label_test, uniformity_test
from snojoe.support.errors import SnojoeError
from snojoe.support.text import aligned

LEVEL = 0.05
_NEEDED = ("time", "detector", "calibration_images", "alpha", "p_value", "labels")


@dataclass
class Log:
    """What the lines of one detector say.

    Attributes
    ----------
    detector : str
    n : int
        Number of images that it is calibrated on.
    rank : int
        k: an image is flagged whose p-value is at most k / (n + 1).
    days : dict
        ISO date -> list of int, for each image the number of calibration scores that are as low.
    labels : Counter
        Label -> number of images that have it.
    unreadable, unfinished : int
        Lines of images that could not be read; last lines that are still being written.
    """

    detector: str = ""
    n: int = 0
    rank: int = 0
    days: dict[str, list[int]] = field(default_factory=dict)
    labels: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0
    unfinished: int = 0

    @property
    def images(self) -> int:
        return sum(map(len, self.days.values()))


@dataclass(frozen=True)
class Day:
    """A day's images against the promise.

    ``low`` and ``high`` are how many of them the threshold flags, by the draw of both the images
    and those that it is calibrated on, in 95 of 100 days; ``distance`` is that of their p-values
    from uniform ones. The p-values of both tests are corrected for all that is tested.
    """

    date: str
    images: int
    flagged: int
    low: int
    high: int
    flagged_p: float
    distance: float
    uniformity_p: float


@dataclass(frozen=True)
class Label:
    """How many images of all days have it, and how many of the reference; p is corrected."""

    name: str
    count: int
    reference: int
    p: float


@dataclass(frozen=True)
class Drift:
    """What `find_drift` found; `level` is the p-value up to which something has drifted."""

    log: Log
    reference: Log | None
    days: Sequence[Day]
    labels: Sequence[Label]
    level: float

    @property
    def found(self) -> list[str]:
        """What has drifted, in words; empty where nothing has."""
        said = []
        for day in self.days:
            if day.flagged_p <= self.level:
                said.append(f"share flagged on {day.date}")
            if day.uniformity_p <= self.level:
                said.append(f"p-values of {day.date}")
        return said + [f"label {label.name}" for label in self.labels if label.p <= self.level]


def read_log(paths: Iterable[Path]) -> Log:
    """Read what `snojoe detect --format jsonl` or ``json`` wrote, of one detector.

    A last line without its end is one that is being written, and is counted.

    Raises
    ------
    SnojoeError
        If a file cannot be read, a line is no such line, or there are several detectors or none.
    """
    log = Log()
    first = ""
    for path in paths:
        for place, record in _records(path, log):
            if record.get("error") is not None:
                log.unreadable += 1
                continue
            try:
                missing = [name for name in _NEEDED if name not in record]
                if missing:
                    raise SnojoeError(
                        f"{place}: expected what `snojoe detect --format jsonl` of this version "
                        f"writes; it has no {', '.join(missing)}"
                    )
                n = int(record["calibration_images"])
                rank, below = (round(record[of] * (n + 1)) for of in ("alpha", "p_value"))
                day = datetime.fromisoformat(record["time"]).date().isoformat()
                if not (1 <= below <= n + 1 and 1 <= rank <= max(n, 1)):
                    raise ValueError("a share out of range")
                labels = [str(label) for label in record["labels"]]
            except (TypeError, ValueError, ArithmeticError) as error:
                raise SnojoeError(f"{place}: not a line of a log ({error})") from None
            if log.detector and log.detector != record["detector"]:
                raise SnojoeError(
                    f"{place}: by detector {record['detector']}, and {first} by {log.detector}; "
                    "expected one model, score, --accept and calibration"
                )
            first = first or place
            log.detector, log.n, log.rank = str(record["detector"]), n, rank
            log.days.setdefault(day, []).append(below - 1)
            log.labels.update(labels)
    if not log.images:
        raise SnojoeError(f"{', '.join(map(str, paths))}: no image that could be read")
    return log


def find_drift(log: Log, reference: Log | None = None, level: float = LEVEL) -> Drift:
    """Test each day's flagged share and p-values, and each label against the reference.

    Raises
    ------
    SnojoeError
        If the reference is of another detector.
    """
    if reference and reference.detector != log.detector:
        raise SnojoeError(
            f"the reference is by detector {reference.detector}, the log by {log.detector}; "
            "expected the same model, score, --accept and calibration"
        )
    days = sorted(log.days.items())
    found = [(len(ranks), int(np.sum(np.array(ranks) < log.rank))) for _, ranks in days]
    names = sorted({*log.labels, *reference.labels}) if reference else []
    uniform = [uniformity_test(ranks, log.n) for _, ranks in days]
    p = [flagged_test(flagged, m, log.n, log.rank) for m, flagged in found]
    p += [each for _, each in uniform]
    if reference:
        p += [
            label_test(log.labels[name], log.images, reference.labels[name], reference.images)
            for name in names
        ]
    corrected = holm(p).tolist()
    return Drift(
        log,
        reference,
        [
            Day(
                date, m, flagged, *flagged_interval(m, log.n, log.rank),
                corrected[i], uniform[i][0], corrected[len(days) + i],
            )
            for i, ((date, _), (m, flagged)) in enumerate(zip(days, found, strict=True))
        ],
        [
            Label(name, log.labels[name], reference.labels[name], each)
            for name, each in zip(names, corrected[2 * len(days) :], strict=True)
            if reference
        ],
        level,
    )  # fmt: skip


def describe(drift: Drift) -> Iterator[str]:
    """The lines that people read."""
    log, reference = drift.log, drift.reference
    images, days = _count(log.images, "image"), _count(len(drift.days), "day")
    yield (
        f"{images} on {days} by detector {log.detector}, calibrated on {log.n:,}: "
        f"it flags {100 * log.rank / (log.n + 1):.1f}% of images like those"
    )
    rows = [["day", "images", "flagged", "promised", "p", "distance", "p"]]
    for day in drift.days:
        counts = day.flagged, day.low, day.high
        flagged, low, high = (f"{100 * count / day.images:.1f}" for count in counts)
        found = [_p(day.flagged_p, drift), f"{day.distance:.3f}", _p(day.uniformity_p, drift)]
        rows.append([day.date, f"{day.images:,}", f"{flagged}%", f"{low} to {high}%", *found])
    yield aligned(rows)
    if reference:
        rows = [["label", "images", "interval", "reference", "p"]]
        for label in sorted(drift.labels, key=lambda label: label.p):
            share, expected = label.count / log.images, label.reference / reference.images
            ends = (f"{100 * end:.1f}" for end in share_interval(label.count, log.images))
            shares = [f"{100 * share:.1f}%", f"{' to '.join(ends)}%", f"{100 * expected:.1f}%"]
            rows.append([_shown(label.name), *shares, _p(label.p, drift)])
        yield aligned(rows)
    yield f"drift: {', '.join(map(_shown, drift.found))}" if drift.found else "no drift"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _p(p: float, drift: Drift) -> str:
    return ("<0.001" if p < 0.001 else f"{p:.3f}") + "*" * (p <= drift.level)


def _shown(text: str) -> str:
    return text if text.isprintable() else repr(text)


def _records(path: Path, log: Log) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Where each object of a file stands, and the object."""
    try:
        with path.open(encoding="utf-8") as file:
            if file.read(1) == "[":
                file.seek(0)
                for i, record in enumerate(json.load(file), start=1):
                    yield f"{path}, image {i}", _object(record)
                return
            file.seek(0)
            for i, line in enumerate(file, start=1):
                try:
                    record = json.loads(line)
                except ValueError:
                    if line.endswith("\n"):
                        raise SnojoeError(f"{path}, line {i}: not JSON") from None
                    log.unfinished += 1
                else:
                    yield f"{path}, line {i}", _object(record)
    except OSError as error:
        raise SnojoeError(f"{path}: not readable ({error.strerror})") from None
    except ValueError as error:
        raise SnojoeError(f"{path}: not readable as JSON ({error})") from None


def _object(record: Any) -> Mapping[str, Any]:
    return record if isinstance(record, dict) else {}
