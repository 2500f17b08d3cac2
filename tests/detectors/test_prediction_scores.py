"""Scores of the predicted probabilities alone, image by image as their papers say.

GEN and KL matching from their equations, with K Bernoulli distributions in the place of the
softmax; the co-occurrence energy is ours, from its module's equation.
"""

import math

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import entropy, rankdata

from snojoe.detectors import JointEnergy, LinearHead, ModelOutputs
from snojoe.detectors.co_occurrence import CoOccurrenceEnergy
from snojoe.detectors.gen import GEN
from snojoe.detectors.kl_matching import KLMatching


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(scale=4, size=(200, 6))


def score(detector, X):
    return detector.fit(X).score_samples(X)


def test_gen_is_the_generalised_entropy_of_the_most_probable(logits):
    expected = [
        -sum((p * (1 - p)) ** 0.1 for p in sorted(row)[-3:]) for row in expit(logits).tolist()
    ]
    assert score(GEN(m=3), logits) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("labels", "m"),
    [
        ([[1, 0, 0], [1, 1, 0]] * 3 + [[0, 0, 0]], 2),  # 1.5, and none of the last
        ([[1, 0, 0], [0, 1, 0], [1, 1, 0]], 1),
        ([[1, 1, 1]], 3),
        ([2, 0, 1], 1),
        (None, 1),
    ],
)
def test_gen_takes_as_many_labels_as_an_image_has(labels, m):
    n = 3 if labels is None else len(labels)
    assert GEN().fit(np.zeros((n, 3)), labels).m_ == m


def test_gen_of_all_labels(logits):
    assert np.array_equal(score(GEN(m=100), logits), score(GEN(m=6), logits))


def test_gen_tells_apart_what_a_probability_rounds_to_one():
    assert np.diff(score(GEN(), np.array([[60.0], [61.0]]))) > 0


def test_gen_cannot_tell_surely_one_from_surely_none(logits):
    assert score(GEN(m=6), -logits) == pytest.approx(score(GEN(m=6), logits))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"gamma": 0}, "gamma must be positive, got 0"),
        ({"m": 0}, "m must be at least 1, got 0"),
    ],
)
def test_gen_with_bad_parameters(params, message, logits):
    with pytest.raises(ValueError, match=message):
        GEN(**params).fit(logits)


def divergence(p, d):
    return entropy([p, 1 - p], [d, 1 - d])


def test_kl_matching_sums_the_divergences_from_each_labels_nearest_typical_prediction(logits):
    p = expit(logits)
    typical = [(q[q >= 0.5].mean(), q[q < 0.5].mean()) for q in p.T]
    expected = [
        -sum(min(divergence(q, d) for d in both) for q, both in zip(row, typical, strict=True))
        for row in p
    ]
    assert score(KLMatching(), logits) == pytest.approx(expected)


@pytest.mark.parametrize("sign", [-1, 1])
def test_kl_matching_of_labels_that_are_all_predicted_or_none(sign, logits):
    X = sign * (np.abs(logits) + 0.1)
    expected = [
        -sum(divergence(q, mean) for q, mean in zip(row, expit(X).mean(axis=0), strict=True))
        for row in expit(X)
    ]
    assert score(KLMatching(), X) == pytest.approx(expected)


def fitted_energy(labels):
    K = labels.shape[1]
    head = LinearHead(np.ones((K, 2)), np.zeros(K))
    n = len(labels)
    return CoOccurrenceEnergy().fit(
        ModelOutputs(np.zeros((n, K)), np.zeros((n, 2)), np.zeros((n, 2)), labels), head
    )


def of_logits(detector, logits):
    n = len(logits)
    return detector.score_samples(ModelOutputs(logits, np.zeros((n, 2)), np.zeros((n, 2))))


def test_co_occurrence_weighs_each_energy_by_its_company(logits):
    labels = np.random.default_rng(1).integers(0, 2, (90, 6))
    labels[:, 0] *= 1 - labels[:, 1]  # never together
    counts = labels.sum(axis=0)
    both = [[sum(a * b) for b in labels.T] for a in labels.T]
    company = [
        [
            1 if i == j else min(1, (both[i][j] + 1) / (counts[i] * counts[j] / 90 + 1))
            for j in range(6)
        ]
        for i in range(6)
    ]
    expected = []
    for row in logits:
        p = expit(row)
        expected.append(
            sum(
                math.log1p(math.exp(f)) * sum(q * c for q, c in zip(p, company[i], strict=True))
                for i, f in enumerate(row)
            )
            / p.sum()
        )
    assert of_logits(fitted_energy(labels), logits) == pytest.approx(expected)


def test_labels_that_are_seen_together_as_often_as_by_chance_make_it_joint_energy(logits):
    labels = np.array([[a, b] for a in (0, 1) for b in (0, 1)] * 10)
    found = of_logits(fitted_energy(labels), logits[:, :2])
    assert found == pytest.approx(score(JointEnergy(), logits[:, :2]))


def test_two_labels_that_are_never_together_count_less():
    detector = fitted_energy(np.repeat(np.eye(2), 50, axis=0))
    both, one = of_logits(detector, np.array([[6.0, 6.0], [6.0, -6.0]]))
    assert both < 6.6  # of 12
    assert one == pytest.approx(6, abs=0.1)


def test_no_probability_is_no_division_by_zero(logits):
    detector = fitted_energy(np.random.default_rng(1).integers(0, 2, (90, 6)))
    found = of_logits(detector, -800 - np.abs(logits))
    assert np.array_equal(found, np.zeros(200))


def test_co_occurrence_without_labels():
    head = LinearHead(np.ones((2, 2)), np.zeros(2))
    with pytest.raises(ValueError, match="Co-occurrence energy needs labels to be fitted"):
        CoOccurrenceEnergy().fit(ModelOutputs(*np.zeros((3, 4, 2))), head)


def test_gen_of_one_label_ranks_by_the_distance_from_one_half():
    p = np.linspace(0.01, 0.99, 50)
    found = score(GEN(), np.log(p / (1 - p))[:, None])
    assert np.array_equal(rankdata(found.round(12)), rankdata(np.abs(p - 0.5).round(12)))
