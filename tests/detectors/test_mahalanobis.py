import numpy as np
import pytest
from sklearn.covariance import EmpiricalCovariance

from snojoe.detectors import DETECTORS, Mahalanobis, ModelOutputs, fit_detector
from snojoe.detectors.mahalanobis_pp import MahalanobisPP
from snojoe.detectors.relative_mahalanobis import RelativeMahalanobis


@pytest.fixture
def data():
    """Images with no, one or several labels; class 2 has no positive."""
    rng = np.random.default_rng(0)
    labels = (rng.random((150, 4)) < [0.5, 0.3, 0.0, 0.4]).astype(int)
    z = rng.normal(size=(150, 6)) + labels @ rng.normal(scale=2, size=(4, 6)) + 10
    return z, labels


def distances_by_definition(z, labels, test):
    """One image once per label: pairs, class means, sklearn's covariance of what is left."""
    pairs = [(i, k) for i, k in np.argwhere(labels)]
    means = {k: np.mean([z[i] for i, c in pairs if c == k], axis=0) for _, k in pairs}
    centred = np.array([z[i] - means[k] for i, k in pairs])
    precision = EmpiricalCovariance(assume_centered=True).fit(centred).precision_
    return np.array([[(x - m) @ precision @ (x - m) for m in means.values()] for x in test])


def test_multi_label_definition(data):
    z, labels = data
    detector = Mahalanobis().fit(z[:120], labels[:120])
    expected = -0.5 * distances_by_definition(z[:120], labels[:120], z).min(axis=1)
    assert detector.score_samples(z) == pytest.approx(expected, rel=1e-10)


def test_no_labels_are_one_class(data):
    z, _ = data
    expected = -0.5 * EmpiricalCovariance().fit(z).mahalanobis(z)
    assert Mahalanobis().fit(z).score_samples(z) == pytest.approx(expected, rel=1e-10)


def test_class_ids_are_a_label_matrix_with_one_label_each(data):
    z, _ = data
    ids = np.random.default_rng(1).choice(["cat", "dog", "horse"], len(z))
    matrix = (ids[:, None] == ["horse", "cat", "dog"]).astype(int)
    by_ids = Mahalanobis().fit(z, ids).score_samples(z)
    assert by_ids == pytest.approx(Mahalanobis().fit(z, matrix).score_samples(z), rel=1e-12)


@pytest.mark.parametrize("case", ["fewer images than dimensions", "dead feature", "copied feature"])
def test_singular_covariance_has_its_pseudo_inverse(data, case):
    z, labels = data
    train = {
        "fewer images than dimensions": z[:5],
        "dead feature": z * [1, 1, 0, 1, 1, 1],
        "copied feature": z[:, [0, 1, 2, 3, 4, 4]],
    }[case]
    labels = labels[: len(train)]
    expected = -0.5 * distances_by_definition(train, labels, z).min(axis=1)
    scores = Mahalanobis().fit(train, labels).score_samples(z)
    assert scores == pytest.approx(expected, rel=1e-6)


def test_one_image_per_class_leaves_no_variance(data):
    z, _ = data
    assert Mahalanobis().fit(z[:4], np.eye(4)).score_samples(z).tolist() == [0] * len(z)


def test_far_from_the_origin_keeps_its_digits(data):
    z, labels = data
    near = Mahalanobis().fit(z, labels).score_samples(z)
    assert Mahalanobis().fit(z + 1e6, labels).score_samples(z + 1e6) == pytest.approx(
        near, rel=1e-6
    )


def test_more_images_than_a_block_of_rows(data):
    z, labels = data
    detector = Mahalanobis().fit(z, labels)
    many = detector.score_samples(np.tile(z, (60, 1)))
    assert many == pytest.approx(np.tile(detector.score_samples(z), 60), rel=1e-9)


def test_mahalanobis_pp_sees_directions(data):
    z, labels = data
    directions = z / np.linalg.norm(z, axis=1, keepdims=True)
    expected = Mahalanobis().fit(directions, labels).score_samples(directions)
    detector = MahalanobisPP().fit(z, labels)
    assert detector.score_samples(z) == pytest.approx(expected)
    assert detector.score_samples(3 * z) == pytest.approx(expected)


def test_relative_mahalanobis_subtracts_the_class_free_distance(data):
    z, labels = data
    nearest = distances_by_definition(z, labels, z).min(axis=1)
    background = EmpiricalCovariance().fit(z).mahalanobis(z)
    scores = RelativeMahalanobis().fit(z, labels).score_samples(z)
    assert scores == pytest.approx(background - nearest, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("mahalanobis", "mahalanobis_hidden"),
        ("mahalanobis_pp_features", "mahalanobis_pp"),
        ("relative_mahalanobis_features", "relative_mahalanobis"),
    ],
)
def test_one_of_two_scores_reads_the_trunk_and_one_the_penultimate_layer(data, name, other):
    z, labels = data
    h = np.random.default_rng(1).normal(size=(len(z), 8)) + labels @ np.eye(4, 8)
    outputs = ModelOutputs(np.zeros(labels.shape), z, h, labels)
    family = DETECTORS[name]
    assert issubclass(DETECTORS[other], family) or issubclass(family, DETECTORS[other])
    for score, array in ((name, z), (other, h)):
        found = fit_detector(score, outputs, outputs, None).score_outputs(outputs)
        assert np.array_equal(found, family().fit(array, labels).score_samples(array))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda labels: labels * 2, "y must hold 0 and 1 only where it is a label matrix, got 2"),
        (lambda labels: labels * 0, "y must have a positive"),
        (lambda labels: labels[1:], "inconsistent numbers of samples"),
        (lambda labels: labels / np.nan, "Input y contains NaN"),
    ],
)
def test_bad_labels_are_refused_by_name(data, change, message):
    z, labels = data
    with pytest.raises(ValueError, match=message):
        Mahalanobis().fit(z, change(labels))
