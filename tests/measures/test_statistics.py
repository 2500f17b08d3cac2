import numpy as np
import pytest
from scipy.stats import ttest_rel

from snojoe.measures import metrics, statistics
from snojoe.measures.ood_metrics import AUROC, FPR95
from snojoe.measures.statistics import Bootstrap, bold_rows, bootstrap_metrics, holm, paired_t_test

N, M = 60, 90


def scores(seed, levels):
    """ID and OOD scores; few levels make ties within and between both."""
    rng = np.random.default_rng(seed)
    return rng.integers(levels // 5, levels, N) / 1.0, rng.integers(
        0, levels - levels // 5, M
    ) / 1.0


def metric_values(id_scores, ood_scores):
    return [
        metrics.fpr_at_tpr(id_scores, ood_scores),
        metrics.auroc(id_scores, ood_scores),
        metrics.aupr(id_scores, ood_scores),
    ]


def naive_replicates(id_scores, ood_scores, n_resamples, seed):
    """The scores of the images drawn, written out and measured one resample after the other."""
    return np.array(
        [
            metric_values(np.repeat(id_scores, i), np.repeat(ood_scores, o))
            for _, id_counts, ood_counts in statistics._resamples(N, M, n_resamples, seed)
            for i, o in zip(id_counts, ood_counts, strict=True)
        ]
    )


def replicates(row):
    return np.stack([row[metric].replicates for metric in ("fpr95", "auroc", "aupr")], axis=1)


@pytest.mark.parametrize("levels", [6, 10**9])
def test_each_image_once_gives_the_metric_itself(levels):
    id_scores, ood_scores = scores(0, levels)
    ones = np.ones((1, N), np.int32), np.ones((1, M), np.int32)
    values = statistics._Ranking(id_scores, ood_scores).metrics(*ones)
    assert values[0] == pytest.approx(metric_values(id_scores, ood_scores), abs=1e-15)


@pytest.mark.parametrize("levels", [6, 10**9])
def test_bootstrap_agrees_with_a_loop_over_the_same_resamples(levels):
    id_scores, ood_scores = scores(1, levels)
    row = bootstrap_metrics({"a": id_scores}, {"a": ood_scores}, n_resamples=75, seed=3)["a"]
    assert replicates(row) == pytest.approx(naive_replicates(id_scores, ood_scores, 75, 3))


def test_estimates_are_the_metrics_of_all_images():
    id_scores, ood_scores = scores(1, 6)
    row = bootstrap_metrics({"a": id_scores}, {"a": ood_scores}, n_resamples=2)["a"]
    estimates = [row[metric].estimate for metric in ("fpr95", "auroc", "aupr")]
    assert estimates == metric_values(id_scores, ood_scores)


def test_seeds_share_the_resample_and_are_averaged():
    seeds = [scores(seed, 50) for seed in (1, 2)]
    id_scores, ood_scores = (np.stack(arrays) for arrays in zip(*seeds, strict=True))
    row = bootstrap_metrics({"a": id_scores}, {"a": ood_scores}, n_resamples=20)["a"]
    expected = np.mean([naive_replicates(*seed, 20, 0) for seed in seeds], axis=0)
    assert replicates(row) == pytest.approx(expected)
    assert row["auroc"].estimate == pytest.approx(np.mean([metrics.auroc(*s) for s in seeds]))


def test_rows_share_the_resample():
    id_scores, ood_scores = scores(1, 6)
    rows = bootstrap_metrics(
        {"a": id_scores, "b": 2 * id_scores}, {"a": ood_scores, "b": 2 * ood_scores}, n_resamples=20
    )
    assert not (rows["a"]["auroc"] - rows["b"]["auroc"]).replicates.any()


def test_more_resamples_begin_with_the_same_ones():
    id_scores, ood_scores = ({"a": array} for array in scores(1, 6))
    few = bootstrap_metrics(id_scores, ood_scores, n_resamples=40)["a"]
    many = bootstrap_metrics(id_scores, ood_scores, n_resamples=70)["a"]
    assert np.array_equal(replicates(many)[:40], replicates(few))


def test_id_images_are_resampled_alike_for_every_ood_set():
    (_, one, _), (_, other, _) = (next(statistics._resamples(N, m, 5, 0)) for m in (7, 8))
    assert np.array_equal(one, other)


def test_resample_counts_draw_n_images_uniformly():
    counts = statistics.resample_counts(40, 3000, np.random.default_rng(0))
    assert (counts.sum(axis=1) == 40).all()
    assert counts.mean(axis=0) == pytest.approx(1, abs=0.1)
    assert counts.var() == pytest.approx(1 - 1 / 40, rel=0.02)


def test_interval_takes_percentiles():
    assert Bootstrap(0.5, np.arange(1001) / 1000).interval() == pytest.approx((0.025, 0.975))


