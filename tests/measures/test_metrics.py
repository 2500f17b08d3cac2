import numpy as np
import pytest
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

from snojoe.measures import metrics


def tied_scores(seed, n=57, m=83, levels=12):
    """Integers drawn from few levels: every threshold is a tie."""
    rng = np.random.default_rng(seed)
    return rng.integers(2, levels + 2, n).astype(float), rng.integers(0, levels, m).astype(float)


def brute_threshold(id_scores, percent):
    kept = [
        t for t in id_scores if 100 * sum(s >= t for s in id_scores) >= percent * len(id_scores)
    ]
    return max(kept)


def brute_average_precision(positive, score):
    area, found = 0.0, 0
    for t in sorted(set(score), reverse=True):
        accepted = [p for p, s in zip(positive, score, strict=True) if s >= t]
        area += (sum(accepted) - found) / sum(positive) * sum(accepted) / len(accepted)
        found = sum(accepted)
    return area


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("percent", [1, 50, 95, 100])
def test_threshold_keeps_the_share_with_ties(seed, percent):
    id_scores, _ = tied_scores(seed)
    assert metrics.threshold_at_tpr(id_scores, percent / 100) == brute_threshold(id_scores, percent)


@pytest.mark.parametrize("seed", range(5))
def test_fpr_counts_ood_at_or_above_the_threshold(seed):
    id_scores, ood_scores = tied_scores(seed)
    threshold = brute_threshold(id_scores, 95)
    expected = sum(s >= threshold for s in ood_scores) / len(ood_scores)
    assert metrics.fpr_at_tpr(id_scores, ood_scores) == expected


@pytest.mark.parametrize("percent", [7, 29, 57, 95])
def test_count_is_exact_for_every_number_of_images(percent):
    counts = [metrics.count_at_tpr(n, percent / 100) for n in range(1, 3000)]
    assert counts == [-(-percent * n // 100) for n in range(1, 3000)]


def test_count_of_600_at_95_percent_is_570():
    assert metrics.count_at_tpr(600, 0.95) == 570


@pytest.mark.parametrize("seed", range(5))
def test_auroc_counts_pairs(seed):
    id_scores, ood_scores = tied_scores(seed)
    wins = [(i > o) + (i == o) / 2 for i in id_scores for o in ood_scores]
    assert metrics.auroc(id_scores, ood_scores) == pytest.approx(np.mean(wins), abs=1e-14)


@pytest.mark.parametrize("seed", range(5))
def test_aupr_counts_thresholds(seed):
    id_scores, ood_scores = tied_scores(seed)
    positive = [1] * len(id_scores) + [0] * len(ood_scores)
    expected = brute_average_precision(positive, [*id_scores, *ood_scores])
    assert metrics.aupr(id_scores, ood_scores) == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("levels", [5, 10**9])
def test_auroc_and_aupr_agree_with_scikit_learn(levels):
    id_scores, ood_scores = tied_scores(0, n=300, m=500, levels=levels)
    labels, scores = np.repeat([1, 0], [300, 500]), np.append(id_scores, ood_scores)
    assert metrics.auroc(id_scores, ood_scores) == pytest.approx(
        roc_auc_score(labels, scores), abs=1e-12
    )
    assert metrics.aupr(id_scores, ood_scores) == pytest.approx(
        average_precision_score(labels, scores), abs=1e-12
    )


def test_constant_scores_are_chance():
    same = np.zeros(30)
    assert metrics.fpr_at_tpr(same[:10], same) == 1
    assert metrics.auroc(same[:10], same) == 0.5
    assert metrics.aupr(same[:10], same) == 0.25


def test_scores_apart_by_one_ulp_are_distinct():
    id_scores, ood_scores = np.full(20, np.nextafter(1e4, 2e4)), np.full(20, 1e4)
    assert metrics.fpr_at_tpr(id_scores, ood_scores) == 0
    assert metrics.auroc(id_scores, ood_scores) == 1
    assert metrics.aupr(id_scores, ood_scores) == 1


@pytest.fixture
def multi_label():
    rng = np.random.default_rng(0)
    y_true = rng.integers(0, 2, (80, 4))
    y_true[:, 2] = 0
    return y_true, rng.integers(0, 15, (80, 4)) + 3.0 * y_true


def test_average_precision_per_class(multi_label):
    y_true, y_score = multi_label
    expected = [brute_average_precision(y_true[:, k], y_score[:, k]) for k in (0, 1, 3)]
    assert metrics.average_precision(*multi_label)[[0, 1, 3]] == pytest.approx(expected, abs=1e-14)


def test_average_precision_without_a_positive_is_undefined(multi_label):
    assert np.isnan(metrics.average_precision(*multi_label)).tolist() == [False, False, True, False]


def test_interpolated_average_precision_is_the_area_under_the_curve(multi_label):
    y_true, y_score = multi_label
    precision, recall, _ = precision_recall_curve(y_true[:, 0], y_score[:, 0])
    interpolated = metrics.interpolated_average_precision(y_true, y_score)
    assert interpolated[0] == pytest.approx(auc(recall, precision), abs=1e-12)


def test_mean_average_precision_leaves_undefined_classes_out(multi_label):
    defined = metrics.average_precision(*multi_label)[[0, 1, 3]]
    assert metrics.mean_average_precision(*multi_label) == pytest.approx(defined.mean())


def test_mean_average_precision_interpolated(multi_label):
    defined = metrics.interpolated_average_precision(*multi_label)[[0, 1, 3]]
    assert metrics.mean_average_precision(*multi_label, interpolated=True) == pytest.approx(
        defined.mean()
    )


def test_mean_average_precision_without_any_positive():
    with pytest.raises(ValueError, match="positive in at least one class"):
        metrics.mean_average_precision(np.zeros((3, 2)), np.zeros((3, 2)))


@pytest.mark.parametrize("metric", [metrics.fpr_at_tpr, metrics.auroc, metrics.aupr])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([], r"ood_scores must be a non-empty 1-d array, got shape \(0,\)"),
        ([[1.0], [2.0]], r"ood_scores must be a non-empty 1-d array, got shape \(2, 1\)"),
        ([1.0, np.nan], r"ood_scores must be finite, got nan at \[1\]"),
        ([-np.inf, 1.0], r"ood_scores must be finite, got -inf at \[0\]"),
    ],
)
def test_bad_scores_are_refused_by_name(metric, bad, message):
    with pytest.raises(ValueError, match=message):
        metric([1.0, 2.0], bad)


@pytest.mark.parametrize("tpr", [0, -0.1, 1.1, float("nan")])
def test_tpr_outside_its_range(tpr):
    with pytest.raises(ValueError, match=r"tpr must be in \(0, 1\]"):
        metrics.threshold_at_tpr([1.0], tpr)


@pytest.mark.parametrize(
    ("y_true", "y_score", "message"),
    [
        ([[0, 2]], [[0.1, 0.2]], "y_true must hold 0 and 1 only, got 2"),
        ([[0, 1]], [[0.1]], r"one shape, got \(1, 2\) and \(1, 1\)"),
        ([[0, 1]], [[0.1, np.nan]], r"y_score must be finite, got nan at \[0, 1\]"),
        ([0, 1], [0.1, 0.2], "y_true must be a non-empty 2-d array"),
    ],
)
def test_bad_label_matrices_are_refused_by_name(y_true, y_score, message):
    with pytest.raises(ValueError, match=message):
        metrics.average_precision(y_true, y_score)
