"""``metrics/leaderboard.md``: every score on every model, the best first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from snojoe.detectors import DETECTORS
from snojoe.measures.clusters import Clusters
from snojoe.measures.ood_metrics import AUROC, FPR95
from snojoe.measures.ranks import mean_ranks
from snojoe.results.formatting import claim, markdown_table
from snojoe.results.grids import Grid, ScoreRow

MODELS = {"control": "without SN", "sn": "with SN"}


class TunedPlace(NamedTuple):
    """What a score with a grid has with the values that pseudo-OOD images chose.

    Attributes
    ----------
    auroc, fpr95 : float
        In percent, means over OOD sets and seeds.
    changed : int
        Of how many trainings another value than the default was chosen.
    """

    auroc: float
    fpr95: float
    changed: int


class Place(NamedTuple):
    """A row of the leaderboard; metrics by OOD set, in percent, means over seeds.

    Attributes
    ----------
    score, model : str
        `Detector.name`; "control" or "sn".
    rank, low, high : float
        Mean rank over the OOD sets by AUROC, and its 95% interval (NaN where there is none).
    auroc, fpr95 : dict of str to float
    tuned : TunedPlace or None
        None where there is nothing to tune, or no pseudo-OOD image to tune by.
    """

    score: str
    model: str
    rank: float
    low: float
    high: float
    auroc: dict[str, float]
    fpr95: dict[str, float]
    tuned: TunedPlace | None = None

    @property
    def title(self) -> str:
        """The score's, for people."""
        return DETECTORS[self.score].title


def leaderboard(
    grid: Grid[ScoreRow],
    clusters: Mapping[str, Clusters],
    tuned: Mapping[ScoreRow, TunedPlace] | None = None,
) -> list[Place]:
    """All rows of the full Table 2, the lowest mean rank by AUROC first.

    `clusters` are as in `Grid.estimates`, `tuned` is `tuned_scores.tuned_places`. Ranks are of the
    default values.
    """
    rows = list(grid.id)
    found = grid.estimates({f"{row.score}/{row.model}": row for row in rows}, clusters)
    ranks = mean_ranks([{n: of[AUROC.name] for n, of in each.items()} for each in found.values()])
    places = []
    for row in rows:
        name = f"{row.score}/{row.model}"
        auroc, fpr95 = (
            {ood_set: 100 * each[name][metric.name].value for ood_set, each in found.items()}
            for metric in (AUROC, FPR95)
        )
        places.append(
            Place(row.score, row.model, *ranks[name], auroc, fpr95, (tuned or {}).get(row))
        )
    return sorted(places, key=lambda place: (place.rank, -float(np.mean([*place.auroc.values()]))))


def leaderboard_markdown(
    places: Sequence[Place], distances: Mapping[str, str | None], seeds: int
) -> str:
    """The table for people.

    Parameters
    ----------
    places : sequence of Place
    distances : mapping
        OOD set -> "near", "far" or None, as the parameters mark it: of each kind there is a mean.
    seeds : int
        Number of trainings.
    """
    groups = groups_of(distances)
    columns = [(f"mean of {kind}", names) for kind, names in groups.items()]
    columns += [
        (f"{name} ({distance})" if distance else name, [name])
        for name, distance in distances.items()
    ]
    several = len({place.model for place in places}) > 1
    header = ["", "mean rank", "95% interval"]
    header += [f"{title}: AUROC ↑, FPR95 ↓" for title, _ in columns]
    second = any(place.tuned for place in places)
    if second:
        header += ["tuned, mean of the sets: AUROC ↑, FPR95 ↓", "another value"]
    rows = [
        [
            place.title + (f", {MODELS[place.model]}" if several else ""),
            f"{place.rank:.1f}",
            "–" if np.isnan(place.low) else f"{place.low:.1f} to {place.high:.1f}",
            *(
                f"{np.mean([place.auroc[each] for each in names]):.2f}, "
                f"{np.mean([place.fpr95[each] for each in names]):.2f}"
                for _, names in columns
            ),
            *(_tuned_cells(place, seeds) if second else ()),
        ]
        for place in places
    ]
    return (
        f"{markdown_table(header, rows)}\n\n"
        "Ranks are by AUROC, in each OOD set, and their mean over the sets; the interval is for "
        f"{claim(seeds)}. AUROC and FPR95 in percent, means over seeds. What is first "
        "here was chosen by these OOD sets and need not be first on others: `metrics/auto.md` says "
        "what would have been chosen without them.\n"
    ) + (_TUNED_NOTE if second else "")


_TUNED_NOTE = (
    "\nTuned: hyperparameters chosen for each training by pseudo-OOD images "
    "(`metrics/tuned.md`), in brackets the change from the default, all percentage points; beside "
    "it of how many trainings another value was chosen. – has nothing to choose. Ranks and all "
    "other columns are of the defaults.\n"
)


def _tuned_cells(place: Place, seeds: int) -> list[str]:
    if place.tuned is None:
        return ["–", "–"]
    means = [float(np.mean([*of.values()])) for of in (place.auroc, place.fpr95)]
    cells = [
        f"{value:.2f} ({round(value - mean, 2) + 0.0:+.2f})"  # never -0.00
        for value, mean in zip((place.tuned.auroc, place.tuned.fpr95), means, strict=True)
    ]
    return [", ".join(cells), f"{place.tuned.changed} of {seeds}"]


def groups_of(distances: Mapping[str, str | None]) -> dict[str, list[str]]:
    """Which means are worth a column: over all near sets, over all far ones, or over all."""
    kinds = [kind for kind in ("near", "far") if kind in distances.values()]
    groups = {kind: [n for n, distance in distances.items() if distance == kind] for kind in kinds}
    groups = groups or {"all": list(distances)}
    return {kind: names for kind, names in groups.items() if len(names) > 1}
