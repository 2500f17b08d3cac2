import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from snojoe.measures.influence import influence, roc_slope
from snojoe.measures.ood_metrics import AUPR, AUROC, FPR95, OOD_METRICS

N, M = 25, 40
STEP = 1e-5


def scores(levels):
    rng = np.random.default_rng(0)
    id_scores = rng.integers(levels // 5, levels, N)
    return id_scores.astype(float), rng.integers(0, levels - levels // 5, M).astype(float)


def of_weights(measure, scores, id_weights, ood_weights):
    """scikit-learn's metric of weighted images; each set weighs its number."""
    weights = [w / w.sum() * w.size for w in (id_weights, ood_weights)]
    labels = np.repeat([1, 0], [N, M])
    return measure(labels, np.concatenate(scores), sample_weight=np.concatenate(weights))


def derivatives(measure, scores):
    found = []
    for index in range(N + M):
        values = []
        for step in (STEP, -STEP):
            weights = np.ones(N + M)
            weights[index] += step
            values.append(of_weights(measure, scores, weights[:N], weights[N:]))
        found.append((values[0] - values[1]) / (2 * STEP) * (N if index < N else M))
    return np.array(found)


@pytest.mark.parametrize("levels", [6, 10**9])
@pytest.mark.parametrize(
    ("metric", "measure"), [(AUROC, roc_auc_score), (AUPR, average_precision_score)]
)
def test_influence_is_the_derivative_by_the_weight_of_an_image(metric, measure, levels):
    pair = scores(levels)
    found = np.concatenate(influence(metric, *pair))
    assert found == pytest.approx(derivatives(measure, pair), abs=1e-8)


def test_influence_on_fpr95_is_that_of_normal_scores():
    """ID from N(2, 1), OOD from N(0, 1): the threshold, FPR and slope are then known."""
    quantiles = norm.ppf((np.arange(20000) + 0.5) / 20000)
    id_scores, ood_scores = quantiles + 2, quantiles
    threshold = norm.ppf(0.05) + 2
    slope = norm.pdf(threshold) / norm.pdf(threshold - 2)
    accepted = id_scores >= threshold, ood_scores >= threshold
    id_part, ood_part = influence(FPR95, id_scores, ood_scores)
    assert roc_slope(id_scores, ood_scores) == pytest.approx(slope, rel=0.01)
    expected = -slope * (accepted[0] - 0.95), accepted[1] - norm.sf(threshold)
    for part, known in zip((id_part, ood_part), expected, strict=True):
        far = np.abs(part - known) > 0.02 * np.abs(known)
        assert far.sum() <= 3  # images beside the threshold


@pytest.mark.parametrize("metric", OOD_METRICS)
@pytest.mark.parametrize("levels", [6, 10**9])
def test_influence_has_mean_zero(metric, levels):
    for part in influence(metric, *scores(levels)):
        assert part.mean() == pytest.approx(0, abs=1e-12)


def test_slope_of_a_tie_is_zero():
    assert roc_slope(np.ones(50), np.linspace(0, 2, 50)) == 0


@pytest.mark.parametrize("metric", OOD_METRICS)
def test_one_image_of_each_set_moves_nothing(metric):
    assert [part.tolist() for part in influence(metric, [1.0], [0.0])] == [[0], [0]]


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="ood_scores must be finite"):
        influence(AUROC, [0.0], [np.nan])
