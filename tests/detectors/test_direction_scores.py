"""Scores of directions and distances in feature space, image by image as their papers say.

NECO from its equation and the authors' published code (scaler, PCA, ratio of norms); NCI and fDBD
from their equations, fDBD in the form for many labels that its module states; MaxCosine from its
abstract, which splits a logit into cosine and norms.
"""

import math

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from snojoe.detectors import LinearHead, ModelOutputs
from snojoe.detectors.fdbd import FDBD
from snojoe.detectors.gaussian_mixture import GaussianMixture
from snojoe.detectors.max_cosine import MaxCosine
from snojoe.detectors.nci import NCI
from snojoe.detectors.neco import NECO


@pytest.fixture
def head():
    rng = np.random.default_rng(0)
    return LinearHead(rng.normal(size=(3, 7)), rng.normal(size=3) - 4)


def outputs(head, seed, n=50):
    rng = np.random.default_rng(seed)
    hidden = np.maximum(rng.normal(size=(n, 7)) @ np.diag(np.arange(7)), 0)  # the first is dead
    return ModelOutputs(head.logits(hidden), rng.normal(size=(n, 4)), hidden)


@pytest.fixture
def train(head):
    return outputs(head, 1)


@pytest.fixture
def test(head):
    return outputs(head, 2)


def score(detector, train, test, head):
    return detector.fit(train, head).score_samples(test)


@pytest.mark.parametrize("variance", [0.3, 0.9])
def test_neco_is_the_share_of_the_norm_in_the_principal_space(variance, train, test, head):
    scaler = StandardScaler().fit(train.hidden)
    components = PCA(variance, svd_solver="full").fit(scaler.transform(train.hidden)).components_
    expected = [
        np.linalg.norm(components @ h) / np.linalg.norm(h) for h in scaler.transform(test.hidden)
    ]
    assert score(NECO(variance=variance), train, test, head) == pytest.approx(expected)


def test_neco_of_all_variance_is_1(train, test, head):
    assert score(NECO(variance=1), train, test, head) == pytest.approx(np.ones(50))


@pytest.mark.parametrize("variance", [0, 1.5])
def test_neco_with_a_bad_variance(variance, train, head):
    with pytest.raises(ValueError, match=rf"variance must be in \(0, 1\], got {variance}"):
        NECO(variance=variance).fit(train, head)


def test_fdbd_sums_the_distances_into_positive_labels(train, test, head):
    mean = train.hidden.mean(axis=0)
    expected = []
    for h, logits in zip(test.hidden, test.logits, strict=True):
        distances = [f / math.hypot(*w) for f, w in zip(logits, head.weight, strict=True)]
        positive = [d for d in distances if d > 0]
        expected.append((sum(positive) if positive else max(distances)) / math.dist(h, mean))
    assert 0 < sum(e < 0 for e in expected) < len(expected)  # images with and without a label
    assert score(FDBD(), train, test, head) == pytest.approx(expected)


def test_fdbd_moves_to_the_boundary_by_its_distance(train, head):
    one = LinearHead(head.weight[:1], head.bias[:1])
    fitted = FDBD().fit(ModelOutputs(one.logits(train.hidden), train.hidden, train.hidden), one)
    mean = train.hidden.mean(axis=0)
    start = train.hidden[:1]
    distance = fitted.score_samples(ModelOutputs(one.logits(start), start, start))[0]
    distance *= np.linalg.norm(start - mean)
    there = start - distance * one.weight / np.linalg.norm(one.weight)
    assert one.logits(there) == pytest.approx(0)


def test_nci_is_the_proximity_to_the_predicted_label_and_the_norm(train, test, head):
    mean = train.hidden.mean(axis=0)
    expected = []
    for h, logits in zip(test.hidden, test.logits, strict=True):
        w, centred = head.weight[np.argmax(logits)], h - mean
        cosine = w @ centred / (math.hypot(*w) * math.hypot(*centred))
        expected.append(cosine * math.hypot(*w) + 0.01 * sum(abs(h)))
    assert score(NCI(alpha=0.01), train, test, head) == pytest.approx(expected)


def test_nci_with_a_bad_alpha(train, head):
    with pytest.raises(ValueError, match="alpha must not be negative, got -1"):
        NCI(alpha=-1).fit(train, head)


def test_max_cosine_is_max_logit_without_norms_and_bias(train, test, head):
    expected = [
        max((w @ h) / (math.hypot(*w) * math.hypot(*h)) for w in head.weight) for h in test.hidden
    ]
    assert score(MaxCosine(), train, test, head) == pytest.approx(expected)


def test_features_of_zero_have_no_direction(train, head):
    zero = np.zeros((1, 7))
    assert score(MaxCosine(), train, ModelOutputs(head.logits(zero), zero, zero), head) == [0]


def test_a_mixture_finds_the_components_that_made_the_features():
    rng = np.random.default_rng(0)
    means, scales = np.array([[0, 0], [8, 8], [0, 8]]), np.array([[1, 2], [0.5, 1], [2, 0.5]])
    ids = rng.choice(3, 6000, p=[0.5, 0.3, 0.2])
    X = means[ids] + scales[ids] * rng.normal(size=(6000, 2))
    labels = np.eye(3)[ids]
    labels[:300, 1] = 1  # some show a label more
    new = rng.uniform(-2, 10, (200, 2))
    density = sum(
        share * multivariate_normal(m, np.diag(s**2)).pdf(new)
        for share, m, s in zip([0.5, 0.3, 0.2], means, scales, strict=True)
    )
    near = density > 1e-6
    found = GaussianMixture().fit(X, labels).score_samples(new)
    assert found[near] == pytest.approx(np.log(density[near]), abs=0.4)


def test_a_mixture_of_one_is_a_gaussian_with_a_diagonal_covariance():
    X = np.random.default_rng(0).normal(size=(60, 3)) * [1, 2, 3]
    expected = multivariate_normal(X.mean(axis=0), np.diag(X.var(axis=0) + 1e-6)).logpdf(X)
    assert GaussianMixture().fit(X).score_samples(X) == pytest.approx(expected)


def test_a_mixture_leaves_out_labels_without_a_positive():
    rng = np.random.default_rng(0)
    X, labels = rng.normal(size=(60, 3)), rng.integers(0, 2, (60, 4))
    labels[:, 2] = 0
    fitted = GaussianMixture().fit(X, labels)
    assert fitted.means_.shape == (3, 3)
    assert np.isfinite(fitted.score_samples(X)).all()
