"""What is called drift, against simulated images that have not drifted, and that have."""

import numpy as np
import pytest
from scipy.stats import kstest

from snojoe.measures.comparisons import holm
from snojoe.measures.conformal import accepted_interval, p_values
from snojoe.measures.drift import (
    flagged_interval,
    flagged_test,
    histogram_interval,
    label_test,
    uniformity_test,
)

N, M, K = 99, 200, 5
DRAWS = 2_000
LEVEL = 0.05
ERROR = 4 * np.sqrt(LEVEL * (1 - LEVEL) / DRAWS)  # of a share of the draws


def ranks(calibration, scores):
    return np.rint(p_values(calibration, scores) * (len(calibration) + 1)).astype(int) - 1


@pytest.fixture(scope="module")
def draws():
    """Ranks of M new images among N, for each of `DRAWS` draws of both."""
    rng = np.random.default_rng(0)
    return [ranks(rng.normal(size=N), rng.normal(size=M)) for _ in range(DRAWS)]


def test_the_share_that_is_flagged_lies_in_its_interval_as_often_as_is_said(draws):
    flagged = np.array([(each < K).sum() for each in draws])
    low, high = flagged_interval(M, N, K)
    outside = np.mean((flagged < low) | (flagged > high))
    exact = 1 - (np.array([flagged_test(x, M, N, K) for x in range(M + 1)]) > LEVEL)
    assert outside <= LEVEL + ERROR
    assert abs(np.mean(exact[flagged]) - outside) < 0.03
    assert np.mean(exact[flagged]) <= LEVEL + ERROR
    # It is neither too wide: of one image less on both sides it would hold too few.
    assert np.mean((flagged <= low) | (flagged >= high)) > LEVEL - ERROR


def test_a_binomial_interval_would_call_the_draw_of_the_calibration_images_drift(draws):
    flagged = np.array([(each < K).sum() for each in draws])
    share = K / (N + 1)
    spread = np.sqrt(M * share * (1 - share))
    assert np.mean(abs(flagged - M * share) > 1.96 * spread) > 3 * LEVEL


def test_of_many_images_the_interval_is_the_guarantee_s():
    low, high = flagged_interval(10**6, N, K)
    accepted = accepted_interval(N, K)
    assert (1 - high / 10**6, 1 - low / 10**6) == pytest.approx(accepted, abs=1e-4)


def test_uniformity_has_the_false_alarm_rate_that_is_said(draws):
    alarms = np.mean([uniformity_test(each, N)[1] <= LEVEL for each in draws])
    assert LEVEL - 2 * ERROR < alarms <= LEVEL + ERROR


def test_a_test_against_the_uniform_distribution_alone_has_another(draws):
    alarms = np.mean([kstest((each + 1) / (N + 1), "uniform").pvalue <= LEVEL for each in draws])
    assert alarms > 4 * LEVEL


def test_it_is_the_test_of_two_samples_of_scores():
    rng = np.random.default_rng(1)
    calibration, scores = rng.normal(size=N), rng.normal(0.3, 1, size=M)
    from scipy.stats import ks_2samp

    expected = ks_2samp(scores, calibration, method="exact")
    distance, p = uniformity_test(ranks(calibration, scores), N)
    assert (distance, p) == pytest.approx((expected.statistic, expected.pvalue))


def test_by_permutation_it_is_the_same():
    rng = np.random.default_rng(2)
    n, m = 20, 15
    seen = ranks(rng.normal(size=n), rng.normal(0.6, 1, size=m))
    distance, p = uniformity_test(seen, n)
    others = [rng.permutation(n + m) for _ in range(4_000)]
    as_far = [uniformity_test(ranks(o[:n], o[n:]), n)[0] >= distance - 1e-12 for o in others]
    assert np.mean(as_far) == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / 4_000))


def test_days_that_share_calibration_images_are_called_drift_as_rarely_as_is_said():
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(600):
        calibration = rng.normal(size=N)
        p = []
        for images in (30, 100, 200, 5):
            day = ranks(calibration, rng.normal(size=images))
            p += [flagged_test((day < K).sum(), images, N, K), uniformity_test(day, N)[1]]
        alarms += holm(p).min() <= LEVEL
    assert alarms / 600 <= LEVEL + 3 * np.sqrt(LEVEL * (1 - LEVEL) / 600)


def test_drift_is_found():
    rng = np.random.default_rng(4)
    calibration = rng.normal(size=600)
    lower = ranks(calibration, rng.normal(-0.5, 1, size=300))
    narrower = ranks(calibration, rng.normal(0, 0.5, size=300))
    assert flagged_test((lower < 30).sum(), 300, 600, 30) < 1e-3
    assert flagged_test((narrower < 30).sum(), 300, 600, 30) < 1e-2
    assert uniformity_test(lower, 600)[1] < 1e-6
    assert uniformity_test(narrower, 600)[1] < 1e-3


def test_of_more_images_than_are_counted_exactly_the_limit_is_near():
    rng = np.random.default_rng(5)
    seen = ranks(rng.normal(size=500), rng.normal(size=12_000))
    assert uniformity_test(seen[:10_000], 500)[1] == pytest.approx(
        uniformity_test(np.append(seen[:10_000], seen[:1]), 500)[1], abs=0.02
    )


def test_bins_of_the_histogram_hold_what_is_said(draws):
    bounds = histogram_interval(M, N, 10)
    counts = np.array([np.histogram((each + 1) / (N + 1), 10, (0, 1))[0] for each in draws])
    outside = ((counts < bounds[:, 0]) | (counts > bounds[:, 1])).mean(axis=0)
    assert outside.max() <= LEVEL + ERROR
    assert outside.min() > LEVEL / 3


def test_labels_have_at_most_the_false_alarm_rate_that_is_said():
    rng = np.random.default_rng(6)
    pairs = rng.binomial([200, 150], 0.1, size=(1_000, 2))
    alarms = np.mean([label_test(a, 200, b, 150) <= LEVEL for a, b in pairs.tolist()])
    assert 0.01 < alarms <= LEVEL + 4 * np.sqrt(LEVEL * (1 - LEVEL) / 1_000)
    assert label_test(40, 200, 5, 150) < 1e-4
