"""False alarms, coverage and bold rows of simulated tables, where the truth is known.

`pytest -m slow -s tests/slow/test_calibration.py` prints the figures of docs/statistics.md.
"""

import numpy as np
import pytest
from scipy import sparse
from scipy.special import betaincinv

from snojoe.measures.clusters import Clusters
from snojoe.measures.comparisons import bold_rows, holm
from snojoe.measures.estimates import Estimate, estimates
from snojoe.measures.influence import influence
from snojoe.measures.ood_metrics import AUROC, OOD_METRICS
from snojoe.measures.variances import Variances

pytestmark = pytest.mark.slow

LEVEL = 0.05
GAP = 1.5  # between the mean ID and OOD score
IMAGE, NOISE = 0.3, 0.3  # sd of row x image and of row x seed x image; that of an image is 1
SPREAD = (1 + IMAGE**2 + NOISE**2) ** 0.5


def images(rng, rows, seeds, n, mean=0.0):
    """(rows, seeds, n) scores of one set, without the effects of trainings."""
    shared = rng.standard_normal(n) + IMAGE * rng.standard_normal((rows, 1, n))
    return mean + shared + NOISE * rng.standard_normal((rows, seeds, n))


def table(rng, rows, seeds, n, trainings=0.0):
    """Scores of equal rows; each training shifts its ID scores by `trainings` times a deviate."""
    shifts = trainings * rng.standard_normal((rows, seeds, 1))
    return images(rng, rows, seeds, n, GAP) + shifts, images(rng, rows, seeds, n)


def of_table(id_scores, ood_scores, *clusters):
    return estimates(dict(enumerate(id_scores)), dict(enumerate(ood_scores)), *clusters)


def auroc_of(id_scores, ood_scores, clusters):
    """`estimates` of AUROC alone: (seeds, n) and (seeds, m) scores."""
    pairs = list(zip(id_scores, ood_scores, strict=True))
    parts = zip(*(influence(AUROC, *pair) for pair in pairs), strict=True)
    values = np.array([AUROC.of(*pair) for pair in pairs])
    return Estimate(values, *map(np.stack, parts), clusters, clusters)


def upper(count, repetitions):
    """One-sided Clopper-Pearson limit of 95%, in percent."""
    return 100 * betaincinv(count + 1, repetitions - count, 0.95)


def shift_for(ratio, n):
    """Shift by trainings whose variance of the AUROC difference is `ratio` times that by images."""
    rng, clusters = np.random.default_rng(0), Clusters.independent(n)
    by_images = []
    for _ in range(200):
        arms = zip(images(rng, 2, 1, n, GAP), images(rng, 2, 1, n), strict=True)
        first, second = (auroc_of(*arm, clusters) for arm in arms)
        by_images.append((first - second).variance)
    width = SPREAD * 2**0.5
    slope = np.exp(-((GAP / width) ** 2) / 2) / (2 * np.pi) ** 0.5 / width
    return (ratio * np.mean(by_images) / 2) ** 0.5 / slope


@pytest.mark.parametrize("seeds", [2, 3, 5, 10, 20, 60])
@pytest.mark.parametrize("ratio", [0.1, 1.0, 10.0])
def test_false_alarms_of_a_family_of_two_ood_sets(seeds, ratio):
    repetitions, n = 4000, 300
    rng, clusters = np.random.default_rng(seeds), Clusters.independent(n)
    trainings = shift_for(ratio, n)
    alarms = 0
    for _ in range(repetitions):
        id_scores, first = table(rng, 2, seeds, n, trainings)
        p_values = []
        for ood_scores in (first, images(rng, 2, seeds, n)):
            arms = [auroc_of(*arm, clusters) for arm in zip(id_scores, ood_scores, strict=True)]
            p_values.append((arms[0] - arms[1]).p_value())
        alarms += (holm(p_values) < LEVEL).any()
    limit = upper(alarms, repetitions)
    print(f"\nfamily: {seeds} seeds, {ratio}: {100 * alarms / repetitions:.2f}% (<= {limit:.2f}%)")
    assert limit < 6


def model_p_values(rng, repetitions, seeds, by_training, by_images, effect=0.0, df=400):
    """p-values in the model itself: normal effects of trainings and images, known variances."""
    means = effect + rng.standard_normal(repetitions) * (by_training / seeds + by_images) ** 0.5
    of_seeds = by_training / seeds * rng.chisquare(seeds - 1, repetitions) / (seeds - 1)
    of_images = by_images * rng.chisquare(df, repetitions) / df
    total = of_seeds + of_images
    share = of_seeds / total if seeds > 2 else np.ones(repetitions)
    return Variances(total, share, seeds - 1, np.full(repetitions, df)).p_values(means)


@pytest.mark.parametrize("seeds", [2, 3, 5, 10, 20, 60])
def test_p_values_in_the_model(seeds):
    repetitions, rng = 100_000, np.random.default_rng(seeds)
    for ratio in (0.1, 1.0, 3.0, 10.0, 100.0):
        p_values = model_p_values(rng, repetitions, seeds, ratio, 1.0)
        shares = [100 * np.mean(p_values < level) for level in (0.05, 0.025, 0.05 / 28)]
        print(f"\nmodel: {seeds} seeds, {ratio}: " + ", ".join(f"{x:.3f}%" for x in shares))
        assert upper(np.sum(p_values < LEVEL), repetitions) < 6


