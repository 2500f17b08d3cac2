"""``metrics/scores.json``: every metric of every score of Table 2; percent, two decimals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from pydantic import BaseModel

from snojoe.measures.ood_metrics import OOD_METRICS
from snojoe.results.grids import named_scores
from snojoe.support.errors import SnojoeError
from snojoe.support.files import write_json

Means = dict[str, float]
"""Metric -> its mean over seeds."""


class ClassifierMeans(BaseModel):
    """Means over seeds of what `classifier_metrics` has of the model that detects.

    And of the control, where that is another one.
    """

    map_control: float | None = None
    map_interpolated_control: float | None = None
    accepted_control: float | None = None
    map: float
    map_interpolated: float
    accepted: float
    classes: int


class Scores(BaseModel):
    """The content of the file.

    Attributes
    ----------
    id : ClassifierMeans
    ood : dict of OOD set to dict of score to Means
        Scores by their names in Table 2; the file has the sets beside ``id``.
    """

    id: ClassifierMeans
    ood: dict[str, dict[str, Means]]


def scores_of(table2: pd.DataFrame, classifiers: Mapping[str, pd.DataFrame]) -> Scores:
    """Means over seeds.

    Parameters
    ----------
    table2 : DataFrame
        ``score_grid(...).metrics()``.
    classifiers : mapping
        From the compared models to their `classifier_metrics`.
    """
    *others, of_detector = (
        {
            name: round(float(frame[name].mean()), 2)
            for name in ("map", "map_interpolated", "accepted")
        }
        for frame in classifiers.values()
    )
    ood: dict[str, dict[str, Means]] = {}
    for (ood_set, score), rows in named_scores(table2).groupby(["ood_set", "score"], sort=False):
        ood.setdefault(str(ood_set), {})[str(score)] = means_over_seeds(rows)
    return Scores(
        id=ClassifierMeans(
            **{f"{name}_control": mean for each in others for name, mean in each.items()},
            **of_detector,
            classes=int(list(classifiers.values())[-1].classes.min()),
        ),
        ood=ood,
    )


def means_over_seeds(rows: pd.DataFrame) -> Means:
    """Of the rows of one method and OOD set in a long table."""
    return {metric.name: round(float(rows[metric.name].mean()), 2) for metric in OOD_METRICS}


def write_scores(path: Path, scores: Scores) -> None:
    write_json(path, {"id": scores.id.model_dump(exclude_none=True), **scores.ood})


def read_scores(path: Path) -> Scores:
    """What `write_scores` wrote.

    Raises
    ------
    SnojoeError
        If the file is missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Scores(id=content.pop("id"), ood=content)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise SnojoeError(f"{path}: not readable ({error})") from None
