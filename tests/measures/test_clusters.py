import numpy as np
import pytest

from snojoe.measures.clusters import Clusters

DISJOINT = [("a",), ("a",), ("b",), (), ("b",), ("b",), ()]
CROSSED = [("a", "b"), ("a", "b", "c"), ("b",), (), ("c", "d"), ("d", "d"), ("e",), ("a", "b")]


def dependent(groups):
    """A, image by image."""
    pairs = [
        [i == j or set(a) & set(b) for j, b in enumerate(groups)] for i, a in enumerate(groups)
    ]
    return np.array(pairs, dtype=bool).astype(float)


def influences(k, n):
    return np.random.default_rng(0).normal(size=(k, n))


@pytest.mark.parametrize("groups", [DISJOINT, CROSSED])
def test_covariance_is_that_of_all_dependent_pairs(groups):
    matrix, n = dependent(groups), len(groups)
    effective = n**2 / matrix.sum()
    psi = influences(3, n)
    centred = psi - psi.mean(axis=1, keepdims=True)
    clusters = Clusters.of(groups)
    assert clusters.effective == pytest.approx(effective)
    assert clusters.df == pytest.approx(effective - 1)
    expected = centred @ matrix @ centred.T / n**2 * effective / (effective - 1)
    assert clusters.covariance_of_means(psi) == pytest.approx(expected)


def test_many_crossed_groups():
    rng = np.random.default_rng(1)
    groups = [
        [f"{g}" for g in rng.choice(30, rng.integers(0, 9), replace=False)] for _ in range(80)
    ]
    matrix = dependent(groups)
    assert Clusters.of(groups).effective == pytest.approx(80**2 / matrix.sum())


def test_independent_images_give_the_covariance_of_a_mean():
    psi = influences(2, 9)
    clusters = Clusters.independent(9)
    assert (clusters.effective, clusters.df) == (9, 8)
    assert clusters.covariance_of_means(psi) == pytest.approx(np.cov(psi) / 9)
    assert clusters.design_effects(psi) == pytest.approx([1, 1])


def test_effective_number_of_disjoint_groups_depends_on_how_their_sizes_vary():
    sizes = np.array([1, 4, 2, 2, 6])
    clusters = Clusters.of([(f"{g}",) for g in np.repeat(np.arange(5), sizes)])
    variation = sizes.std() / sizes.mean()
    assert clusters.effective == pytest.approx(5 / (1 + variation**2))


def test_images_said_twice_have_a_design_effect_of_two():
    psi = np.repeat(influences(1, 500), 2, axis=1)
    clusters = Clusters.of([(f"{i // 2}",) for i in range(1000)])
    assert clusters.design_effects(psi) == pytest.approx([2], rel=0.01)


def test_constant_influence_has_no_design_effect():
    assert np.isnan(Clusters.of(DISJOINT).design_effects(np.zeros((1, 7)))).all()


@pytest.mark.parametrize("clusters", [Clusters.of([("a",)] * 5), Clusters.independent(1)])
def test_of_one_cluster_nothing_is_known(clusters):
    assert clusters.df == 0
    assert np.isnan(clusters.covariance_of_means(influences(2, clusters.n))).all()


def test_no_image_is_refused():
    with pytest.raises(ValueError, match="at least one image, got none"):
        Clusters.of([])


def test_too_many_groups_are_refused():
    with pytest.raises(ValueError, match="at most 8 groups, got 9 for image 1: a, b, c"):
        Clusters.of([("a",), tuple("abcdefghi")])
