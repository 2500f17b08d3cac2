import numpy as np
import pytest

from snojoe.measures.clusters import Clusters
from snojoe.measures.estimates import estimates
from snojoe.measures.ranks import mean_ranks

SEEDS, N, M = 4, 300, 200


def sets(shifts, rng, seeds=SEEDS, noise=0.0):
    """Two OOD sets; row i is better by `shifts[i]`, the images' difficulty is common to all."""
    common = rng.normal(size=N)
    own = {i: rng.normal(size=(seeds, 1)) * noise for i in range(len(shifts))}
    ids = {
        i: common + shift + own[i] + rng.normal(size=(seeds, N)) for i, shift in enumerate(shifts)
    }
    found = []
    for _ in range(2):
        out = rng.normal(size=M)
        oods = {i: out + rng.normal(size=(seeds, M)) for i in range(len(shifts))}
        found.append({i: each["auroc"] for i, each in estimates(ids, oods).items()})
    return found


def test_rows_that_are_far_apart_have_their_places_for_sure():
    found = mean_ranks(sets([0.0, 2.0, 1.0], np.random.default_rng(0)))
    assert [found[i].rank for i in range(3)] == [3, 1, 2]
    assert [found[i][1:] for i in range(3)] == [(3, 3), (1, 1), (2, 2)]


def test_equal_rows_may_take_either_place():
    found = mean_ranks(sets([0.0, 0.0, 3.0], np.random.default_rng(1)))
    for i in (0, 1):
        assert found[i].low == 2
        assert found[i].high == 3
    assert found[2] == (1, 1, 1)


def test_ties_share_a_rank():
    found = sets([1.0, 0.0], np.random.default_rng(2))
    found = [{**each, 2: each[0]} for each in found]
    ranks = mean_ranks(found)
    assert ranks[0] == ranks[2] == (1.5, 1.5, 1.5)
    assert ranks[1].rank == 3


def test_intervals_hold_the_mean_rank_of_new_trainings_and_images():
    rng, shifts = np.random.default_rng(3), [0.0, 0.1, 0.2]
    covered = []
    for _ in range(60):
        first, second = (mean_ranks(sets(shifts, rng, 6, 0.1), draws=300) for _ in range(2))
        for i in range(3):
            covered.append(first[i].low <= second[i].rank <= first[i].high)
    # An interval of one value's own noise holds another value, with as much noise, less often.
    assert 0.8 < np.mean(covered) <= 1


def test_where_nothing_is_known_of_images_there_is_no_interval():
    scores = np.random.default_rng(0).normal(size=(2, 2, 10))
    one = Clusters.of([["a"]] * 10)
    ids, oods = dict(enumerate(scores)), dict(enumerate(scores - 1))
    found = {i: each["auroc"] for i, each in estimates(ids, oods, one, one).items()}
    assert all(np.isnan(each.low) for each in mean_ranks([found]).values())


def test_the_draws_are_the_same_each_time():
    found = sets([0.0, 0.05, 0.1], np.random.default_rng(4))
    assert mean_ranks(found) == mean_ranks(found)
    assert mean_ranks(found, draws=200)[0].rank == pytest.approx(mean_ranks(found)[0].rank)