@pytest.mark.parametrize(
    ("name", "by_training", "by_images", "effects"),
    [("auroc", 2.3, 0.84, (1, 2, 3)), ("fpr95", 5.0, 4.73, (3, 6, 10))],
)
def test_power_in_the_model(name, by_training, by_images, effects):
    """In points; by images: the standard error of equal rows with 400 images in each set."""
    for seeds in (3, 5, 10, 20, 60):
        rng, powers = np.random.default_rng(seeds), []
        for effect in effects:
            p_values = model_p_values(rng, 100_000, seeds, by_training**2, by_images**2, effect)
            powers.append(100 * np.mean(p_values < LEVEL))
        print(f"\npower, {name}, {seeds} seeds: " + ", ".join(f"{x:.0f}%" for x in powers))
        assert powers == sorted(powers)


@pytest.mark.parametrize("n", [600, 3000])
@pytest.mark.parametrize("seeds", [1, 5])
def test_rejection_and_coverage_without_clusters(seeds, n):
    repetitions = 4000 if n == 600 else 2000
    rng = np.random.default_rng(n + seeds)
    found = {metric.name: [] for metric in OOD_METRICS}
    for _ in range(repetitions):
        of_rows = of_table(*table(rng, 2, seeds, n))
        for name, rows in found.items():
            difference = of_rows[0][name] - of_rows[1][name]
            single = of_rows[0][name]
            rows.append((difference.p_value() < LEVEL, *single.interval(), single.value))
    check_rejection_and_coverage(found, f"{seeds} seeds, {n} images")


@pytest.mark.parametrize("crossed", [False, True])
def test_rejection_and_coverage_with_clusters(crossed):
    """3,000 scenes of 250 items, one or one to three in each: an item moves all of its scenes."""
    repetitions, n, items = 2000, 3000, 250
    rng = np.random.default_rng(int(crossed))
    clusters, members = [], []
    for _ in range(2):
        sizes = rng.integers(1, 4, n) if crossed else np.ones(n, int)
        scenes = [rng.choice(items, size, replace=False) for size in sizes]
        clusters.append(Clusters.of([[str(item) for item in scene] for scene in scenes]))
        ends = np.append(0, np.cumsum(sizes))
        weights = np.repeat(sizes**-0.5, sizes)
        members.append(sparse.csr_array((weights, np.concatenate(scenes), ends), (n, items)))
    found = {metric.name: [] for metric in OOD_METRICS}
    for _ in range(repetitions):
        sets = []
        for mean, member in zip((GAP, 0.0), members, strict=True):
            shared, *own = 0.6 * (member @ rng.standard_normal((items, 3))).T
            sets.append([mean + shared + row + 0.5 * rng.standard_normal(n) for row in own])
        of_rows = of_table(*sets, *clusters)
        for name, rows in found.items():
            difference = of_rows[0][name] - of_rows[1][name]
            single = of_rows[0][name]
            rows.append((difference.p_value() < LEVEL, *single.interval(), single.value))
    effective = clusters[0].effective
    check_rejection_and_coverage(found, f"crossed {crossed}, {effective:.0f} effective")


def check_rejection_and_coverage(found, cell):
    """The interval of a difference leaves out 0 where p < 5%: its coverage is the rest."""
    shares = {}
    for name, rows in found.items():
        rejected, low, high, values = np.array(rows, dtype=float).T
        truth = values.mean()  # the expectation at this number of images
        covered = np.mean((low <= truth) & (truth <= high))
        shares[name] = 100 * rejected.mean(), 100 * covered
        print(f"\n{cell}, {name}: rejected {shares[name][0]:.2f}%, covered {shares[name][1]:.2f}%")
    for rejected, covered in shares.values():
        assert 3 <= rejected <= 7
        assert 93 <= covered <= 97


@pytest.mark.parametrize(
    ("seeds", "trainings"), [(1, 0.0), (3, 0.0), (3, 0.1), (3, 0.5), (5, 0.0), (5, 0.1), (5, 0.5)]
)
def test_eight_equal_rows_are_bold(seeds, trainings):
    repetitions, n = 2000, 300
    rng = np.random.default_rng(seeds)
    lost = {metric.name: 0 for metric in OOD_METRICS}
    for _ in range(repetitions):
        of_rows = of_table(*table(rng, 8, seeds, n, trainings))
        for metric in OOD_METRICS:
            column = {row: found[metric.name] for row, found in of_rows.items()}
            lost[metric.name] += len(bold_rows(column, metric)) < len(column)
    shares = {name: f"{100 * n / repetitions:.2f}%" for name, n in lost.items()}
    print(f"\nbold lost, {seeds} seeds, shift {trainings}: {shares}")
    assert max(lost.values()) / repetitions <= LEVEL
