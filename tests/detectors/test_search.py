import numpy as np
import pytest

from snojoe.detectors._search import Search


def values(points):
    return lambda queries, columns: queries @ points[columns].T


def expected(queries, points, k):
    return np.sort(queries @ points.T, axis=1)[:, -k:]


@pytest.mark.parametrize("k", [1, 7, 300])
def test_the_largest_are_those_of_float64(k):
    rng = np.random.default_rng(0)
    points, queries = rng.normal(size=(300, 50)), rng.normal(size=(40, 50))
    found = Search(points, np.zeros(300)).largest(queries, k, queries, values(points))
    assert found == pytest.approx(expected(queries, points, k), rel=1e-12)


def test_what_float32_cannot_tell_apart_is_told_apart():
    rng = np.random.default_rng(1)
    queries = rng.normal(size=(20, 64))
    near = queries + 1e-9 * rng.normal(size=(30, *queries.shape))  # thirty for each query
    points = np.concatenate([*near, rng.normal(size=(5000, 64)) / 10])
    search = Search(points, np.zeros(len(points)))
    # In float32 alone another of the thirty would be the fifth.
    in_float32 = np.sort(queries.astype("f4") @ points.astype("f4").T, axis=1)[:, -5]
    exact = expected(queries, points, 5)
    assert np.abs(in_float32 - exact[:, 0]).max() > 1e-7
    assert search.largest(queries, 5, queries, values(points)) == pytest.approx(exact, rel=1e-13)


def test_points_that_are_all_alike_are_one_product():
    points = np.ones((1000, 8))
    queries = np.random.default_rng(2).normal(size=(5, 8))
    asked = []

    def exact(queries, columns):
        asked.append(columns)
        return queries @ points[columns].T

    found = Search(points, np.zeros(1000)).largest(queries, 3, queries, exact)
    assert asked == [slice(None)]
    assert found == pytest.approx(expected(queries, points, 3))


def test_few_points_are_computed_exactly():
    rng = np.random.default_rng(3)
    points, queries = rng.normal(size=(2000, 100)), rng.normal(size=(10, 100))
    counts = []

    def exact(queries, columns):
        counts.append(len(points[columns]))
        return queries @ points[columns].T

    Search(points, np.zeros(2000)).largest(queries, 5, queries, exact)
    assert len(counts) == len(queries)
    assert max(counts) < 50


def test_a_bias_orders_by_distance():
    rng = np.random.default_rng(4)
    points, queries = 10 + rng.normal(size=(500, 20)), 10 + rng.normal(size=(30, 20))
    centre, squares = points.mean(axis=0), np.square(points - points.mean(axis=0)).sum(axis=1)

    def exact(queries, columns):
        return -np.square(queries[:, None] - points[columns]).sum(axis=2)

    found = Search(points - centre, squares / 2).largest(queries - centre, 4, queries, exact)
    distances = np.linalg.norm(queries[:, None] - points, axis=2)
    assert np.sqrt(-found[:, 0]) == pytest.approx(np.sort(distances, axis=1)[:, 3])
