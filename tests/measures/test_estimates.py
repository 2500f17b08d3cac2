import numpy as np
import pytest
from scipy.stats import t as student
from scipy.stats import ttest_rel

from snojoe.measures.clusters import Clusters
from snojoe.measures.estimates import Estimate, estimates
from snojoe.measures.ood_metrics import OOD_METRICS

N, M = 60, 90


def scores(seeds, rng_seed=0):
    rng = np.random.default_rng(rng_seed)
    return rng.normal(1, 1, (seeds, N)), rng.normal(0, 1, (seeds, M))


def rows(seeds, **clusters):
    (a_id, a_ood), (b_id, b_ood) = scores(seeds), scores(seeds, 1)
    id_scores, ood_scores = {"a": a_id, "b": (a_id + b_id) / 2}, {"a": a_ood, "b": b_ood}
    return estimates(id_scores, ood_scores, **clusters)


def without_images(per_seed, kind="fraction"):
    """An estimate that no image moves."""
    seeds, clusters = len(per_seed), Clusters.independent(10)
    nothing = np.zeros((seeds, 10))
    return Estimate(np.array(per_seed), nothing, nothing, clusters, clusters, kind)


def test_values_are_the_metrics():
    (id_scores, ood_scores), found = scores(2), rows(2)["a"]
    for metric in OOD_METRICS:
        of_seeds = [metric.of(*pair) for pair in zip(id_scores, ood_scores, strict=True)]
        assert found[metric.name].per_seed.tolist() == of_seeds
        assert found[metric.name].value == pytest.approx(np.mean(of_seeds))


def test_where_no_image_matters_it_is_the_paired_t_test():
    first, second = np.random.default_rng(0).uniform(size=(2, 6))
    difference = without_images(first) - without_images(second)
    expected = ttest_rel(first, second)
    assert difference.p_value() == pytest.approx(expected.pvalue)
    assert difference.interval() == pytest.approx(tuple(expected.confidence_interval()))


def test_one_seed_has_delongs_variance():
    (a_id, a_ood), (b_id, b_ood) = ((i[0], o[0]) for i, o in (scores(1), scores(1, 1)))
    b_id = (a_id + b_id) / 2
    above = (a_id[:, None] > a_ood).astype(float) - (b_id[:, None] > b_ood)
    variance = above.mean(axis=1).var(ddof=1) / N + above.mean(axis=0).var(ddof=1) / M
    found = rows(1)
    assert (found["a"]["auroc"] - found["b"]["auroc"]).variance == pytest.approx(variance)


def test_several_seeds_have_the_variance_of_obuchowski_and_rockette():
    found = rows(3)
    difference = found["a"]["auroc"] - found["b"]["auroc"]
    parts = difference.id_influence, difference.ood_influence
    covariance = np.cov(parts[0]) / N + np.cov(parts[1]) / M
    between = covariance[~np.eye(3, dtype=bool)].mean()
    expected = difference.per_seed.var(ddof=1) / 3 + max(between, 0)
    assert difference.variance == pytest.approx(expected)


def test_p_value_weighs_seeds_and_images_by_their_variances():
    difference = rows(3)["a"]["auroc"] - rows(3)["b"]["auroc"]
    variance, of_seeds = difference.variance, difference.per_seed.var(ddof=1) / 3
    share, t = of_seeds / variance, abs(difference.value) / variance**0.5
    df = difference._variances.df_of_images[0]
    assert min(N, M) - 1 <= df <= N + M
    expected = 2 * (share * student.sf(t, 2) + (1 - share) * student.sf(t, df))
    assert difference.p_value() == pytest.approx(expected)


@pytest.mark.parametrize("seeds", [1, 2, 3])
@pytest.mark.parametrize("metric", ["fpr95", "auroc", "aupr"])
def test_interval_ends_where_p_is_the_level(seeds, metric):
    found = rows(seeds)
    difference = found["a"][metric] - found["b"][metric]
    p = difference.p_value()
    ends = difference.interval(1 - p)
    assert min(abs(end) for end in ends) == pytest.approx(0, abs=1e-9)


def test_margin_is_the_larger_end_of_the_interval_of_90_percent():
    difference = rows(1)["a"]["auroc"] - rows(1)["b"]["auroc"]
    assert difference.margin() == max(abs(end) for end in difference.interval(0.9))


def test_relative_reduction_is_of_the_means():
    found = rows(3)
    reduction = found["a"]["fpr95"].relative_reduction(found["b"]["fpr95"])
    assert reduction.value == pytest.approx(
        1 - found["a"]["fpr95"].value / found["b"]["fpr95"].value
    )
    low, high = reduction.interval()
    assert low < reduction.value < high < 1


