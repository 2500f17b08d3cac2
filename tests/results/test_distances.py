import numpy as np
import pandas as pd
import pytest

from snojoe.results.distances import (
    distance_ratios,
    pair_distances,
    random_pairs,
    set_distances,
    spaced_rows,
)


def test_pairs_are_distinct():
    pairs = random_pairs(7, 2000)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert set(pairs.ravel()) == set(range(7))
    np.testing.assert_array_equal(pairs, random_pairs(7, 2000))
    with pytest.raises(ValueError, match="at least two images; got 1"):
        random_pairs(1, 5)


def test_rows_are_evenly_spaced():
    assert spaced_rows(101, 3).tolist() == [0, 50, 100]
    assert spaced_rows(2, 10).tolist() == [0, 1]


def test_pairs_of_sets_hold_one_id_and_one_ood_image():
    rng = np.random.default_rng(0)
    pixels = {
        "id": rng.integers(0, 100, (5, 2, 2, 3), np.uint8),
        "far": rng.integers(200, 255, (4, 2, 2, 3), np.uint8),
    }
    features = {name: images.reshape(len(images), -1) * 2.0 for name, images in pixels.items()}
    frame = set_distances(pixels, features, pairs=50).assign(model="sn", seed=0)
    assert frame["pair"].value_counts().to_dict() == {"id": 50, "far": 50}
    by_pair = frame.groupby("pair")["input"]
    assert by_pair.min()["far"] > by_pair.max()["id"]
    assert distance_ratios(frame)["spread"].tolist() == pytest.approx([1, 1])


def test_distances_are_euclidean_over_all_axes():
    values = np.zeros((2, 2, 2), np.float32)
    values[1] = [[1, 1], [1, 1]]
    assert pair_distances(values, np.array([[0, 1], [1, 0]])).tolist() == [2, 2]


def test_a_scaled_isometry_has_equal_bounds():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(20, 5))
    rotation, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    pairs = random_pairs(20, 100)
    frame = pd.DataFrame(
        {
            **{"model": "sn", "seed": 0, "pair": "id"},
            "input": pair_distances(inputs, pairs),
            "feature": pair_distances(3 * inputs @ rotation, pairs),
        }
    )
    (row,) = distance_ratios(frame).to_dict("records")
    assert row["lower"] == pytest.approx(3)
    assert row["upper"] == pytest.approx(3)
    assert row["spread"] == pytest.approx(1)
    assert row["spearman"] == pytest.approx(1)