@pytest.mark.parametrize(
    ("replicates", "p_value"),
    [
        (np.ones(99), 0.02),
        (-np.ones(99), 0.02),
        (np.r_[np.ones(97), -np.ones(2)], 0.06),
        (np.zeros(99), 1),
    ],
)
def test_p_value_counts_the_replicates_on_the_rarer_side(replicates, p_value):
    assert Bootstrap(0.0, replicates).p_value() == pytest.approx(p_value)


def test_relative_reduction():
    method, baseline = Bootstrap(0.1, np.array([0.1, 0.3])), Bootstrap(0.2, np.array([0.4, 0.2]))
    reduction = method.relative_reduction(baseline)
    assert reduction.estimate == pytest.approx(0.5)
    assert reduction.replicates == pytest.approx([0.75, -0.5])


def test_relative_reduction_from_zero_is_undefined_and_left_out_of_the_interval():
    method, baseline = Bootstrap(0.1, np.array([0.1, 0.1])), Bootstrap(0.0, np.array([0.0, 0.2]))
    reduction = method.relative_reduction(baseline)
    assert np.isnan(reduction.estimate)
    assert reduction.interval() == pytest.approx((0.5, 0.5))


def test_interval_of_nothing_defined():
    assert np.isnan(Bootstrap(np.nan, np.full(3, np.nan)).interval()).all()


def test_holm_textbook_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_without_a_test_counts_the_others_only():
    assert holm([0.02, np.nan, 0.03]) == pytest.approx([0.04, np.nan, 0.04], nan_ok=True)


def test_holm_never_exceeds_one():
    assert holm([0.6, 0.9]).tolist() == [1, 1]


def column(**means):
    noise = np.random.default_rng(0).normal(scale=0.01, size=2000)
    return {row: Bootstrap(mean, mean + noise * (1 + mean)) for row, mean in means.items()}


@pytest.mark.parametrize(("metric", "expected"), [(AUROC, {"best", "twin"}), (FPR95, {"worst"})])
def test_bold_is_the_best_and_what_is_not_separated(metric, expected):
    rows = column(worst=0.5, best=0.9, twin=0.9)
    assert bold_rows(rows, metric) == expected


def test_bold_uses_the_paired_difference_not_the_intervals():
    noise = np.random.default_rng(0).normal(scale=0.1, size=2000)
    shifted = {row: Bootstrap(mean, mean + noise) for row, mean in [("a", 0.50), ("b", 0.51)]}
    assert bold_rows(shifted, AUROC) == {"b"}


def test_bold_corrects_for_the_number_of_rows():
    # p = 0.03 alone separates; beside nineteen rows equal to the best it does not.
    doubtful = Bootstrap(0.0, np.r_[np.zeros(1970) - 1, np.ones(30)] * 0.1)
    best = Bootstrap(0.1, np.zeros(2000))
    pair = {"best": best, "doubtful": doubtful}
    assert bold_rows(pair, AUROC) == {"best"}
    twins = {f"twin{i}": Bootstrap(0.0, np.zeros(2000)) for i in range(19)}
    assert "doubtful" in bold_rows(pair | twins, AUROC)


def test_a_single_row_is_bold():
    assert bold_rows(column(only=0.3), AUROC) == {"only"}


def test_t_test_is_scipys_paired_one():
    first, second = np.random.default_rng(0).normal(size=(2, 6))
    result = paired_t_test(first, second)
    assert result.p_value == pytest.approx(ttest_rel(first, second).pvalue)
    difference = first - second
    assert result.effect_size == pytest.approx(difference.mean() / difference.std(ddof=1))
    assert (result.n, result.mean_difference) == (6, pytest.approx(difference.mean()))


@pytest.mark.parametrize(
    ("first", "second"),
    [([0.3], [0.2]), ([0.3, 0.4], [0.3, 0.4]), ([0.3, 0.4, 0.7], [0.2, 0.3, 0.6])],
)
def test_t_test_without_variance_is_undefined(first, second):
    result = paired_t_test(first, second)
    assert np.isnan([result.p_value, result.effect_size]).all()
    assert result.mean_difference == pytest.approx(first[0] - second[0])
    assert result.note == f"n = {len(first)}: no variance to test against"


def test_t_test_of_few_seeds_carries_a_note():
    result = paired_t_test([1.0, 1.01, 1.02, 1.0], [0.0, 0.0, 0.0, 0.01])
    assert result.p_value < 0.001
    assert result.note == "n = 4 < 5: weak evidence"


def test_t_test_of_five_seeds_carries_none():
    result = paired_t_test([1.0, 1.01, 1.02, 1.0, 1.0], [0.0, 0.0, 0.0, 0.01, 0.0])
    assert result.note == ""


def test_t_test_of_unequal_lengths():
    with pytest.raises(ValueError, match="first and second must be pairs, got 2 and 3"):
        paired_t_test([1, 2], [1, 2, 3])


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
        bootstrap_metrics(id_scores, ood_scores)


def test_no_resample_is_refused():
    with pytest.raises(ValueError, match="n_resamples must be at least 1, got 0"):
        bootstrap_metrics(GOOD, GOOD, n_resamples=0)
