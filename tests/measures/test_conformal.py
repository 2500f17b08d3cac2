import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from snojoe.measures.conformal import (
    accepted_interval,
    benjamini_hochberg,
    conformal_rank,
    least_images,
    p_values,
    share_interval,
)


@pytest.mark.parametrize(
    ("n", "accepted", "surely"), [(600, 571, 580), (150, 144, 148), (60, 58, 60)]
)
def test_how_many_of_the_calibration_images_reach_the_threshold(n, accepted, surely):
    """With the threshold at the k-th smallest, n + 1 - k of them do."""
    assert n + 1 - conformal_rank(n) == accepted
    assert n + 1 - conformal_rank(n, confidence=0.95) == surely


@pytest.mark.parametrize("confidence", [None, 0.9, 0.95])
@pytest.mark.parametrize("accept", [0.5, 0.9, 0.95, 0.99])
def test_the_least_number_of_images_is_the_first_that_promises_anything(accept, confidence):
    n = least_images(accept, confidence)
    assert conformal_rank(n, accept, confidence) == 1
    assert conformal_rank(n - 1, accept, confidence) == 0


def test_nothing_promises_that_all_are_accepted():
    assert conformal_rank(10**6, 1.0) == 0
    with pytest.raises(ValueError, match="all are accepted"):
        least_images(1.0)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=40), st.floats(0.5, 0.99))
def test_the_threshold_rejects_what_has_a_small_p_value(calibration, accept):
    rank = conformal_rank(len(calibration), accept)
    scores = np.linspace(-6, 6, 50)
    threshold = np.sort(calibration)[rank - 1] if rank else -np.inf
    rejected = p_values(calibration, scores) <= (1 - accept) + 1e-12
    assert ((scores < threshold) == rejected).all()


def test_new_images_are_accepted_as_promised():
    """Over calibration sets: 95% on average; at least 95% in 95% of the sets."""
    rng = np.random.default_rng(0)
    n, sets = 120, 20_000
    ordered = np.sort(rng.random((sets, n)), axis=1)  # of uniform scores the share above t is 1 - t
    average = 1 - ordered[:, conformal_rank(n) - 1]
    assert average.mean() == pytest.approx(115 / 121, abs=1e-3)
    rank = conformal_rank(n, confidence=0.95)
    for k, surely in ((rank, True), (rank + 1, False)):  # one rank more would promise too much
        kept = (1 - ordered[:, k - 1] >= 0.95).mean()
        # The k-th smallest is at most 0.05 where at least k of the n are.
        assert kept == pytest.approx(binom.sf(k - 1, n, 0.05), abs=0.006)
        assert (kept >= 0.95) == surely
    low, high = accepted_interval(n, conformal_rank(n))
    assert ((low <= average) & (average <= high)).mean() == pytest.approx(0.95, abs=0.005)


def test_false_alarms_among_what_is_flagged_stay_within_the_rate():
    rng = np.random.default_rng(1)
    false, caught = [], []
    for _ in range(2000):
        calibration, inside = rng.normal(size=200), rng.normal(size=80)
        outside = rng.normal(-3, 1, 20)
        flagged = benjamini_hochberg(p_values(calibration, np.r_[inside, outside]), 0.2)
        false.append(flagged[:80].sum() / max(1, flagged.sum()))
        caught.append(flagged[80:].mean())
    assert np.mean(false) <= 0.2 * 80 / 100 + 3 * np.std(false) / np.sqrt(2000)
    assert np.mean(caught) > 0.5


def test_benjamini_and_hochberg_step_up():
    p = [0.04, 0.6, 0.03, 0.02, 0.9]
    assert benjamini_hochberg(p, 0.1).tolist() == [True, False, True, True, False]
    assert not benjamini_hochberg(p, 0.05).any()
    assert benjamini_hochberg([], 0.1).tolist() == []


@pytest.mark.parametrize(("count", "n"), [(0, 12), (12, 12), (3, 40), (950, 1000)])
def test_the_interval_of_a_share_is_that_of_clopper_and_pearson(count, n):
    expected = binomtest(count, n).proportion_ci(0.95, method="exact")
    assert share_interval(count, n) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(
    "call",
    [
        lambda: conformal_rank(9, 0.0),
        lambda: conformal_rank(9, 1.1),
        lambda: conformal_rank(9, confidence=1.0),
        lambda: benjamini_hochberg([0.1], 0.0),
    ],
)
def test_shares_out_of_range_are_refused(call):
    with pytest.raises(ValueError, match="must be in"):
        call()
