"""Small long tables, and resamples that fit them."""

import numpy as np
import pandas as pd

from snojoe.detectors import PAPER_DETECTORS
from snojoe.measures.ood_metrics import OOD_METRICS
from snojoe.measures.statistics import Bootstrap
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


def resamples(table, key, width=0.01):
    """Paired bootstraps whose replicates spread evenly around the means of `table`."""
    around = np.linspace(-width, width, 2001)

    def bootstrap(column):
        return Bootstrap(column.mean() / 100, column.mean() / 100 + around)

    return {
        ood_set: {
            name: {metric.name: bootstrap(rows[metric.name]) for metric in OOD_METRICS}
            for name, rows in of_set.groupby(key, sort=False)
        }
        for ood_set, of_set in table.groupby("ood_set", sort=False)
    }


def resamples2(table):
    return resamples(named_scores(table), "score")


def statistics(table, bootstraps=None, images=None):
    return statistics_of(table, bootstraps or resamples2(table), images or IMAGES, {})


def classifiers():
    frame = pd.DataFrame(
        {"map": [90.0, 91.0], "map_interpolated": 92.0, "accepted": [94.0, 95.0], "classes": 7}
    )
    return {"control": frame, "sn": frame + 1}


def table3(weights=(0, 94, 104, 104)):
    rows = [
        {"ood_set": "a", "sn_layers": depth, "normalized_weights": count, "seed": seed}
        | {"fpr95": 1.0 * count + seed, "auroc": 1.0, "aupr": 2.0, "map": 90.0 + depth + seed}
        for depth, count in zip((0, 7, 8, 9), weights, strict=True)
        for seed in (0, 1)
    ]
    return pd.DataFrame(rows)
