"""Scores of one array, against their definitions."""

import math

import numpy as np
import pytest
from scipy.special import expit, log_softmax
from scipy.stats import rankdata
from sklearn import ensemble, neighbors

from snojoe.detectors import LOF, MSP, ODIN, IsolationForest, JointEnergy, MaxLogit
from snojoe.detectors.feature_norm import FeatureNorm
from snojoe.detectors.knn import KNN
from snojoe.detectors.sum_logit import SumLogit
from snojoe.detectors.sum_prob import SumProb
from snojoe.detectors.top_k_energy import TopKEnergy


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(scale=4, size=(200, 6))


def score(detector, X):
    return detector.fit(X).score_samples(X)


def test_max_logit(logits):
    assert score(MaxLogit(), logits).tolist() == [max(row) for row in logits.tolist()]


def test_msp_is_the_largest_log_softmax(logits):
    assert score(MSP(), logits) == pytest.approx(log_softmax(logits, axis=1).max(axis=1))


def test_msp_keeps_apart_what_a_probability_rounds_to_one():
    logits = np.array([[60.0, 0.0], [61.0, 0.0]])
    assert np.diff(expit(logits).max(axis=1)) == 0
    assert np.diff(score(MSP(), logits)) > 0


def test_joint_energy_is_the_sum_of_softplus(logits):
    expected = [sum(math.log1p(math.exp(f)) for f in row) for row in logits]
    assert score(JointEnergy(), logits) == pytest.approx(expected, rel=1e-14)


def test_joint_energy_does_not_overflow():
    assert score(JointEnergy(), np.array([[1e4, -1e4, 1e4]])).tolist() == [2e4]


def test_odin_at_temperature_1_is_max_logit(logits):
    assert np.array_equal(score(ODIN(), logits), score(MaxLogit(), logits))


@pytest.mark.parametrize("temperature", [1, 10, 100, 1000])
def test_odin_ranks_as_its_largest_probability(logits, temperature):
    probability = expit(logits / temperature).max(axis=1)
    odin = score(ODIN(temperature=temperature), logits)
    assert np.array_equal(rankdata(odin), rankdata(probability))


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan")])
def test_odin_with_a_bad_temperature(logits, temperature):
    with pytest.raises(ValueError, match="temperature must be positive"):
        ODIN(temperature=temperature).fit(logits)


def test_sum_logit(logits):
    assert score(SumLogit(), logits) == pytest.approx([math.fsum(row) for row in logits])


def test_sum_prob(logits):
    expected = [math.fsum(1 / (1 + math.exp(-f)) for f in row) for row in logits]
    assert score(SumProb(), logits) == pytest.approx(expected, rel=1e-14)


def test_top_k_energy_sums_the_k_largest(logits):
    expected = [sum(math.log1p(math.exp(f)) for f in sorted(row)[-2:]) for row in logits]
    assert score(TopKEnergy(k=2), logits) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("k", [6, 7])
def test_top_k_energy_of_all_classes_is_joint_energy(logits, k):
    assert score(TopKEnergy(k=k), logits) == pytest.approx(score(JointEnergy(), logits), rel=1e-14)


def test_top_1_energy_ranks_as_max_logit(logits):
    top_1, max_logit = score(TopKEnergy(k=1), logits), score(MaxLogit(), logits)
    assert np.array_equal(rankdata(top_1), rankdata(max_logit))


def test_lof_is_scikit_learns(logits):
    expected = neighbors.LocalOutlierFactor(novelty=True).fit(logits[:100])
    detector = LOF().fit(logits[:100])
    assert np.array_equal(detector.score_samples(logits), expected.score_samples(logits))


def test_isolation_forest_is_scikit_learns_with_seed_42(logits):
    expected = ensemble.IsolationForest(random_state=42).fit(logits[:100])
    detector = IsolationForest().fit(logits[:100])
    assert np.array_equal(detector.score_samples(logits), expected.score_samples(logits))


def test_knn_is_the_distance_between_directions(logits):
    train, test = logits[:150], logits[150:]
    directions = [z / np.linalg.norm(z) for z in train]
    expected = [
        -sorted(np.linalg.norm(x / np.linalg.norm(x) - z) for z in directions)[4] for x in test
    ]
    assert KNN(k=5).fit(train).score_samples(test) == pytest.approx(expected)


@pytest.mark.parametrize(("images", "k"), [(3, 1), (1499, 1), (1673, 2), (5717, 6), (82_783, 83)])
def test_knn_takes_one_of_a_thousand_neighbours(images, k):
    assert KNN().fit(np.eye(1, images).T + 1).k_ == k


def test_knn_with_fewer_images_than_k_takes_the_farthest(logits):
    few, all_of_them = KNN(k=50).fit(logits[:8]), KNN(k=8).fit(logits[:8])
    assert np.array_equal(few.score_samples(logits), all_of_them.score_samples(logits))


def test_feature_norm_is_the_length(logits):
    expected = [math.sqrt(math.fsum(x * x for x in row)) for row in logits]
    assert score(FeatureNorm(), logits) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("detector", [KNN, TopKEnergy])
def test_k_must_be_positive(logits, detector):
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        detector(k=0).fit(logits)