def test_relative_reduction_is_first_order_in_both():
    a, b = without_images([0.2, 0.3, 0.25]), without_images([0.4, 0.5, 0.6])
    logs = a.per_seed / 0.25 - b.per_seed / 0.5
    assert a.relative_reduction(b).variance == pytest.approx(logs.var(ddof=1) / 3)


def test_reduction_from_zero_is_undefined_and_to_zero_is_all_of_it():
    zero, half = without_images([0.0, 0.0]), without_images([0.5, 0.4])
    assert np.isnan(half.relative_reduction(zero).value)
    assert zero.relative_reduction(half).value == 1
    for reduction in (half.relative_reduction(zero), zero.relative_reduction(half)):
        assert np.isnan(reduction.interval()).all()


@pytest.mark.parametrize(("value", "end"), [(0.0, 0), (1.0, 1)])
def test_interval_of_a_perfect_metric_is_wilsons_of_the_effective_number(value, end):
    interval = without_images([value]).interval()
    reach = student.ppf(0.975, 9) ** 2 / 10
    assert interval[end] == value
    assert abs(interval[1 - end] - value) == pytest.approx(reach / (1 + reach))


def test_identical_rows_have_no_p_value_and_an_interval_of_nothing():
    a = rows(3)["a"]["auroc"]
    difference = a - a
    assert np.isnan(difference.p_value())
    assert difference.interval() == (0, 0)
    assert difference.margin() == 0


def test_a_difference_without_variance_has_no_interval():
    difference = without_images([0.5]) - without_images([0.3])
    assert np.isnan([difference.p_value(), *difference.interval()]).all()


def test_one_cluster_gives_no_interval():
    found = rows(3, id_clusters=Clusters.of([("all",)] * N))
    difference = found["a"]["auroc"] - found["b"]["auroc"]
    assert np.isnan([difference.variance, difference.p_value(), *difference.interval()]).all()


def test_clusters_never_make_surer_than_independent_images():
    alternating = np.tile([1.0, -1.0], N // 2)[None] / 10
    pairs = Clusters.of([(f"{i // 2}",) for i in range(N)])
    ood = Clusters.independent(M)
    estimate = Estimate(np.array([0.5]), alternating, np.zeros((1, M)), pairs, ood)
    assert estimate.variance == pytest.approx(alternating.var(ddof=1) / N)


def test_images_said_twice_count_once():
    id_scores, ood_scores = scores(1)
    once = estimates({"a": id_scores}, {"a": ood_scores})["a"]["auroc"]
    twice = estimates(
        {"a": np.repeat(id_scores, 2, axis=1)},
        {"a": np.repeat(ood_scores, 2, axis=1)},
        Clusters.of([(f"{i // 2}",) for i in range(2 * N)]),
        Clusters.of([(f"{i // 2}",) for i in range(2 * M)]),
    )["a"]["auroc"]
    assert twice.interval() == pytest.approx(once.interval())
    assert twice.effective_images == pytest.approx((N, M), rel=0.02)


def test_what_is_of_a_difference_only():
    metric = rows(1)["a"]["auroc"]
    with pytest.raises(ValueError, match="a p-value is of a difference"):
        metric.p_value()
    with pytest.raises(ValueError, match="a margin is of a difference, not of a fraction"):
        metric.margin()
    with pytest.raises(ValueError, match="both must be a fraction, got a difference and a fract"):
        (metric - metric) - metric


def test_what_is_not_paired_is_refused():
    with pytest.raises(ValueError, match="of the same seeds, ID images and OOD images, got"):
        rows(2)["a"]["auroc"] - rows(3)["a"]["auroc"]


GOOD = {"a": np.arange(4.0)}


@pytest.mark.parametrize(
    ("id_scores", "ood_scores", "message"),
    [
        (GOOD, {"b": np.arange(4.0)}, r"same rows, got \['a'\] and \['b'\]"),
        ({}, {}, "same rows"),
        (GOOD | {"b": np.arange(5.0)}, GOOD | {"b": np.arange(4.0)}, "id_scores must be of the sa"),
        (GOOD, {"a": np.ones((2, 4))}, "'a' has 1 seeds in id_scores, 2 in ood_scores"),
        (GOOD, {"a": [0.0, np.nan]}, r"ood_scores\['a'\] must be finite"),
    ],
)
def test_scores_that_are_not_paired_are_refused(id_scores, ood_scores, message):
    with pytest.raises(ValueError, match=message):
        estimates(id_scores, ood_scores)


def test_clusters_of_other_images_are_refused():
    with pytest.raises(ValueError, match="ood_clusters must be of 4 images, got clusters of 5"):
        estimates(GOOD, GOOD, ood_clusters=Clusters.independent(5))
