"""Which points does a curve show? ROC and precision-recall on fixed grids.

Every seed's curve is evaluated at the same few places, so that curves can be averaged point by
point, overlaid between experiments and kept in git. ID is the positive class, higher scores =
more in-distribution; an image is accepted when its score is at or above the threshold. All shares
of images are found by counting, so ties and grid points are exact.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from snojoe.measures.metrics import check_scores


def roc_series(id_scores: ArrayLike, ood_scores: ArrayLike, points: int = 101) -> pd.DataFrame:
    """Largest share of ID images that a threshold accepts at each false positive rate.

    The empirical ROC as the step function it is: images with equal scores are accepted together
    or not at all. `metrics.auroc` instead counts a tie as one half, the area under a slanted
    segment.

    Parameters
    ----------
    id_scores : (n,) array
        Scores of in-distribution images, higher = more in-distribution.
    ood_scores : (m,) array
        Scores of out-of-distribution images.
    points : int, default 101
        Number of grid points, 0 and 1 among them.

    Returns
    -------
    DataFrame
        `points` rows: ``fpr``, equally spaced from 0 to 1, and ``tpr``; fractions in float64.

    Raises
    ------
    ValueError
        For empty, non-finite or not one-dimensional scores, or fewer than 2 points.
    """
    id_scores = np.sort(check_scores("id_scores", id_scores))
    ood_scores = np.sort(check_scores("ood_scores", ood_scores))
    steps = np.arange(_check_points(points))
    accepted_ood = steps * ood_scores.size // (points - 1)
    # Accepting at most k OOD images is to stay above the (k + 1)-th largest of them.
    highest_rejected = np.append(ood_scores[::-1], -np.inf)[accepted_ood]
    rejected_id = np.searchsorted(id_scores, highest_rejected, side="right")
    return pd.DataFrame(
        {"fpr": steps / (points - 1), "tpr": (id_scores.size - rejected_id) / id_scores.size}
    )


def pr_series(id_scores: ArrayLike, ood_scores: ArrayLike, points: int = 101) -> pd.DataFrame:
    """Precision at the largest threshold that reaches each recall of the ID images.

    At recall 0, which every threshold reaches, it is the precision at the highest ID score: the
    curve's limit, since nothing accepted has no precision.

    Parameters
    ----------
    id_scores, ood_scores, points
        As in `roc_series`.

    Returns
    -------
    DataFrame
        `points` rows: ``recall``, equally spaced from 0 to 1, and ``precision``; fractions in
        float64.

    Raises
    ------
    ValueError
        As `roc_series`.
    """
    id_scores = np.sort(check_scores("id_scores", id_scores))
    ood_scores = np.sort(check_scores("ood_scores", ood_scores))
    steps = np.arange(_check_points(points))
    needed = np.maximum(1, -(-steps * id_scores.size // (points - 1)))
    threshold = id_scores[id_scores.size - needed]
    accepted_id = id_scores.size - np.searchsorted(id_scores, threshold)
    accepted_ood = ood_scores.size - np.searchsorted(ood_scores, threshold)
    return pd.DataFrame(
        {
            "recall": steps / (points - 1),
            "precision": accepted_id / (accepted_id + accepted_ood),
        }
    )


def _check_points(points: int) -> int:
    if points < 2:
        raise ValueError(f"points must be at least 2, got {points}")
    return points
