"""Small long tables, and estimates that fit them."""

import numpy as np
import pandas as pd

from snojoe.detectors import PAPER_DETECTORS
from snojoe.measures.clusters import Clusters
from snojoe.measures.estimates import Estimate
from snojoe.measures.ood_metrics import OOD_METRICS
from snojoe.results.grids import named_scores
from snojoe.results.statistics_json import statistics_of

IMAGES = {"id": 600, "a": 500, "b": 400, "texture": 300}


def table2(sets=("a", "b"), seeds=(0, 1)):
    names = [detector.name for detector in PAPER_DETECTORS]
    rows = [
        {
            **{"ood_set": s, "score": score, "model": model, "sn_layers": 9 * (model == "sn")},
            **{"seed": seed, "fpr95": 10.0 * i + seed, "auroc": 50.0 + i, "aupr": 60.0 + i},
        }
        for s in sets
        for i, score in enumerate(names)
        for model in ("control", "sn")
        for seed in seeds
    ]
    frame = pd.DataFrame(rows)
    frame.loc[frame.model == "sn", "fpr95"] -= 5
    return frame


def one_network(table):
    """The rows of the control."""
    return table[table.model == "control"].reset_index(drop=True)


def estimates_of(table, key, deviation=0.0):
    """Estimates whose values are those of `table`.

    Images move the rows by `deviation` (standard deviation of one image, points), each row in its
    own way, in all trainings alike.
    """
    clusters = Clusters.independent(600), Clusters.independent(500)

    def estimate(column, row):
        values = column.to_numpy() / 100
        influences = [
            deviation
            / 100
            * np.tile(np.random.default_rng([row, i]).normal(size=n), (len(values), 1))
            for i, n in enumerate((600, 500))
        ]
        return Estimate(values, *influences, *clusters)

    return {
        ood_set: {
            name: {metric.name: estimate(rows[metric.name], row) for metric in OOD_METRICS}
            for row, (name, rows) in enumerate(of_set.groupby(key, sort=False))
        }
        for ood_set, of_set in table.groupby("ood_set", sort=False)
    }


def estimates2(table, deviation=5.0):
    return estimates_of(named_scores(table), "score", deviation)


def statistics(table, estimates=None, images=None):
    return statistics_of(estimates or estimates2(table), images or IMAGES, {})


def classifiers():
    frame = pd.DataFrame(
        {"map": [90.0, 91.0], "map_interpolated": 92.0, "accepted": [94.0, 95.0], "classes": 7}
    )
    return {"control": frame, "sn": frame + 1}


def table3(weights=(0, 94, 104, 104), seeds=(0, 1)):
    rows = [
        {"ood_set": "a", "sn_layers": depth, "normalized_weights": count, "seed": seed}
        | {"fpr95": 0.5 * count + seed, "auroc": 1.0, "aupr": 2.0, "map": 90.0 + depth + seed}
        for depth, count in zip((0, 7, 8, 9), weights, strict=True)
        for seed in seeds
    ]
    return pd.DataFrame(rows)
