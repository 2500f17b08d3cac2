from fractions import Fraction

import numpy as np
import pytest

from snojoe.measures.curves import pr_series, roc_series


def tied_scores(seed, n=57, m=83, levels=12):
    """Integers drawn from few levels: every threshold is a tie."""
    rng = np.random.default_rng(seed)
    return rng.integers(2, levels + 2, n).astype(float), rng.integers(0, levels, m).astype(float)


def share(scores, threshold):
    return Fraction(sum(s >= threshold for s in scores), len(scores))


def thresholds(id_scores, ood_scores):
    return [*sorted({*id_scores, *ood_scores}), np.inf]


def brute_tpr(id_scores, ood_scores, fpr):
    allowed = [t for t in thresholds(id_scores, ood_scores) if share(ood_scores, t) <= fpr]
    return float(max(share(id_scores, t) for t in allowed))


def brute_precision(id_scores, ood_scores, recall):
    threshold = max(t for t in id_scores if share(id_scores, t) >= recall)
    hits = sum(s >= threshold for s in id_scores)
    return hits / (hits + sum(s >= threshold for s in ood_scores))


def grid(points):
    return [Fraction(k, points - 1) for k in range(points)]


@pytest.mark.parametrize("levels", [1, 12, 10**9])
@pytest.mark.parametrize("points", [2, 11, 84, 101])
def test_roc_is_the_best_threshold_at_each_fpr(levels, points):
    id_scores, ood_scores = tied_scores(0, levels=levels)
    expected = [brute_tpr(id_scores, ood_scores, fpr) for fpr in grid(points)]
    assert roc_series(id_scores, ood_scores, points)["tpr"].tolist() == expected


@pytest.mark.parametrize("levels", [1, 12, 10**9])
@pytest.mark.parametrize("points", [2, 11, 58, 101])
def test_precision_is_that_of_the_largest_threshold_that_reaches_the_recall(levels, points):
    id_scores, ood_scores = tied_scores(1, levels=levels)
    expected = [brute_precision(id_scores, ood_scores, recall) for recall in grid(points)]
    assert pr_series(id_scores, ood_scores, points)["precision"].tolist() == expected


@pytest.mark.parametrize(("series", "axis"), [(roc_series, "fpr"), (pr_series, "recall")])
def test_grid_is_the_same_for_all_scores(series, axis):
    few, many = series([1.0], [0.0]), series(*tied_scores(0))
    assert few[axis].tolist() == many[axis].tolist() == [k / 100 for k in range(101)]


@pytest.mark.parametrize("series", [roc_series, pr_series])
def test_order_of_the_images_does_not_matter(series):
    id_scores, ood_scores = tied_scores(2)
    assert series(id_scores, ood_scores).equals(series(id_scores[::-1], ood_scores[::-1]))


def test_perfect_scores():
    id_scores, ood_scores = np.arange(10.0) + 100, np.arange(7.0)
    assert (roc_series(id_scores, ood_scores)["tpr"] == 1).all()
    assert (pr_series(id_scores, ood_scores)["precision"] == 1).all()


def test_constant_scores_accept_all_or_nothing():
    same = np.zeros(30)
    assert roc_series(same[:10], same, points=3)["tpr"].tolist() == [0, 0, 1]
    assert pr_series(same[:10], same, points=3)["precision"].tolist() == [0.25, 0.25, 0.25]


@pytest.mark.parametrize("series", [roc_series, pr_series])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"id_scores": []}, "id_scores must be a non-empty 1-d array"),
        ({"ood_scores": [np.nan]}, "ood_scores must be finite"),
        ({"points": 1}, "points must be at least 2, got 1"),
    ],
)
def test_bad_arguments_are_refused_by_name(series, bad, message):
    with pytest.raises(ValueError, match=message):
        series(**{"id_scores": [1.0], "ood_scores": [0.0], **bad})
