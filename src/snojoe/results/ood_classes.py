"""``metrics/ood_classes.csv``: which classes of the OOD sets pass for in-distribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from snojoe.measures.metrics import FloatArray, threshold_at_tpr
from snojoe.results.grids import Grid, ScoreRow

COLUMNS = ("ood_set", "ood_class", "images", "score", "model", "fpr95", "auroc")


def ood_classes(grid: Grid[ScoreRow], ids: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """FPR95 and AUROC of the images of each class alone, against all ID test images.

    An OOD set's FPR95 is the mean of its classes', weighted by their images; so is its AUROC.

    Parameters
    ----------
    grid : Grid
    ids : mapping
        OOD set -> the names of its images. The innermost folder is the class.

    Returns
    -------
    DataFrame
        `COLUMNS`; percent, means over seeds. A set without folders has no rows.
    """
    frames = []
    for ood_set, rows in grid.ood.items():
        names, of = np.unique([class_of(each) for each in ids[ood_set]], return_inverse=True)
        if list(names) == [""]:
            continue
        counts = np.bincount(of)
        for row, scores in rows.items():
            parts = [_parts(*each) for each in zip(grid.id[row], scores, strict=True)]
            accepted, above = (np.mean(part, axis=0) for part in zip(*parts, strict=True))
            shared = {"ood_set": ood_set, "score": row.score, "model": row.model}
            columns = {
                "ood_class": names,
                "images": counts,
                "fpr95": 100 * np.bincount(of, accepted) / counts,
                "auroc": 100 * np.bincount(of, above) / counts,
            }
            frames.append(pd.DataFrame(columns).assign(**shared))
    empty = pd.DataFrame(columns=list(COLUMNS))
    return pd.concat(frames, ignore_index=True)[list(COLUMNS)] if frames else empty


def passing_classes(classes: pd.DataFrame, score: str, model: str) -> dict[str, pd.DataFrame]:
    """OOD set -> its classes by one score on one model, those that pass most often first."""
    of_row = classes[(classes.score == score) & (classes.model == model)]
    return {
        str(ood_set): of_set.sort_values(["fpr95", "ood_class"], ascending=[False, True])
        for ood_set, of_set in of_row.groupby("ood_set", sort=False)
    }


def class_of(image: str) -> str:
    """The innermost folder of an image's name; empty for one that lies in none."""
    return PurePosixPath(image).parent.name


def _parts(id_scores: FloatArray, ood_scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Of each OOD image: whether it is accepted, and the share of ID images that are above it."""
    ascending = np.sort(id_scores)
    sides = [np.searchsorted(ascending, ood_scores, side) for side in ("left", "right")]
    accepted = ood_scores >= threshold_at_tpr(id_scores)
    return accepted.astype(np.float64), 1 - (sides[0] + sides[1]) / (2 * len(ascending))
